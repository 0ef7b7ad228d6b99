//! Labelled images: a folder's, or rendered scenes.

use std::sync::Arc;

use pad::data::{
    Dataset,
    dataset::{Subset, tolerated},
    image::DecodeOptions,
    scenes::{SceneConfig, scene_size},
    sets::segmentation::{SegmentationOptions, SegmentationScenes, SegmentationSet},
};

use super::Segment;
use crate::{downstream, run::Result, settings::Settings, tools::reading::read_as};

type Images = downstream::Images<Segment>;

/// A part of the folder, at most `count` images of it, whose masks are counted first.
fn part(
    settings: &Settings<Segment>,
    part: Part,
    split: &str,
    count: Option<usize>,
) -> Result<Option<Images>> {
    let Settings { run, own } = settings;
    let Some(root) = &run.data else { return Ok(None) };
    let options = SegmentationOptions {
        mask_values: own.mask_values.as_ref().map(|values| values.0.clone()),
        max_faulty: run.max_unreadable,
        ..Default::default()
    };
    let set = SegmentationSet::open(root, split, own.format.0, &options)?;
    look_at_masks(&set, part, split, count, run.max_unreadable)?;
    let set = read_as(set, run.choice());
    Ok(Some(match count {
        Some(count) => Arc::new(Subset::all(set).first(count)),
        None => set,
    }))
}

/// What a part is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Training,
    Evaluation,
}

/// Checks that there is something to learn, and names what is missing or cannot be used.
fn look_at_masks(
    set: &SegmentationSet,
    part: Part,
    split: &str,
    count: Option<usize>,
    max_unreadable: f64,
) -> Result<()> {
    let survey = set.survey(count.unwrap_or(usize::MAX), &DecodeOptions::default())?;
    let classes = set.classes();
    let (bad, of) = (survey.faults.len(), survey.masks);
    if bad > 0 {
        let first = survey.faults.iter().take(3).map(String::as_str).collect::<Vec<_>>().join("; ");
        if !tolerated(bad, of, max_unreadable) {
            return Err(format!(
                "{split}: {bad} of {of} masks cannot be used, more than the allowed share {max_unreadable}; \
                 first: {first}"
            )
            .into());
        }
        tracing::warn!("{split}: {bad} of {of} masks cannot be used and are left out: {first}");
    }
    let missing = survey.missing(classes);
    if missing.is_empty() {
        return Ok(());
    }
    match survey.check(classes) {
        Err(error) if part == Part::Training => return Err(format!("{split}: {error}").into()),
        Err(error) => tracing::warn!("{split}: {error}"),
        Ok(()) => tracing::warn!("{split}: no pixel of {} in {of} masks", missing.join(", ")),
    }
    Ok(())
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
    let images = match part(settings, Part::Training, &own.train_split, own.train_images)? {
        Some(images) => images,
        None => scenes(settings, 0, own.train_images.unwrap_or(own.scenes))?,
    };
    tracing::info!("training: {} images", images.len());
    tracing::info!("classes: {}", images.classes().names.join(", "));
    Ok(images)
}

/// The images to evaluate on.
pub fn evaluation(settings: &Settings<Segment>) -> Result<Images> {
    /// Far beyond any training set.
    const FIRST: u64 = 1 << 32;
    let own = &settings.own;
    let images = match part(settings, Part::Evaluation, &own.val_split, own.val_images)? {
        Some(images) => images,
        None => scenes(settings, FIRST, own.val_images.unwrap_or(own.val_scenes))?,
    };
    tracing::info!("evaluation: {} images", images.len());
    Ok(images)
}
