//! A detector against the labels of a dataset.

use pad_data::{
    Dataset,
    draw::{Canvas, DrawnBox},
    image::DecodeOptions,
    sets::detection::{BoxClasses, DetectionImage},
    transform::detection::DetectionPipeline,
};

use super::{
    DetectionModel, DetectionReport,
    coco::{CocoError, CocoTruth, evaluate, evaluate_masks, truth_of},
    predict::{MASK_OPACITY, PredictedObject},
};
use crate::{
    error::{Error, Result},
    evaluation::Evaluator,
    speed::Speed,
    titles::titled,
};

/// Labelled images for detection.
pub type DetectionDataset<'a> = dyn Dataset<Sample = DetectionImage> + 'a;

/// Measures a detector on a whole dataset. Calls `stopped` before each image and returns `None`
/// once it is true. An image that cannot be read is an error: its objects would count as not found.
///
/// # Errors
/// [`Error::Classes`] if the dataset has other classes than the model; as
/// [`DetectionModel::predict`] and [`truth_of`].
pub fn measure(
    model: &DetectionModel,
    dataset: &DetectionDataset<'_>,
    pipeline: &DetectionPipeline,
    stopped: &dyn Fn() -> bool,
) -> Result<Option<DetectionReport>> {
    expect_same(&model.classes, dataset.classes())?;
    measure_against(model, dataset, &truth_of(dataset)?, pipeline, stopped)
}

fn measure_against(
    model: &DetectionModel,
    dataset: &DetectionDataset<'_>,
    truth: &CocoTruth,
    pipeline: &DetectionPipeline,
    stopped: &dyn Fn() -> bool,
) -> Result<Option<DetectionReport>> {
    let classes = dataset.classes();
    let (mut seconds, mut macs) = (Vec::with_capacity(dataset.len()), 0.0);
    let mut results = Vec::new();
    for index in 0..dataset.len() {
        if stopped() {
            return Ok(None);
        }
        let DetectionImage { image, labels } = dataset.get(index, &DecodeOptions::default())?;
        let found = model.predict(image, pipeline)?;
        for object in &found.objects {
            let unknown = CocoError::Unknown {
                what: "result",
                place: results.len(),
                of: "category",
                id: i64::from(object.detection.label).into(),
            };
            results.push(object.to_coco(labels.id, classes).ok_or(unknown)?);
        }
        seconds.push(found.seconds);
        macs += found.macs;
    }
    let boxes = evaluate(truth, &results)?;
    let masks = match model.detector.config().masks {
        true => Some(evaluate_masks(truth, &results)?),
        false => None,
    };
    let count = |id: i64| {
        let objects = truth.annotations.iter().filter(|object| object.category_id == id);
        objects.filter(|object| object.iscrowd == 0).count()
    };
    Ok(Some(DetectionReport {
        objects: classes.classes().iter().map(|class| count(class.id)).collect(),
        classes: classes.clone(),
        boxes,
        masks,
        results,
        images: dataset.len(),
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
pub struct DetectionEvaluator<'a> {
    model: &'a DetectionModel,
    dataset: &'a DetectionDataset<'a>,
    truth: CocoTruth,
    pipeline: DetectionPipeline,
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
        Ok(Self { model, dataset, truth, pipeline })
    }
}

impl Evaluator for DetectionEvaluator<'_> {
    type Report = DetectionReport;

    fn evaluate(&self, stopped: &dyn Fn() -> bool) -> Result<Option<DetectionReport>> {
        measure_against(self.model, self.dataset, &self.truth, &self.pipeline, stopped)
    }
}

impl DetectionModel {
    /// Draws `count` images of a dataset: each with its labels, beside it with the detections of at
    /// least a score.
    ///
    /// # Errors
    /// An image that cannot be read; as [`DetectionModel::predict`].
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
            let DetectionImage { image, labels } = dataset.get(index, &DecodeOptions::default())?;
            let plain = Canvas::from_image(&image, Some(&pipeline.window))?;
            // Small images are enlarged, so that captions do not cover them.
            let factor = (480 / plain.size().width.max(1)).max(1);
            let enlarged = |drawn: DrawnBox| DrawnBox {
                bbox: drawn.bbox.map(|edge| edge * factor as f32),
                ..drawn
            };
            let (mut labelled, mut predicted) = (plain.clone(), plain);
            if self.detector.config().masks {
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
