//! A detector against the labels of a dataset.

use std::collections::BTreeSet;

use pad_data::{
    Dataset, LoaderConfig,
    draw::{Canvas, DrawnBox},
    image::DecodeOptions,
    sets::detection::{BoxClasses, DetectionImage},
    transform::detection::DetectionPipeline,
};

use super::{
    DetectionModel, DetectionReport,
    coco::{CocoError, CocoTruth, evaluate, evaluate_masks, truth_of, without},
    predict::{MASK_OPACITY, PredictedObject},
};
use crate::{
    error::{Error, Result},
    evaluation::Evaluator,
    speed::Speed,
    titles::titled,
    unreadable::{Unreadable, shown},
};

/// Labelled images for detection.
///
/// ```
/// use pad_data::{scenes::{SceneConfig, Size}, sets::detection::DetectionScenes};
/// use pad_heads::detection::DetectionDataset;
/// let scenes = DetectionScenes::render(&SceneConfig::new(Size::new(48, 64), 5), 0, 3)?;
/// let dataset: &DetectionDataset<'_> = &scenes; // any set of images with boxes
/// assert_eq!(dataset.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type DetectionDataset<'a> = dyn Dataset<Sample = DetectionImage> + 'a;

/// Measures a detector on a whole dataset. Calls `stopped` before each image and returns `None`
/// once it is true. An image that cannot be read is left out with its objects, as far as
/// [`LoaderConfig`] tolerates it by default; [`DetectionReport::unreadable`] names it.
///
/// # Errors
/// [`Error::Classes`] if the dataset has other classes than the model; more unreadable images than
/// are tolerated; as [`DetectionModel::predict`] and [`truth_of`].
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::vit::ViTConfig;
/// use pad_data::{scenes::{SceneConfig, Size}, sets::detection::{BoxClasses, DetectionScenes}};
/// use pad_data::transform::detection::DetectionPipeline;
/// use pad_heads::{Start, detection::{DetectionModel, DetectorConfig, measure}};
/// use pad_ops::{ImageSize, rng::Key};
/// # let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// # let config = DetectorConfig {
/// #     channels: 8,
/// #     head_dim: 8,
/// #     relative_size: ImageSize::square(64),
/// #     ..DetectorConfig::on_backbone(vit, 4)
/// # };
/// # let start = Start::new(&Device::Cpu, Key::new(0));
/// // `config` is a small detector's; the model has seen nothing yet.
/// let model = DetectionModel::new(&config, BoxClasses::scenes(), None, &start)?;
/// let scenes = DetectionScenes::render(&SceneConfig::new(Size::new(48, 64), 5), 0, 2)?;
/// let report = measure(&model, &scenes, &DetectionPipeline::square(64), &|| false)?.unwrap();
/// assert_eq!((report.images, report.unreadable.len(), report.masks.is_none()), (2, 0, true));
/// println!("{report}"); // a table of AP, by IoU, size and class
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn measure(
    model: &DetectionModel,
    dataset: &DetectionDataset<'_>,
    pipeline: &DetectionPipeline,
    stopped: &dyn Fn() -> bool,
) -> Result<Option<DetectionReport>> {
    DetectionEvaluator::new(model, dataset, pipeline.clone())?.evaluate(stopped)
}

fn measure_against(
    model: &DetectionModel,
    dataset: &DetectionDataset<'_>,
    truth: &CocoTruth,
    pipeline: &DetectionPipeline,
    max_unreadable: f64,
    stopped: &dyn Fn() -> bool,
) -> Result<Option<DetectionReport>> {
    let classes = dataset.classes();
    let (mut seconds, mut macs) = (Vec::with_capacity(dataset.len()), 0.0);
    let mut results = Vec::new();
    let mut unreadable = Unreadable::new(dataset.len(), max_unreadable);
    let mut left_out = BTreeSet::new();
    for index in 0..dataset.len() {
        if stopped() {
            return Ok(None);
        }
        let labels = dataset.info(index)?;
        let read = dataset.get(index, &DecodeOptions::default());
        let Some(DetectionImage { image, .. }) = unreadable.checked(read)? else {
            left_out.insert(labels.coco_id());
            continue;
        };
        let seen = image.size();
        let mut found = model.predict(image, pipeline)?;
        // Of a radiometric file the labels may be those of the picture, which has another size.
        found.objects.iter_mut().try_for_each(|object| object.rescale(seen, labels.size))?;
        for object in &found.objects {
            let unknown = CocoError::Unknown {
                what: "result",
                place: results.len(),
                of: "category",
                id: i64::from(object.detection.label).into(),
            };
            results.push(object.to_coco(labels.coco_id(), classes).ok_or(unknown)?);
        }
        seconds.push(found.seconds);
        macs += found.macs;
    }
    let readable = without(truth, &left_out);
    let truth = readable.as_ref().unwrap_or(truth);
    let boxes = evaluate(truth, &results)?;
    let masks = match model.network.config().masks {
        true => Some(evaluate_masks(truth, &results)?),
        false => None,
    };
    let count = |id: i64| {
        let objects = truth.annotations.iter().filter(|object| object.category_id == id);
        objects.filter(|object| object.iscrowd == 0 && !object.difficult).count()
    };
    Ok(Some(DetectionReport {
        objects: classes.classes().iter().map(|class| count(class.id)).collect(),
        classes: classes.clone(),
        boxes,
        masks,
        results,
        images: dataset.len() - left_out.len(),
        unreadable: unreadable.into_reasons(),
        speed: Speed::new(&seconds, macs),
    }))
}

