//! The pictures that a run of pre-training leaves.

use std::path::PathBuf;

use pad::{
    data::{Dataset, transform::Normalize},
    ssl::{
        PretrainingModel,
        pictures::{CropPicture, crops, reconstructions, scales},
    },
    train::log::EventFile,
};

use super::{images::Images, settings::Pretrain};
use crate::{
    run::{Result, session::Session},
    tools::images::spread,
};

/// Reconstructions of held-out images, heat maps of patchwise scales, crops around regions.
pub fn draw(
    session: &Session<Pretrain>,
    model: &PretrainingModel,
    images: &Images,
    normalize: &Normalize,
    step: usize,
) -> Result<Vec<PathBuf>> {
    let seed = session.settings.run.seed;
    let mut files = Vec::new();
    if !images.held_out_set.is_empty() {
        let few = spread(images.held_out_set.as_ref(), &images.evaluation, 6)?;
        let few = few.to_device(&session.device)?;
        if let Some(mae) = model.network.mae() {
            let path = session.path("reconstruction.png");
            reconstructions(mae, &few, normalize, seed)?.save_png(&path)?;
            let png = pad::ops::fs::read(&path)?;
            EventFile::create(&session.path("tensorboard"), step)?.png(
                step,
                "reconstruction",
                &png,
            )?;
            files.push(path);
        }
        if let Some(picture) = scales(model.network.encoder(), &few, normalize)? {
            let path = session.path("scales.png");
            picture.canvas.save_png(&path)?;
            files.push(path);
        }
    }
    let examples = images.crop_examples(4);
    if !examples.is_empty() {
        let picture = CropPicture {
            plain: images.plain.clone(),
            around: images.around.clone(),
            window: session.settings.run.levels.0,
            crops: 4,
            seed,
        };
        // A set whose images all became unreadable is no reason to fail at the end of a run.
        match crops(&examples, &picture) {
            Ok(canvas) => {
                let path = session.path("crops.png");
                canvas.save_png(&path)?;
                files.push(path);
            }
            Err(error) => tracing::warn!("no picture of crops: {error}"),
        }
    }
    Ok(files)
}
