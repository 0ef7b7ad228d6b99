//! Detections of a labelled set, and what they are worth; during training, too.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pad::{
    data::{
        draw::{Canvas, DrawnBox},
        image::{DecodeOptions, Image},
        rle::{Rle, Segmentation},
        sets::detection::{BoxClasses, DetectionSource},
        transform::detection::{DetectionPipeline, batch_of},
    },
    heads::detection::{
        Detection,
        coco::{CocoMetrics, CocoResult, CocoTruth, evaluate, evaluate_masks},
    },
    train::{BoxError, EpochInfo, Flow, Hook, StepInfo, TrainerView},
};

use super::{
    data::{Source, truth},
    model::Network,
    report::NAMES,
};
use crate::run::Result;

/// An object found, in the pixels of its image.
pub struct Found {
    pub detection: Detection,
    /// Its pixels, of a detector that tells them.
    pub mask: Option<Rle>,
}

impl Found {
    /// As it is drawn.
    pub fn drawn(&self) -> DrawnBox {
        let Detection { bbox, score, label } = self.detection;
        DrawnBox { bbox, class: label, score: Some(score) }
    }

    /// Colours its pixels, if they are told, on a picture of its image.
    pub fn paint(&self, canvas: &mut Canvas) -> Result<()> {
        if let Some(mask) = &self.mask {
            canvas.overlay_mask(mask, BoxClasses::color(self.detection.label), MASK_OPACITY)?;
        }
        Ok(())
    }
}

/// How much of a picture a mask hides.
pub const MASK_OPACITY: f32 = 0.45;

/// What a detector found in a set.
pub struct Measured {
    /// Of boxes.
    pub metrics: CocoMetrics,
    /// Of masks, of a detector that tells them.
    pub masks: Option<CocoMetrics>,
    pub results: Vec<CocoResult>,
    /// Time of each image from pixels to boxes, ms.
    pub times_ms: Vec<f64>,
    /// Multiply-adds of a mean image, billions.
    pub gmacs: f64,
}

/// Detections of one image, in its own pixels, and the time from prepared pixels to boxes.
pub fn detect(
    network: &Network,
    image: Image,
    pipeline: &DetectionPipeline,
) -> Result<(Vec<Found>, Duration, f64)> {
    let image = pipeline.test(image)?;
    let (images, sizes) = batch_of(std::slice::from_ref(&image), network.multiple())?;
    let start = Instant::now();
    let found = network.detect(&images, &sizes)?.into_iter().next().unwrap_or_default();
    let time = start.elapsed();
    let mut placed = Vec::with_capacity(found.len());
    for (one, mask) in found {
        let detection = Detection { bbox: image.to_original(one.bbox), ..one };
        let [x1, y1, x2, y2] = detection.bbox;
        // Beside the image there is nothing to be seen.
        if x1 < x2 && y1 < y2 {
            let mask = mask.map(|mask| mask.paste(detection.bbox, image.original)).transpose()?;
            placed.push(Found { detection, mask });
        }
    }
    Ok((placed, time, network.macs(&images)?))
}

/// A detection as COCO writes it.
pub fn result(image_id: i64, classes: &BoxClasses, found: &Found) -> Result<CocoResult> {
    let Detection { bbox, score, label } = found.detection;
    let [x1, y1, x2, y2] = bbox.map(f64::from);
    Ok(CocoResult {
        image_id,
        category_id: classes.id(label).ok_or("a detection of no class")?,
        bbox: [x1, y1, x2 - x1, y2 - y1],
        score: f64::from(score),
        segmentation: found.mask.clone().map(Segmentation::Runs),
    })
}

/// Detects in every image of a set and compares with its labels. An image that cannot be read is an error: its objects
/// would count as not found.
pub fn measure(
    network: &Network,
    source: &dyn DetectionSource,
    truth: &CocoTruth,
    pipeline: &DetectionPipeline,
) -> Result<Measured> {
    let decode = DecodeOptions::default();
    let (mut results, mut times_ms) = (Vec::new(), Vec::with_capacity(source.len()));
    let mut macs = 0.0;
    for index in 0..source.len() {
        let image_id = source.labelled(index)?.id;
        let image = source.load(index, &decode)?;
        let (found, time, work) = detect(network, image, pipeline)?;
        times_ms.push(1e3 * time.as_secs_f64());
        macs += work;
        for one in &found {
            results.push(result(image_id, source.classes(), one)?);
        }
    }
    let metrics = evaluate(truth, &results)?;
    let masks = match network.masks() {
        true => Some(evaluate_masks(truth, &results)?),
        false => None,
    };
    let gmacs = macs / 1e9 / source.len().max(1) as f64;
    Ok(Measured { metrics, masks, results, times_ms, gmacs })
}

