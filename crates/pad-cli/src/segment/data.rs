//! Labelled images: a folder's, or rendered scenes.

use std::sync::Arc;

use pad::data::{
    scenes::{SceneConfig, Size},
    sets::segmentation::{SegmentationScenes, SegmentationSet, SegmentationSource},
};

use super::settings::Settings;
use crate::run::Result;

pub type Source = Arc<dyn SegmentationSource>;

/// The images of a list.
fn set(settings: &Settings, split: &str, count: Option<usize>) -> Result<Source> {
    let root = settings
        .data
        .as_ref()
        .ok_or_else(|| format!("`dataset` is {}, which needs --data", settings.dataset))?;
    let set = match settings.dataset.as_str() {
        "folder" => SegmentationSet::folder(root, split)?,
        "soda" => SegmentationSet::soda(root, split)?,
        "mfnet" => SegmentationSet::mfnet(root, split)?,
        other => {
            return Err(
                format!("`dataset` is {other}, expected folder, soda, mfnet or scenes").into()
            );
        }
    };
    Ok(Arc::new(match count {
        Some(0) => return Err(format!("0 images of `{split}`, expected at least 1").into()),
        Some(count) => set.first(count),
        None => set,
    }))
}

/// Scenes that are rendered; training and evaluation never share one.
fn scenes(settings: &Settings, first: u64, count: usize) -> Result<Source> {
    if count == 0 {
        return Err("0 scenes, expected at least 1".into());
    }
    tracing::info!("rendering {count} scenes");
    let [height, width] = settings.scene_size;
    let config = SceneConfig::new(Size { height, width }, 0);
    Ok(Arc::new(SegmentationScenes::render(&config, first, count)?))
}

fn is_rendered(settings: &Settings) -> bool {
    settings.dataset == "scenes"
}

pub fn training(settings: &Settings) -> Result<Source> {
    if is_rendered(settings) {
        return scenes(settings, 0, settings.train_images.unwrap_or(settings.scenes));
    }
    set(settings, &settings.train_split, settings.train_images)
}

pub fn evaluation(settings: &Settings) -> Result<Source> {
    /// Far beyond any training set.
    const FIRST: u64 = 1 << 32;
    if is_rendered(settings) {
        return scenes(settings, FIRST, settings.val_images.unwrap_or(settings.val_scenes));
    }
    set(settings, &settings.val_split, settings.val_images)
}
