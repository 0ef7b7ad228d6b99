//! The mask head: which pixels of a box belong to its object (Mask R-CNN, He et al., 2017, with
//! ViTDet's norms).

use candle_core::{DType, Tensor};
use candle_nn::{Init, VarBuilder};
use pad_data::{rect::Rect, rle::Rle};
use pad_ops::ImageSize;

use super::{
    Detection, DetectionHeadsConfig, RoiSamples, Target,
    losses::{binary_cross_entropy_sum, nothing, rows},
};
use crate::{
    error::{Error, Result},
    layers::{ChannelNorm, Conv2d, ConvTranspose2x2, msra, same_conv2d},
};

/// Convolutions with norm over channels, a transposed one that doubles the sides, and a map of
/// logits for each class.
#[derive(Clone, Debug)]
pub(super) struct MaskHead {
    convs: Vec<(Conv2d, ChannelNorm)>,
    larger: ConvTranspose2x2,
    classes: Conv2d,
}

/// The probability of each part of a box to belong to its object.
///
/// ```
/// use pad_heads::detection::SoftMask;
/// use pad_ops::ImageSize;
/// let mask = SoftMask { side: 2, values: vec![1.0, 0.0, 1.0, 0.0] }; // the left half
/// let pixels = mask.paste([2.0, 1.0, 6.0, 5.0], ImageSize::new(8, 8))?;
/// assert_eq!(pixels.size(), ImageSize::new(8, 8));
/// assert!((4..=8).contains(&pixels.area()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SoftMask {
    /// Number of rows, and of columns, of bins.
    pub side: usize,
    /// Probability of each bin, row-major.
    pub values: Vec<f32>,
}

/// A detection with its mask.
///
/// ```
/// use pad_heads::detection::{Detection, DetectionWithMask, SoftMask};
/// use pad_ops::ImageSize;
/// let detection = Detection { bbox: [0.0, 0.0, 4.0, 4.0], score: 0.9, label: 0 };
/// let found = DetectionWithMask { detection, mask: SoftMask { side: 1, values: vec![1.0] } };
/// let pixels = found.mask.paste(found.detection.bbox, ImageSize::square(8))?;
/// assert_eq!(pixels.size().area(), 64);
/// # Ok::<(), pad_heads::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct DetectionWithMask {
    /// Box, score and class.
    pub detection: Detection,
    /// Its mask inside the box.
    pub mask: SoftMask,
}

impl SoftMask {
    /// Probability from which a pixel belongs to the object.
    pub const THRESHOLD: f32 = 0.5;

    /// Returns the object's pixels in an image of `size` in which `bbox` (left, top, right, bottom
    /// edge, pixels) is its box: those at whose centre the bilinear interpolation of the bins, 0
    /// outside of them, is at least 0.5 (detectron2's `paste_masks_in_image`).
    ///
    /// # Errors
    /// As [`Rle::new`].
    pub fn paste(&self, bbox: [f32; 4], size: ImageSize) -> pad_data::Result<Rle> {
        let [x1, y1, x2, y2] = bbox;
        let finite = bbox.iter().all(|edge| edge.is_finite());
        if !finite || x2 <= x1 || y2 <= y1 || self.values.len() != self.side * self.side {
            return Ok(Rle::empty(size)?);
        }
        let range = |low: f32, high: f32, whole: usize| {
            let low = low.floor().clamp(0.0, whole as f32) as usize;
            let high = high.ceil().clamp(low as f32, whole as f32) as usize;
            (low, high - low)
        };
        let ((left, width), (top, height)) =
            (range(x1, x2, size.width), range(y1, y2, size.height));
        let side = self.side as f32;
        // The first of two bins and the weight of the second, for a pixel's centre; -1 and `side`
        // are outside.
        let between = |pixel: usize, low: f32, high: f32| {
            let at = (pixel as f32 + 0.5 - low) / (high - low) * side - 0.5;
            (at.floor() as isize, at - at.floor())
        };
        let columns: Vec<(isize, f32)> =
            (left..left + width).map(|column| between(column, x1, x2)).collect();
        let value = |row: isize, column: isize| {
            let inside = |at: isize| usize::try_from(at).ok().filter(|&at| at < self.side);
            match (inside(row), inside(column)) {
                (Some(row), Some(column)) => self.values[row * self.side + column],
                _ => 0.0,
            }
        };
        let window = Rect { top, left, height, width };
        Ok(Rle::within(size, window, |row, column| {
            let (row, down) = between(row, y1, y2);
            let (column, right) = columns[column - left];
            let across = |row| value(row, column) * (1.0 - right) + value(row, column + 1) * right;
            across(row) * (1.0 - down) + across(row + 1) * down >= Self::THRESHOLD
        })?)
    }
}

impl MaskHead {
    pub(super) fn new(config: &DetectionHeadsConfig, vb: VarBuilder) -> Result<Self> {
        let channels = config.channels;
        let conv = |i: usize| {
            let at = vb.pp(format!("mask_fcn{}", i + 1));
            let conv = same_conv2d(channels, channels, 3, false, msra(channels, 3), at.clone())?;
            Ok((conv, ChannelNorm::new(channels, at.pp("norm"))?))
        };
        let normal = Init::Randn { mean: 0.0, stdev: 0.001 };
        Ok(Self {
            convs: (0..config.mask.convs).map(conv).collect::<Result<_>>()?,
            larger: ConvTranspose2x2::new(channels, vb.pp("deconv"))?,
            classes: same_conv2d(channels, config.classes, 1, true, normal, vb.pp("predictor"))?,
        })
    }

