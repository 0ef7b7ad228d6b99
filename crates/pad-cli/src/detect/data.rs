//! Labelled images for training and evaluation: a folder's, or rendered ones; and what goes to the detector.

use std::{path::Path, sync::Arc};

use candle_core::{Device, Tensor};
use pad::{
    data::{
        draw::{Canvas, DrawnBox},
        image::{DecodeOptions, Image},
        rle::Segmentation,
        scenes::{FamilyWeights, SceneConfig, Size},
        sets::detection::{
            BadBoxes, BoxClass, BoxClasses, DetectionOptions, DetectionScenes, DetectionSet,
            DetectionSource, LabelledImage, Others,
        },
        transform::detection::DetectionPipeline,
    },
    heads::detection::coco::{CocoAnnotation, CocoCategory, CocoImage, CocoTruth},
    rng::Key,
};

use super::settings::Settings;
use crate::run::Result;

/// Images of one part of a set.
pub type Source = Arc<dyn DetectionSource>;

/// The first images of a source.
struct First {
    source: Source,
    count: usize,
}

impl DetectionSource for First {
    fn len(&self) -> usize {
        self.count.min(self.source.len())
    }

    fn classes(&self) -> &BoxClasses {
        self.source.classes()
    }

    fn labelled(&self, index: usize) -> pad::data::Result<&LabelledImage> {
        self.source.labelled(index)
    }

    fn load(&self, index: usize, options: &DecodeOptions) -> pad::data::Result<Image> {
        self.source.load(index, options)
    }
}

fn first(source: Source, count: Option<usize>) -> Source {
    match count {
        Some(count) => Arc::new(First { source, count: count.max(1) }),
        None => source,
    }
}

/// The images to train on.
pub fn training(settings: &Settings) -> Result<Source> {
    let source: Source = match &settings.data {
        Some(_) => Arc::new(open(settings, &settings.train_split, None)?),
        None => Arc::new(scenes(settings, 0, settings.scenes)?),
    };
    let source = first(source, settings.images);
    describe("training", source.as_ref())?;
    Ok(source)
}

/// The images to evaluate on; `classes` are those of training.
pub fn evaluation(settings: &Settings, classes: Option<&BoxClasses>) -> Result<Source> {
    let source: Source = match &settings.data {
        Some(_) => Arc::new(open(settings, &settings.val_split, classes)?),
        // Far from those of training, however many these are.
        None => Arc::new(scenes(settings, 1_000_000, settings.val_scenes)?),
    };
    let source = first(source, settings.val_images);
    describe("evaluation", source.as_ref())?;
    Ok(source)
}

fn open(settings: &Settings, split: &str, classes: Option<&BoxClasses>) -> Result<DetectionSet> {
    let folder = settings.data.as_deref().ok_or("expected --data")?;
    let named = || {
        let classes = settings.classes.iter().zip(1..).map(|(name, id)| BoxClass::new(name, id));
        BoxClasses::new(classes.collect(), Others::LeaveOut)
    };
    let classes = match classes {
        Some(classes) => Some(classes.clone()),
        None if !settings.classes.is_empty() => Some(named()?),
        None => None,
    };
    let bad_boxes = if settings.clip_boxes { BadBoxes::Repair } else { BadBoxes::Refuse };
    let options = DetectionOptions { classes, bad_boxes, masks: settings.masks };
    let set = DetectionSet::open(folder, split, settings.format, &options)?;
    let left_out = set.left_out();
    for (category, boxes) in &left_out.categories {
        tracing::info!("{split}: {boxes} boxes of {category} are left out");
    }
    if left_out.cut + left_out.without_area > 0 {
        let (cut, empty) = (left_out.cut, left_out.without_area);
        tracing::warn!("{split}: {cut} boxes are cut to their images, {empty} empty ones left out");
    }
    Ok(set)
}

