//! The class of every pixel of an image, from the stored image on.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use pad_data::{
    image::Image, sets::segmentation::ClassMap, transform::segmentation::SegmentationPipeline,
};

use super::{Augmentation, InferenceMode, SegmentationModel, predict, size_of};
use crate::error::Result;

/// How images are prepared and go through a segmentor.
///
/// ```
/// use pad_heads::segmentation::{Augmentation, InferenceMode, SegmentationInference};
/// let plain = SegmentationInference::default();
/// plain.validate()?;
/// assert_eq!(plain.mode, InferenceMode::Whole);
/// let augmentation = Augmentation { scales: vec![], flip: false };
/// assert!(SegmentationInference { augmentation, ..plain }.validate().is_err()); // no scale
/// # Ok::<(), pad_heads::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentationInference {
    /// From an image to the network's input: base scale, input statistics, window of counts,
    /// channels.
    pub pipeline: SegmentationPipeline,
    /// Whole, or in sliding windows.
    pub mode: InferenceMode,
    /// Test-time augmentation.
    pub augmentation: Augmentation,
}

impl SegmentationInference {
    /// Checks every part.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), [`Error::Data`](crate::Error::Data).
    pub fn validate(&self) -> Result<()> {
        self.pipeline.validate()?;
        if let InferenceMode::Sliding(window) = &self.mode {
            window.validate()?;
        }
        self.augmentation.validate()
    }
}

/// The prediction for an image, at its own size.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::vit::ViTConfig;
/// use pad_data::{image::{Image, Pixels}, sets::segmentation::Classes};
/// use pad_data::transform::segmentation::{Rescale, SegmentationPipeline};
/// use pad_heads::Start;
/// use pad_heads::segmentation::{SegmentationInference, SegmentationModel, SegmentorConfig};
/// use pad_ops::{ImageSize, rng::Key};
/// # let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// # let classes = Classes::new(["ground", "person"])?;
/// # let start = Start::new(&Device::Cpu, Key::new(0));
/// # let model = SegmentationModel::new(&SegmentorConfig::probe(vit, 2), classes, None, &start)?;
/// # let rescale = Rescale { scale: None, ..Default::default() };
/// # let pipeline = SegmentationPipeline { rescale, ..Default::default() };
/// # let inference = SegmentationInference { pipeline, ..Default::default() };
/// // `model` tells two classes apart.
/// let image = Image::new(ImageSize::new(48, 64), 1, Pixels::U8(vec![0; 48 * 64]))?;
/// let predicted = model.predict(image, &inference)?;
/// assert_eq!(predicted.scores.len(), 48 * 64); // of the class in `predicted.classes`
/// assert!(predicted.scores.iter().all(|score| (0.5..=1.0).contains(score)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PredictedClasses {
    /// The most probable class of each pixel.
    pub classes: ClassMap,
    /// Its probability, row-major.
    pub scores: Vec<f32>,
    /// Time from the prepared image to the classes, seconds.
    pub seconds: f64,
    /// Multiply-adds of all forward passes.
    pub macs: f64,
}

impl SegmentationModel {
    /// Predicts the class of every pixel of an image of any size.
    ///
    /// # Errors
    /// As [`predict`](predict()); an image that the pipeline refuses.
    pub fn predict(
        &self,
        image: Image,
        inference: &SegmentationInference,
    ) -> Result<PredictedClasses> {
        let size = image.size();
        let (values, scaled) = inference.pipeline.test(image)?;
        let start = Instant::now();
        let shape = (1, inference.pipeline.channels, scaled.height, scaled.width);
        let images = Tensor::from_vec(values, shape, self.device())?;
        let macs = std::cell::Cell::new(0.0);
        let model = |images: &Tensor| {
            let per_image = self.network.config().macs(size_of(images)?);
            macs.set(macs.get() + images.dim(0)? as f64 * per_image);
            self.network.logits(&images.to_device(self.device())?)
        };
        let probabilities =
            predict(&images, size, inference.mode, &inference.augmentation, &model)?;
        let probabilities = probabilities.squeeze(0)?.to_device(&Device::Cpu)?;
        let classes =
            probabilities.argmax(0)?.to_dtype(DType::U8)?.flatten_all()?.to_vec1::<u8>()?;
        let scores = probabilities.max(0)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(PredictedClasses {
            classes: ClassMap::new(size, classes)?,
            scores,
            seconds: start.elapsed().as_secs_f64(),
            macs: macs.get(),
        })
    }
}
