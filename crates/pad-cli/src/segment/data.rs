//! Labelled images: a folder's, or rendered scenes.

use std::sync::Arc;

use pad::data::{
    Dataset, SharedDataset,
    dataset::Subset,
    scenes::{SceneConfig, scene_size},
    sets::segmentation::{SegmentationImage, SegmentationScenes, SegmentationSet},
};

use super::Segment;
use crate::{run::Result, settings::Settings, tools::reading::read_as};

/// Images of one part of a set.
pub type Images = SharedDataset<SegmentationImage>;

/// A part of the folder, at most `count` images of it.
fn part(settings: &Settings<Segment>, split: &str, count: Option<usize>) -> Result<Option<Images>> {
    let Some(root) = &settings.run.data else { return Ok(None) };
    let set = SegmentationSet::open(root, split, settings.own.format.0, &Default::default())?;
    let set = read_as(set, settings.run.choice());
    Ok(Some(match count {
        Some(count) => Arc::new(Subset::all(set).first(count)),
        None => set,
    }))
}

/// Rendered scenes; training and evaluation never share one.
fn scenes(settings: &Settings<Segment>, first: u64, count: usize) -> Result<Images> {
    tracing::info!("rendering {count} scenes");
    let config = SceneConfig::new(scene_size(settings.own.scene_size.0), 0);
    Ok(Arc::new(SegmentationScenes::render(&config, first, count)?))
}

/// The images to train on.
pub fn training(settings: &Settings<Segment>) -> Result<Images> {
    let own = &settings.own;
    match part(settings, &own.train_split, own.train_images)? {
        Some(images) => Ok(images),
        None => scenes(settings, 0, own.train_images.unwrap_or(own.scenes)),
    }
}

/// The images to evaluate on.
pub fn evaluation(settings: &Settings<Segment>) -> Result<Images> {
    /// Far beyond any training set.
    const FIRST: u64 = 1 << 32;
    let own = &settings.own;
    match part(settings, &own.val_split, own.val_images)? {
        Some(images) => Ok(images),
        None => scenes(settings, FIRST, own.val_images.unwrap_or(own.val_scenes)),
    }
}

/// Whether two parts have the same classes, and how many images there are.
pub fn describe(training: &Images, held_out: &Images) {
    let (images, held_out) = (training.len(), held_out.len());
    tracing::info!("{images} images for training, {held_out} for evaluation");
    tracing::info!("classes: {}", training.classes().names.join(", "));
}
