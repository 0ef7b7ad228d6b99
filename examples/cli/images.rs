//! Images for training and evaluation: a folder's, or rendered ones.

use std::{path::Path, sync::Arc};

use candle_core::Tensor;
use pad::{
    ImageSize,
    data::{
        dataset::{Dataset, Repeated},
        loader::{Loader, LoaderConfig},
        scenes::{SceneConfig, SceneSet},
        sets::{Crop, ImageDataset, ImageDatasetConfig, ImageFolder, ImageSource},
        transform::{HorizontalFlip, RandomResizedCrop},
    },
    rng::Key,
};

use super::{Result, settings::Settings};

/// Training and held-out images.
fn sources(settings: &Settings) -> Result<(Arc<dyn ImageSource>, Arc<dyn ImageSource>)> {
    let Some(folder) = &settings.data else {
        let held_out = (settings.scenes as f64 * settings.held_out).round() as usize;
        let (held_out, training) = scenes(settings)?.split_at(held_out);
        return Ok((Arc::new(training), Arc::new(held_out)));
    };
    let mut images = ImageFolder::open(folder)?;
    if !settings.sources.is_empty() {
        let names: Vec<&str> = settings.sources.iter().map(String::as_str).collect();
        images = images.only(&names)?;
    }
    for source in images.sources() {
        tracing::info!("{}: {} images", source.name, source.images);
    }
    let (training, held_out) = images.split(settings.held_out, settings.seed)?;
    if training.is_empty() || (held_out.is_empty() && settings.held_out > 0.0) {
        return Err(format!(
            "{}: {} images give {} for training and {} held out, expected some in both (see --held-out)",
            folder.display(),
            images.len(),
            training.len(),
            held_out.len()
        )
        .into());
    }
    Ok((Arc::new(training), Arc::new(held_out)))
}

fn scenes(settings: &Settings) -> Result<SceneSet> {
    tracing::info!("rendering {} scenes", settings.scenes);
    // Large enough for crops of 224, small enough to render hundreds in seconds.
    let config = SceneConfig::new(ImageSize::new(256, 320), settings.seed);
    Ok(SceneSet::render(&config, settings.scenes)?)
}

/// What all datasets of a run share.
fn dataset_config(settings: &Settings) -> Result<ImageDatasetConfig> {
    Ok(ImageDatasetConfig {
        size: settings.image_size()?,
        channels: settings.channels,
        normalize: settings.normalize()?,
        window: settings.window(),
        ..Default::default()
    })
}

/// The same with nothing random in it: the centre, not mirrored.
fn evaluation_config(settings: &Settings) -> Result<ImageDatasetConfig> {
    let centre = ImageDatasetConfig::evaluation(settings.image_size()?);
    Ok(ImageDatasetConfig { crop: centre.crop, flip: centre.flip, ..dataset_config(settings)? })
}

/// Loaders of both parts: random crops for training, the centre for evaluation (absent if nothing is held out).
pub fn loaders(settings: &Settings) -> Result<(Loader, Option<Loader>)> {
    let (training, held_out) = sources(settings)?;
    tracing::info!("{} images for training, {} held out", training.len(), held_out.len());
    let cache = settings.cache_mib << 20;
    let images = training.len() * settings.repeat.max(1);
    let train_config = ImageDatasetConfig {
        crop: Crop::Random(RandomResizedCrop {
            scale: (settings.min_scale, 1.0),
            ..Default::default()
        }),
        flip: HorizontalFlip { probability: settings.flip },
        cache_bytes: cache - cache / 10,
        ..dataset_config(settings)?
    };
    let eval_config =
        ImageDatasetConfig { cache_bytes: cache / 10, ..evaluation_config(settings)? };
    let loader_config = LoaderConfig {
        batch_size: settings.batch_size.min(images),
        workers: settings.workers,
        max_unreadable: settings.max_unreadable,
        seed: settings.seed,
        ..Default::default()
    };
    let eval_loader = if held_out.is_empty() {
        None
    } else {
        let config = LoaderConfig { shuffle: false, drop_last: false, ..loader_config.clone() };
        let dataset = ImageDataset::from_source(held_out, eval_config)?;
        Some(Loader::new(Arc::new(dataset), config)?)
    };
    let dataset = ImageDataset::from_source(training, train_config)?;
    let dataset = Repeated::new(dataset, settings.repeat);
    Ok((Loader::new(Arc::new(dataset), loader_config)?, eval_loader))
}

/// All images of `folder`, of the run's own folder, or rendered ones, as they are evaluated.
pub fn evaluation(settings: &Settings, folder: Option<&Path>) -> Result<ImageDataset> {
    let source: Arc<dyn ImageSource> = match folder.or(settings.data.as_deref()) {
        Some(folder) => Arc::new(ImageFolder::open(folder)?),
        None => Arc::new(scenes(settings)?),
    };
    Ok(ImageDataset::from_source(source, evaluation_config(settings)?)?)
}

/// `count` images spread over a set, as a batch; those that cannot be read are reported and left out.
pub fn spread(dataset: &dyn Dataset, count: usize) -> Result<Tensor> {
    let count = count.clamp(1, dataset.len().max(1));
    let mut images = Vec::with_capacity(count);
    for i in 0..count {
        let index = i * dataset.len() / count;
        match dataset.get(index, Key::new(0).sample(index as u64)) {
            Ok(sample) => images.push(sample.into_tensor()?),
            Err(error) => tracing::warn!("left out of the picture: {error}"),
        }
    }
    if images.is_empty() {
        return Err("not one of the images for the picture could be read".into());
    }
    Ok(Tensor::cat(&images, 0)?)
}
