//! Labelled images for training and evaluation: a folder's, or rendered ones.

use std::sync::Arc;

use pad::data::{
    Dataset, SharedDataset,
    dataset::Subset,
    scenes::{FamilyWeights, SceneConfig, Size},
    sets::detection::{
        BadBoxes, BoxClasses, DetectionImage, DetectionOptions, DetectionScenes, DetectionSet,
    },
};

use super::Detect;
use crate::{run::Result, settings::Settings, tools::reading::read_as};

/// Images of one part of a set.
pub type Images = SharedDataset<DetectionImage>;

/// The images to train on.
pub fn training(settings: &Settings<Detect>) -> Result<Images> {
    let own = &settings.own;
    let select = own.classes.as_ref().map(|names| names.0.clone());
    let images = match part(settings, &own.train_split, select)? {
        Some(set) => first(settings, set, own.train_images),
        None => scenes(settings, 0, own.train_images.unwrap_or(own.scenes))?,
    };
    describe("training", &images)?;
    Ok(images)
}

/// The images to evaluate on; `classes` are those of training, whose numbers may be others here.
pub fn evaluation(settings: &Settings<Detect>, classes: &BoxClasses) -> Result<Images> {
    let own = &settings.own;
    let names = classes.classes().iter().map(|class| class.name.clone()).collect();
    let images = match part(settings, &own.val_split, Some(names))? {
        Some(set) => first(settings, set, own.val_images),
        // Far from those of training, however many these are.
        None => scenes(settings, 1_000_000, own.val_images.unwrap_or(own.val_scenes))?,
    };
    describe("evaluation", &images)?;
    Ok(images)
}

fn first(settings: &Settings<Detect>, set: DetectionSet, count: Option<usize>) -> Images {
    let set = read_as(set, settings.run.choice());
    match count {
        Some(count) => Arc::new(Subset::all(set).first(count)),
        None => set,
    }
}

/// A part of the folder, with the classes of these names.
fn part(
    settings: &Settings<Detect>,
    split: &str,
    select: Option<Vec<String>>,
) -> Result<Option<DetectionSet>> {
    let Settings { run, own } = settings;
    let Some(folder) = &run.data else { return Ok(None) };
    let options = DetectionOptions {
        select,
        bad_boxes: if own.clip_boxes { BadBoxes::Repair } else { BadBoxes::Refuse },
        masks: own.masks,
        ..Default::default()
    };
    let set = DetectionSet::open(folder, split, own.format.0, &options)?;
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

fn describe(what: &str, images: &Images) -> Result<()> {
    let classes = images.classes();
    let mut counts = vec![0_usize; classes.len()];
    let mut empty = 0;
    for index in 0..images.len() {
        let labels = images.info(index)?;
        empty += usize::from(labels.objects.is_empty());
        for object in &labels.objects {
            if let Some(count) = counts.get_mut(object.class as usize) {
                *count += 1;
            }
        }
    }
    let named = classes.classes().iter().zip(&counts);
    let counts: Vec<String> =
        named.map(|(class, count)| format!("{count} {}", class.name)).collect();
    let images = images.len();
    tracing::info!("{what}: {images} images ({empty} without a box), {}", counts.join(", "));
    Ok(())
}

/// A name as one of a file in one folder.
pub fn file_name(name: &str) -> String {
    name.replace(['/', '\\'], "_")
}