/// Checks that a dataset has the classes of a model; their numbers may be others.
fn expect_same(model: &BoxClasses, dataset: &BoxClasses) -> Result<()> {
    let names = |classes: &BoxClasses| -> Vec<String> {
        classes.classes().iter().map(|class| class.name.clone()).collect()
    };
    let (expected, found) = (names(model), names(dataset));
    if expected == found {
        return Ok(());
    }
    Err(Error::Classes { expected: expected.join(", "), found: found.join(", ") })
}

/// Measures a detector during training, for [`Evaluation`](crate::Evaluation): metrics `AP`,
/// `AP50`, …, `mask AP`, … and `AP <class>`, score AP of boxes.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::vit::ViTConfig;
/// use pad_data::{scenes::{SceneConfig, Size}, sets::detection::{BoxClasses, DetectionScenes}};
/// use pad_data::transform::detection::DetectionPipeline;
/// use pad_heads::{Evaluator, Start};
/// use pad_heads::detection::{DetectionEvaluator, DetectionModel, DetectorConfig};
/// use pad_ops::{ImageSize, rng::Key};
/// # let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// # let config = DetectorConfig {
/// #     channels: 8,
/// #     head_dim: 8,
/// #     relative_size: ImageSize::square(64),
/// #     ..DetectorConfig::on_backbone(vit, 4)
/// # };
/// # let start = Start::new(&Device::Cpu, Key::new(0));
/// let model = DetectionModel::new(&config, BoxClasses::scenes(), None, &start)?;
/// let scenes = DetectionScenes::render(&SceneConfig::new(Size::new(48, 64), 5), 0, 1)?;
/// let evaluator = DetectionEvaluator::new(&model, &scenes, DetectionPipeline::square(64))?
///     .with_max_unreadable(0.01);
/// // `Evaluation::new(evaluator)` calls this between epochs.
/// assert_eq!(evaluator.evaluate(&|| false)?.unwrap().images, 1);
/// assert!(evaluator.evaluate(&|| true)?.is_none()); // stopped
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DetectionEvaluator<'a> {
    model: &'a DetectionModel,
    dataset: &'a DetectionDataset<'a>,
    truth: CocoTruth,
    pipeline: DetectionPipeline,
    max_unreadable: f64,
}

impl<'a> DetectionEvaluator<'a> {
    /// Measures `model` on `dataset`.
    ///
    /// # Errors
    /// [`Error::Classes`] if the dataset has other classes than the model; an invalid pipeline; as
    /// [`truth_of`].
    pub fn new(
        model: &'a DetectionModel,
        dataset: &'a DetectionDataset<'a>,
        pipeline: DetectionPipeline,
    ) -> Result<Self> {
        pipeline.validate()?;
        expect_same(&model.classes, dataset.classes())?;
        let truth = truth_of(dataset)?;
        truth.validate()?;
        let max_unreadable = LoaderConfig::default().max_unreadable;
        Ok(Self { model, dataset, truth, pipeline, max_unreadable })
    }

    /// Sets the tolerated share of unreadable images, 0 to 1; see [`LoaderConfig::max_unreadable`].
    #[must_use]
    pub fn with_max_unreadable(self, max_unreadable: f64) -> Self {
        Self { max_unreadable, ..self }
    }
}

impl Evaluator for DetectionEvaluator<'_> {
    type Report = DetectionReport;

    fn evaluate(&self, stopped: &dyn Fn() -> bool) -> Result<Option<DetectionReport>> {
        let Self { model, dataset, truth, pipeline, max_unreadable } = self;
        measure_against(model, *dataset, truth, pipeline, *max_unreadable, stopped)
    }
}

impl DetectionModel {
    /// Draws `count` images of a dataset: each with its labels, beside it with the detections of at
    /// least a score.
    ///
    /// Images that cannot be read are left out with a warning.
    ///
    /// # Errors
    /// As [`DetectionModel::predict`].
    pub fn pictures(
        &self,
        dataset: &DetectionDataset<'_>,
        pipeline: &DetectionPipeline,
        count: usize,
        score_threshold: f32,
    ) -> Result<Canvas> {
        let count = count.min(dataset.len());
        let mut tiles = Vec::with_capacity(count);
        for place in 0..count {
            let index = place * dataset.len() / count;
            let Some(DetectionImage { image, labels }) = shown(dataset, index) else { continue };
            let plain = Canvas::from_image(&image, Some(&pipeline.window))?;
            // Small images are enlarged, so that captions do not cover them.
            let factor = (480 / plain.size().width.max(1)).max(1);
            let enlarged = |drawn: DrawnBox| DrawnBox {
                bbox: drawn.bbox.map(|edge| edge * factor as f32),
                ..drawn
            };
            let (mut labelled, mut predicted) = (plain.clone(), plain);
            if self.network.config().masks {
                for object in &labels.objects {
                    if let Some(mask) = &object.mask {
                        let color = BoxClasses::color(object.class);
                        labelled.overlay_mask(mask, color, MASK_OPACITY)?;
                    }
                }
            }
            let mut found = self.predict(image, pipeline)?.objects;
            found.retain(|object| object.detection.score >= score_threshold);
            for object in &found {
                object.paint(&mut predicted)?;
            }
            let mut labelled = labelled.enlarged(factor);
            let truth: Vec<DrawnBox> = DrawnBox::truth(&labels).into_iter().map(enlarged).collect();
            labelled.boxes(&truth, dataset.classes(), 1);
            let mut predicted = predicted.enlarged(factor);
            let found: Vec<DrawnBox> =
                found.iter().map(PredictedObject::drawn).map(enlarged).collect();
            predicted.boxes(&found, &self.classes, 1);
            tiles.push([titled(&labelled, "labels"), titled(&predicted, "detections")]);
        }
        let rows: Vec<Vec<Canvas>> = tiles.chunks(2).map(<[_]>::concat).collect();
        Ok(Canvas::tiled(&rows, 6, [255; 3]))
    }
}