    /// (R, C, `pool`, `pool`) -> logits (R, classes, 2 `pool`, 2 `pool`).
    pub(super) fn forward(&self, pooled: &Tensor) -> Result<Tensor> {
        let mut x = pooled.clone();
        for (conv, norm) in &self.convs {
            x = norm.forward(&conv.forward(&x)?)?.relu()?;
        }
        Ok(self.classes.forward(&self.larger.forward(&x)?.relu()?)?)
    }
}

/// Returns the samples of each image that are objects: boxes, classes, and indices among the
/// image's objects.
pub(super) fn objects(samples: &[RoiSamples], classes: usize) -> Vec<RoiSamples> {
    let background = classes as u32;
    let of_image = |image: &RoiSamples| {
        let each = image.boxes.iter().zip(&image.labels).zip(&image.objects);
        let mut kept = RoiSamples::default();
        for ((&bbox, &label), &object) in each.filter(|((_, label), _)| **label < background) {
            kept.boxes.push(bbox);
            kept.labels.push(label);
            kept.objects.push(object);
        }
        kept
    };
    samples.iter().map(of_image).collect()
}

/// Returns the mean binary cross-entropy over the bins of all objects' own classes.
///
/// # Shapes
/// `logits` (R, classes, side, side), a row for each of `objects`.
pub(super) fn loss(logits: &Tensor, objects: &[RoiSamples], targets: &[Target]) -> Result<Tensor> {
    let (count, classes, side, _) = logits.dims4()?;
    if count == 0 {
        return Ok(nothing(logits)?);
    }
    let mut wanted = Vec::with_capacity(count * side * side);
    let mut places = Vec::with_capacity(count);
    for (image, target) in objects.iter().zip(targets) {
        let each = image.boxes.iter().zip(&image.labels).zip(&image.objects);
        for ((&bbox, &label), &object) in each {
            let Some(mask) = target.masks.get(object) else { continue };
            places.push((places.len() * classes) as u32 + label);
            wanted.extend(mask.within(bbox, side));
        }
    }
    if places.len() != count {
        let found = format!("{} masks", places.len());
        return Err(Error::Batch { found, expected: format!("one for each of {count} objects") });
    }
    let wanted = Tensor::from_vec(wanted, (count, side * side), logits.device())?;
    let own = rows(&logits.reshape((count * classes, side * side))?, places)?;
    let sum = binary_cross_entropy_sum(&own, &wanted)?;
    Ok((sum / (count * side * side) as f64)?)
}

/// Returns the probabilities of each detection's own class.
pub(super) fn probabilities(logits: &Tensor, labels: &[u32]) -> Result<Vec<SoftMask>> {
    let (count, classes, side, _) = logits.dims4()?;
    let places = labels.iter().enumerate().map(|(row, &label)| (row * classes) as u32 + label);
    let own = rows(&logits.reshape((count * classes, side * side))?, places.collect())?;
    let values = candle_nn::ops::sigmoid(&own.to_dtype(DType::F32)?)?.to_vec2::<f32>()?;
    Ok(values.into_iter().map(|values| SoftMask { side, values }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ImageSize = ImageSize::new(30, 40);

    fn pasted(side: usize, values: &[f32], bbox: [f32; 4]) -> Rle {
        SoftMask { side, values: values.to_vec() }.paste(bbox, SIZE).unwrap()
    }

    #[test]
    fn masks_are_pasted_into_their_boxes() {
        // Numbers of PyTorch's `grid_sample` with zeros beyond the bins.
        let uneven = [0.1, 0.9, 0.3, 0.6, 0.8, 0.2, 0.7, 0.4, 0.95];
        for (side, values, bbox, area, [top, left, bottom, right]) in [
            (2, &[0.9; 4][..], [10.0, 5.0, 20.0, 9.0], 36, [5, 10, 9, 20]),
            (2, &[1.0, 0.0, 1.0, 0.0], [10.0, 5.0, 20.0, 25.0], 84, [5, 10, 25, 15]),
            (2, &[1.0; 4], [30.0, -10.0, 50.0, 10.0], 90, [0, 30, 10, 40]),
            (3, &uneven, [3.3, 4.7, 35.1, 27.9], 356, [5, 6, 28, 34]),
        ] {
            let mask = pasted(side, values, bbox);
            let expected = Rect { top, left, height: bottom - top, width: right - left };
            assert_eq!((mask.area(), mask.bounds()), (area, Some(expected)), "{bbox:?}");
        }
        for bbox in [[5.0, 5.0, 5.0, 9.0], [f32::NAN, 0.0, 9.0, 9.0], [90.0, 90.0, 99.0, 99.0]] {
            assert_eq!(pasted(2, &[1.0; 4], bbox).area(), 0, "{bbox:?}");
        }
    }
}