/// Streets, car parks and fields, where there are things with boxes.
fn scenes(settings: &Settings, start: u64, count: usize) -> Result<DetectionScenes> {
    tracing::info!("rendering {count} scenes");
    let config = SceneConfig {
        families: FamilyWeights { room: 0.0, close_up: 0.0, plant: 0.0, ..Default::default() },
        ..SceneConfig::new(Size::new(192, 240), settings.seed)
    };
    Ok(DetectionScenes::render(&config, start, count)?)
}

fn describe(what: &str, source: &dyn DetectionSource) -> Result<()> {
    let mut counts = vec![0_usize; source.classes().len()];
    let mut empty = 0;
    for index in 0..source.len() {
        let objects = &source.labelled(index)?.objects;
        empty += usize::from(objects.is_empty());
        for object in objects {
            if let Some(count) = counts.get_mut(object.class as usize) {
                *count += 1;
            }
        }
    }
    let classes = source.classes().classes().iter().zip(&counts);
    let counts: Vec<String> =
        classes.map(|(class, count)| format!("{count} {}", class.name)).collect();
    let images = source.len();
    tracing::info!("{what}: {images} images ({empty} without a box), {}", counts.join(", "));
    Ok(())
}

/// The labels of a set as COCO annotations.
pub fn truth(source: &dyn DetectionSource) -> Result<CocoTruth> {
    let classes = source.classes();
    let category = |class: &BoxClass| CocoCategory { id: class.id, name: class.name.clone() };
    let mut truth = CocoTruth {
        images: Vec::with_capacity(source.len()),
        annotations: Vec::new(),
        categories: classes.classes().iter().map(category).collect(),
    };
    for index in 0..source.len() {
        let LabelledImage { id, name, size, objects } = source.labelled(index)?;
        let (width, height) = (size.width, size.height);
        truth.images.push(CocoImage { id: *id, file_name: name.clone(), width, height });
        for object in objects {
            let [x1, y1, x2, y2] = object.bbox;
            truth.annotations.push(CocoAnnotation {
                id: object.id,
                image_id: *id,
                category_id: classes.id(object.class).ok_or("a box of no class")?,
                bbox: [x1, y1, x2 - x1, y2 - y1],
                area: object.area,
                iscrowd: u8::from(object.crowd),
                segmentation: object.mask.as_deref().map(|mask| Segmentation::Runs(mask.clone())),
            });
        }
    }
    Ok(truth)
}

/// Writes `OUT/NAME.png` for `count` images of a set: the image with its labels, and beside it a sample of the first epoch
/// as the network sees it, with the boxes that it is taught. Returns the number of pictures.
pub fn show(
    source: &dyn DetectionSource,
    pipeline: &DetectionPipeline,
    out: &Path,
    count: usize,
    scale: usize,
    seed: u64,
) -> Result<usize> {
    let count = count.min(source.len());
    std::fs::create_dir_all(out).map_err(|error| format!("{}: {error}", out.display()))?;
    for place in 0..count {
        let index = place * source.len() / count;
        let labelled = source.labelled(index)?;
        let image = source.load(index, &DecodeOptions::default())?;
        let mut stored = Canvas::from_image(&image, Some(&pipeline.window))?;
        stored.boxes(&DrawnBox::truth(labelled), source.classes(), scale);
        let key = Key::new(seed).epoch(0).sample(index as u64);
        let sample = pipeline.train(image, &labelled.objects, key)?;
        let shape = (sample.channels, sample.padded.height, sample.padded.width);
        let pixels = Tensor::from_vec(sample.pixels, shape, &Device::Cpu)?;
        let mut seen = Canvas::from_tensor(&pixels, &pipeline.normalize)?;
        let boxes = sample.boxes.iter().zip(&sample.labels);
        let boxes: Vec<DrawnBox> =
            boxes.map(|(&bbox, &class)| DrawnBox { bbox, class, score: None }).collect();
        seen.boxes(&boxes, source.classes(), scale);
        let file = format!("{}.png", file_name(&labelled.name));
        Canvas::tiled(&[vec![stored, seen]], 8, [255; 3]).save_png(out.join(file))?;
    }
    Ok(count)
}

/// A name as one of a file in one folder.
pub fn file_name(name: &str) -> String {
    name.replace(['/', '\\'], "_")
}