/// Measures AP every so many epochs and after the last step; the best checkpoint is kept.
pub struct Evaluation<'a> {
    network: &'a Network,
    source: Source,
    truth: CocoTruth,
    pipeline: DetectionPipeline,
    every_epochs: usize,
    best: Option<(f64, usize)>,
    newest: Option<(CocoMetrics, Option<CocoMetrics>)>,
    measured_at: usize,
}

impl<'a> Evaluation<'a> {
    /// `every_epochs` = 0: only after the last step.
    pub fn new(
        network: &'a Network,
        source: &Source,
        pipeline: DetectionPipeline,
        every_epochs: usize,
    ) -> Result<Self> {
        Ok(Self {
            network,
            source: Arc::clone(source),
            truth: truth(source.as_ref())?,
            pipeline,
            every_epochs,
            best: None,
            newest: None,
            measured_at: 0,
        })
    }

    /// Best AP so far, and after which step.
    pub fn best(&self) -> Option<(f64, usize)> {
        self.best
    }

    /// AP and the rest, newly measured unless this step was. Tells whether it is the best so far.
    fn measure(&mut self, step: usize) -> Result<Flow, BoxError> {
        if self.measured_at == step {
            return Ok(Flow::Continue);
        }
        let found = measure(self.network, self.source.as_ref(), &self.truth, &self.pipeline)?;
        let [ap, ap50, ap75, ..] = found.metrics.stats;
        tracing::info!(
            "step {step}: AP {:.1}, AP50 {:.1}, AP75 {:.1}, {} detections",
            100.0 * ap,
            100.0 * ap50,
            100.0 * ap75,
            found.results.len()
        );
        if let Some([ap, ap50, ap75, ..]) = found.masks.as_ref().map(|masks| masks.stats) {
            tracing::info!(
                "masks: AP {:.1}, AP50 {:.1}, AP75 {:.1}",
                100.0 * ap,
                100.0 * ap50,
                100.0 * ap75
            );
        }
        self.measured_at = step;
        self.newest = Some((found.metrics, found.masks));
        if self.best.is_none_or(|(best, _)| ap > best) {
            self.best = Some((ap, step));
            return Ok(Flow::Best);
        }
        Ok(Flow::Continue)
    }
}

impl Hook for Evaluation<'_> {
    fn name(&self) -> &str {
        "evaluation"
    }

    /// A run may end inside an epoch.
    fn after_step(&mut self, step: &StepInfo, view: &TrainerView<'_>) -> Result<Flow, BoxError> {
        if step.step == view.last_step { self.measure(step.step) } else { Ok(Flow::Continue) }
    }

    fn after_epoch(
        &mut self,
        epoch: &mut EpochInfo,
        view: &TrainerView<'_>,
    ) -> Result<Flow, BoxError> {
        let due = self.every_epochs > 0 && (epoch.epoch + 1).is_multiple_of(self.every_epochs);
        let last = epoch.step == view.last_step;
        if !due && !last {
            return Ok(Flow::Continue);
        }
        let flow = self.measure(epoch.step)?;
        if let Some((metrics, masks)) = &self.newest {
            for (name, stat) in NAMES.iter().zip(masks.iter().flat_map(|masks| masks.stats)) {
                epoch.metrics.insert(format!("val/mask {name}"), stat);
            }
            for (name, stat) in NAMES.iter().zip(metrics.stats) {
                epoch.metrics.insert(format!("val/{name}"), stat);
            }
            let classes = self.source.classes().classes();
            for (class, ap) in super::report::by_class(metrics, self.source.classes()) {
                if classes.len() > 1 {
                    epoch.metrics.insert(format!("val/AP {}", class.name), ap);
                }
            }
        }
        Ok(flow)
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!({ "best": self.best })
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), BoxError> {
        self.best = serde_json::from_value(state["best"].clone())?;
        Ok(())
    }
}
