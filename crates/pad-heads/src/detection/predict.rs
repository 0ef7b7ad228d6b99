//! The objects in an image, from the stored image on.

use std::time::Instant;

use pad_data::{
    draw::{Canvas, DrawnBox},
    image::Image,
    rle::{Rle, Segmentation},
    sets::detection::BoxClasses,
    transform::detection::{DetectionPipeline, batch_of},
};
use pad_ops::ImageSize;

use super::{
    Detection, DetectionModel,
    coco::{CocoId, CocoResult},
};
use crate::error::Result;

/// Sides of the network's input are multiples of this, pixels, so that with patches of 16 each
/// level of the pyramid is half of the one before it.
const SIZE_DIVISIBILITY: usize = 64;

/// Opacity of masks in pictures.
pub(super) const MASK_OPACITY: f32 = 0.45;

/// An object found, in the pixels of its image.
///
/// ```
/// use pad_data::{draw::Canvas, sets::detection::BoxClasses};
/// use pad_heads::detection::{Detection, PredictedObject};
/// use pad_ops::ImageSize;
/// let detection = Detection { bbox: [2.0, 3.0, 10.0, 9.0], score: 0.5, label: 1 };
/// let car = PredictedObject { detection, mask: None };
/// let classes = BoxClasses::named(["person", "car"])?;
/// let result = car.to_coco(7, &classes).unwrap(); // left, top, width, height
/// assert_eq!((result.bbox, result.score), ([2.0, 3.0, 8.0, 6.0], 0.5));
/// // On a picture of its image: the box, and the pixels if there is a mask.
/// assert_eq!(car.drawn().score, Some(0.5));
/// car.paint(&mut Canvas::new(ImageSize::square(16), [0; 3]))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PredictedObject {
    /// Box, score and class.
    pub detection: Detection,
    /// Its pixels, from a detector with a mask head.
    pub mask: Option<Rle>,
}

/// The objects in an image.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::vit::ViTConfig;
/// use pad_data::{image::{Image, Pixels}, sets::detection::BoxClasses};
/// use pad_data::transform::detection::DetectionPipeline;
/// use pad_heads::{Start, detection::{DetectionModel, DetectorConfig, PredictedObjects}};
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
/// let image = Image::new(ImageSize::new(48, 64), 1, Pixels::U8(vec![0; 48 * 64]))?;
/// let PredictedObjects { objects, macs, .. } =
///     model.predict(image, &DetectionPipeline::square(64))?;
/// assert!(macs > 1e6 && objects.iter().all(|object| object.detection.bbox[3] <= 48.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PredictedObjects {
    /// The objects, best score first, in the pixels of the image.
    pub objects: Vec<PredictedObject>,
    /// Time from the prepared image to the objects, seconds.
    pub seconds: f64,
    /// Multiply-adds of the forward pass.
    pub macs: f64,
}

impl PredictedObject {
    /// Moves the object from an image of size `from` to the same one of size `to`.
    pub(super) fn rescale(&mut self, from: ImageSize, to: ImageSize) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let across = to.width as f32 / from.width as f32;
        let down = to.height as f32 / from.height as f32;
        let [x1, y1, x2, y2] = self.detection.bbox;
        self.detection.bbox = [x1 * across, y1 * down, x2 * across, y2 * down];
        if let Some(mask) = &mut self.mask {
            *mask = mask.resized(to).map_err(pad_data::Error::from)?;
        }
        Ok(())
    }

    /// As a box to draw.
    pub fn drawn(&self) -> DrawnBox {
        let Detection { bbox, score, label } = self.detection;
        DrawnBox { bbox, class: label, score: Some(score) }
    }

    /// Colours its pixels in a picture of its image; does nothing without a mask.
    ///
    /// # Errors
    /// A picture of another size.
    pub fn paint(&self, canvas: &mut Canvas) -> Result<()> {
        if let Some(mask) = &self.mask {
            canvas.overlay_mask(mask, BoxClasses::color(self.detection.label), MASK_OPACITY)?;
        }
        Ok(())
    }

    /// As an entry of COCO's results files, with the category number that `classes` has for its
    /// class. Returns `None` for a class that is not among them.
    pub fn to_coco(&self, image_id: impl Into<CocoId>, classes: &BoxClasses) -> Option<CocoResult> {
        let Detection { bbox, score, label } = self.detection;
        let [x1, y1, x2, y2] = bbox.map(f64::from);
        Some(CocoResult {
            image_id: image_id.into(),
            category_id: classes.id(label)?.into(),
            bbox: [x1, y1, x2 - x1, y2 - y1],
            score: f64::from(score),
            segmentation: self.mask.clone().map(Segmentation::Runs),
        })
    }
}

impl DetectionModel {
    /// Finds the objects in an image of any size, with masks if the detector has a mask head.
    ///
    /// # Errors
    /// An image that the pipeline refuses; as [`Detector::detect`](super::Detector::detect).
    pub fn predict(&self, image: Image, pipeline: &DetectionPipeline) -> Result<PredictedObjects> {
        let config = self.network.config();
        let image = pipeline.test(image)?;
        let (images, sizes) = batch_of(std::slice::from_ref(&image), SIZE_DIVISIBILITY)?;
        let start = Instant::now();
        let images = images.to_device(self.device())?;
        let found: Vec<_> = match config.masks {
            true => {
                let found = self.network.detect_with_masks(&images, &sizes)?.pop();
                let found = found.unwrap_or_default().into_iter();
                found.map(|one| (one.detection, Some(one.mask))).collect()
            }
            false => {
                let found = self.network.detect(&images, &sizes)?.pop().unwrap_or_default();
                found.into_iter().map(|detection| (detection, None)).collect()
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        let mut objects = Vec::with_capacity(found.len());
        for (found, mask) in found {
            let detection = Detection { bbox: image.to_original(found.bbox), ..found };
            // Clipping to the image may leave nothing of a box.
            if super::boxes::has_area(detection.bbox) {
                let paste = |mask: super::SoftMask| mask.paste(detection.bbox, image.original);
                objects.push(PredictedObject { detection, mask: mask.map(paste).transpose()? });
            }
        }
        let (_, _, height, width) = images.dims4()?;
        let macs = config.macs(ImageSize { height, width });
        Ok(PredictedObjects { objects, seconds, macs })
    }
}
