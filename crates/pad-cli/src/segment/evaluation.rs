//! Class maps of images, and how good they are.

use candle_core::{DType, Device, Tensor};
use pad::{
    data::{
        image::{DecodeOptions, Image},
        sets::segmentation::ClassMap,
        transform::segmentation::SegmentationPipeline,
    },
    heads::segmentation::{Augmentation, InferenceMode, Segmentor, metrics::Confusion, predict},
    train::{BoxError, EpochInfo, Flow, Hook, TrainerView},
};
use serde_json::{Value, json};

use super::{data::Source, settings::Settings};
use crate::run::Result;

/// How images are looked at.
#[derive(Clone, Debug)]
pub struct Looking {
    pub pipeline: SegmentationPipeline,
    pub extent: InferenceMode,
    pub augmentation: Augmentation,
    pub device: Device,
}

impl Looking {
    pub fn new(settings: &Settings, ignore: u8, device: &Device) -> Result<Self> {
        Ok(Self {
            pipeline: settings.pipeline(ignore)?,
            extent: settings.extent()?,
            augmentation: settings.augmentation()?,
            device: device.clone(),
        })
    }

    /// The class of every pixel of an image, and its probability.
    pub fn classes(&self, segmentor: &Segmentor, image: Image) -> Result<(ClassMap, Vec<f32>)> {
        let size = image.size();
        let (values, scaled) = self.pipeline.test(image)?;
        let shape = (1, self.pipeline.channels, scaled.height, scaled.width);
        let images = Tensor::from_vec(values, shape, &self.device)?;
        let model = |images: &Tensor| segmentor.logits(&images.to_device(&self.device)?);
        let shares = predict(&images, size, self.extent, &self.augmentation, &model)?;
        let shares = shares.squeeze(0)?.to_device(&Device::Cpu)?;
        let classes = shares.argmax(0)?.to_dtype(DType::U8)?.flatten_all()?.to_vec1::<u8>()?;
        let scores = shares.max(0)?.flatten_all()?.to_vec1::<f32>()?;
        Ok((ClassMap::new(size, classes)?, scores))
    }
}

/// The whole set.
pub fn measure(segmentor: &Segmentor, source: &Source, looking: &Looking) -> Result<Confusion> {
    let classes = source.classes();
    let mut confusion = Confusion::new(classes.len(), Some(classes.ignore))?;
    for index in 0..source.len() {
        let (image, labels) = source.load(index, &DecodeOptions::default())?;
        let (found, _) = looking.classes(segmentor, image)?;
        confusion
            .add(found.classes(), labels.classes())
            .map_err(|error| format!("{}: {error}", source.name(index)))?;
    }
    Ok(confusion)
}

/// Measures mIoU between updates and marks the best checkpoint.
pub struct Evaluation<'a> {
    segmentor: &'a Segmentor,
    source: &'a Source,
    looking: Looking,
    best: Option<(f64, usize)>,
}

impl<'a> Evaluation<'a> {
    pub fn new(segmentor: &'a Segmentor, source: &'a Source, looking: Looking) -> Self {
        Self { segmentor, source, looking, best: None }
    }

    /// The best mIoU, and after how many updates it was reached.
    pub fn best(&self) -> Option<(f64, usize)> {
        self.best
    }
}

impl Hook for Evaluation<'_> {
    fn name(&self) -> &str {
        "evaluation"
    }

    fn after_epoch(
        &mut self,
        epoch: &mut EpochInfo,
        _: &TrainerView<'_>,
    ) -> Result<Flow, BoxError> {
        let metrics = measure(self.segmentor, self.source, &self.looking)?.metrics();
        let numbers = [
            ("val/mean_iou", metrics.mean_iou),
            ("val/mean_accuracy", metrics.mean_accuracy),
            ("val/pixel_accuracy", metrics.pixel_accuracy),
        ];
        epoch.metrics.extend(numbers.map(|(name, value)| (name.to_string(), value)));
        let mean_iou = metrics.mean_iou;
        tracing::info!("mIoU {:.2} after {} updates", 100.0 * mean_iou, epoch.step);
        if self.best.is_some_and(|(best, _)| best >= mean_iou) || mean_iou.is_nan() {
            return Ok(Flow::Continue);
        }
        self.best = Some((mean_iou, epoch.step));
        Ok(Flow::Best)
    }

    fn state(&self) -> Value {
        self.best.map_or(Value::Null, |(mean_iou, step)| json!([mean_iou, step]))
    }

    fn restore(&mut self, state: &Value) -> Result<(), BoxError> {
        self.best = serde_json::from_value(state.clone())?;
        Ok(())
    }
}
