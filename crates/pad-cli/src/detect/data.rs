//! Labelled images for training and evaluation: a folder's, or rendered ones.

use std::sync::Arc;

use pad::data::{
    Dataset,
    dataset::Subset,
    scenes::{FamilyWeights, SceneConfig, Size},
    sets::detection::{BadBoxes, BoxClasses, DetectionOptions, DetectionScenes, DetectionSet},
};

use super::Detect;
use crate::{downstream, run::Result, settings::Settings, tools::reading::read_as};

type Images = downstream::Images<Detect>;

/// The images to train on.
pub fn training(settings: &Settings<Detect>) -> Result<Images> {
    let own = &settings.own;
    let select = own.classes.as_ref().map(|names| names.0.clone());
    let options = DetectionOptions { select, ..options(settings) };
    let images = match part(settings, &own.train_split, &options)? {
        Some(set) => first(settings, set, own.train_images),
        None => scenes(settings, 0, own.train_images.unwrap_or(own.scenes))?,
    };
    if describe("training", &images)? == 0 {
        let (count, split) = (images.len(), &own.train_split);
        return Err(format!("{split}: no box in {count} images, expected some to train on").into());
    }
    Ok(images)
}

/// The images to evaluate on; `classes` are those of training, whose numbers may be others here.
pub fn evaluation(settings: &Settings<Detect>, classes: &BoxClasses) -> Result<Images> {
    let own = &settings.own;
    let options = DetectionOptions { as_in: Some(classes.clone()), ..options(settings) };
    let images = match part(settings, &own.val_split, &options)? {
        Some(set) => first(settings, set, own.val_images),
        // Far from those of training, however many these are.
        None => scenes(settings, 1_000_000, own.val_images.unwrap_or(own.val_scenes))?,
    };
    if describe("evaluation", &images)? == 0 {
        tracing::warn!(
            "{}: no box in {} images: metrics are undefined, and no checkpoint is the best",
            own.val_split,
            images.len()
        );
    }
    Ok(images)
}

fn first(settings: &Settings<Detect>, set: DetectionSet, count: Option<usize>) -> Images {
    let set = read_as(set, settings.run.choice());
    match count {
        Some(count) => Arc::new(Subset::all(set).first(count)),
        None => set,
    }
}

/// How a folder is read.
fn options(settings: &Settings<Detect>) -> DetectionOptions {
    let Settings { run, own } = settings;
    DetectionOptions {
        bad_boxes: if own.clip_boxes { BadBoxes::Repair } else { BadBoxes::Refuse },
        masks: own.masks,
        images: own.images_root.clone(),
        max_faulty: run.max_unreadable,
        ..Default::default()
    }
}

/// A part of the folder.
fn part(
    settings: &Settings<Detect>,
    split: &str,
    options: &DetectionOptions,
) -> Result<Option<DetectionSet>> {
    let Settings { run, own } = settings;
    let Some(folder) = &run.data else { return Ok(None) };
    let set = DetectionSet::open(folder, split, own.format.0, options)?;
    let left_out = set.left_out();
    for (category, boxes) in &left_out.categories {
        tracing::info!("{split}: {boxes} boxes of {category} are left out");
    }
    if left_out.cut + left_out.without_area > 0 {
        let (cut, empty) = (left_out.cut, left_out.without_area);
        tracing::warn!("{split}: {cut} boxes are cut to their images, {empty} empty ones left out");
    }
    Ok(Some(set))
}

/// Streets, car parks and fields, where there are things with boxes.
fn scenes(settings: &Settings<Detect>, start: u64, count: usize) -> Result<Images> {
    tracing::info!("rendering {count} scenes");
    let config = SceneConfig {
        families: FamilyWeights { room: 0.0, close_up: 0.0, plant: 0.0, ..Default::default() },
        ..SceneConfig::new(Size::new(192, 240), settings.run.seed)
    };
    Ok(Arc::new(DetectionScenes::render(&config, start, count)?))
}

/// Logs what there is of each class; returns the number of boxes, without crowds.
fn describe(what: &str, images: &Images) -> Result<usize> {
    let classes = images.classes();
    let mut counts = vec![0_usize; classes.len()];
    let mut empty = 0;
    for index in 0..images.len() {
        let labels = images.info(index)?;
        let mut single = labels.objects.iter().filter(|object| !object.crowd).peekable();
        empty += usize::from(single.peek().is_none());
        for object in single {
            if let Some(count) = counts.get_mut(object.class as usize) {
                *count += 1;
            }
        }
    }
    let named = || classes.classes().iter().zip(&counts);
    let listed: Vec<String> =
        named().map(|(class, count)| format!("{count} {}", class.name)).collect();
    let images = images.len();
    tracing::info!("{what}: {images} images ({empty} without a box), {}", listed.join(", "));
    let boxes = counts.iter().sum();
    let missing = named().filter(|(_, count)| **count == 0);
    let missing: Vec<String> = missing.map(|(class, _)| format!("`{}`", class.name)).collect();
    if boxes > 0 && !missing.is_empty() {
        tracing::warn!("{what}: no box of {}", missing.join(", "));
    }
    Ok(boxes)
}
