//! Detections of a labelled set, and what they are worth; during training, too.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pad::{
    data::{
        image::{DecodeOptions, Image},
        sets::detection::DetectionSource,
        transform::detection::{DetectionPipeline, batch_of},
    },
    heads::detection::{
        Detection,
        coco::{CocoMetrics, CocoResult, CocoTruth, evaluate},
    },
    train::{BoxError, EpochInfo, Flow, Hook, StepInfo, TrainerView},
};

use super::{
    data::{Source, truth},
    model::Network,
    report::NAMES,
};
use crate::cli::Result;

/// What a detector found in a set.
pub struct Measured {
    pub metrics: CocoMetrics,
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
) -> Result<(Vec<Detection>, Duration, f64)> {
    let image = pipeline.test(image)?;
    let (images, sizes) = batch_of(std::slice::from_ref(&image), network.multiple())?;
    let start = Instant::now();
    let found = network.detect(&images, &sizes)?.into_iter().next().unwrap_or_default();
    let time = start.elapsed();
    let found = found
        .into_iter()
        .map(|one| Detection { bbox: image.to_original(one.bbox), ..one })
        // Beside the image there is nothing to be seen.
        .filter(|one| one.bbox[0] < one.bbox[2] && one.bbox[1] < one.bbox[3]);
    let macs = network.macs(&images)?;
    Ok((found.collect(), time, macs))
}

/// A detection as COCO writes it.
pub fn result(image_id: i64, category_id: i64, found: &Detection) -> CocoResult {
    let [x1, y1, x2, y2] = found.bbox.map(f64::from);
    let bbox = [x1, y1, x2 - x1, y2 - y1];
    CocoResult { image_id, category_id, bbox, score: f64::from(found.score) }
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
            let category = source.classes().id(one.label).ok_or("a detection of no class")?;
            results.push(result(image_id, category, one));
        }
    }
    let metrics = evaluate(truth, &results)?;
    let gmacs = macs / 1e9 / source.len().max(1) as f64;
    Ok(Measured { metrics, results, times_ms, gmacs })
}

/// Measures AP every so many epochs and after the last step; the best checkpoint is kept.
pub struct Evaluation<'a> {
    network: &'a Network,
    source: Source,
    truth: CocoTruth,
    pipeline: DetectionPipeline,
    every_epochs: usize,
    best: Option<(f64, usize)>,
    newest: Option<CocoMetrics>,
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
        self.measured_at = step;
        self.newest = Some(found.metrics);
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
        if let Some(metrics) = &self.newest {
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
