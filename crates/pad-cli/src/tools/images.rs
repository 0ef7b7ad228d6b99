//! Images for pictures.

use candle_core::Tensor;
use pad::{
    data::{
        Dataset, Transform,
        image::{DecodeOptions, Image},
        scenes::{SceneConfig, SceneSet, Size},
        transform::ImagePipeline,
    },
    rng::Key,
};

use crate::run::Result;

/// Rendered scenes, large enough for crops of 224 pixels and small enough to render hundreds in
/// seconds.
pub fn scenes(count: usize, seed: u64) -> Result<SceneSet> {
    tracing::info!("rendering {count} scenes");
    Ok(SceneSet::render(&SceneConfig::new(Size::new(256, 320), seed), count)?)
}

/// `count` images spread over a set, as `pipeline` gives them, in one tensor; those that cannot be
/// read are reported and left out.
pub fn spread(
    dataset: &(impl Dataset<Sample = Image> + ?Sized),
    pipeline: &ImagePipeline,
    count: usize,
) -> Result<Tensor> {
    let count = count.clamp(1, dataset.len().max(1));
    let mut images = Vec::with_capacity(count);
    for i in 0..count {
        let index = i * dataset.len() / count;
        let image = dataset
            .get(index, &DecodeOptions::default())
            .and_then(|image| pipeline.apply(image, Key::new(0).sample(index as u64)));
        match image {
            Ok((image, ())) => images.push(image),
            Err(error) => tracing::warn!("left out of the picture: {error}"),
        }
    }
    if images.is_empty() {
        return Err("not one of the images for the picture could be read".into());
    }
    Ok(Tensor::cat(&images, 0)?)
}
