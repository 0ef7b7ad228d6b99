//! How pixels count, and the checks of labels.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, check};

/// The divisor of the sum over pixels.
///
/// ```
/// use pad_ops::PixelMean;
/// assert_eq!(PixelMean::default(), PixelMean::All); // ignored pixels are in the divisor
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelMean {
    /// All pixels, ignored ones too (mmsegmentation up to 0.x, the original's).
    #[default]
    All,
    /// The weights of the pixels that count (PyTorch, Hugging Face); pixels left out as easy do not
    /// count.
    Valid,
}

/// Only hard pixels count (online hard example mining, mmsegmentation's `OHEMPixelSampler`).
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{CrossEntropy, HardPixels, cross_entropy2d};
/// let logits = Tensor::new(&[[[[0_f32, 9.0]], [[0.0, 0.0]]]], &Device::Cpu)?; // the second pixel is easy
/// let labels = Tensor::new(&[[[0_u8, 0]]], &Device::Cpu)?;
/// let hard = Some(HardPixels { threshold: Some(0.7), min_kept: 0 });
/// let options = CrossEntropy { hard, ..Default::default() };
/// let loss = cross_entropy2d(&logits, &labels, &options)?.to_scalar::<f32>()?;
/// assert!((loss - 2_f32.ln() / 2.0).abs() < 1e-6); // of the first alone, over both pixels
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardPixels {
    /// A pixel counts if its own class's probability is below this; if absent, the pixels of the
    /// largest losses count.
    pub threshold: Option<f64>,
    /// Minimum number of pixels kept per image (all of them if there are fewer); with a threshold,
    /// pixels of equal probability may make it more.
    pub min_kept: usize,
}

/// How [`cross_entropy2d`](crate::cross_entropy2d()) counts pixels.
///
/// ```
/// use pad_ops::{CrossEntropy, PixelMean};
/// let options = CrossEntropy::default();
/// assert_eq!((options.ignore_index, options.mean), (Some(255), PixelMean::All));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrossEntropy {
    /// Label of pixels that do not count; `None`: all pixels count. Default 255.
    #[serde(alias = "ignore")]
    pub ignore_index: Option<u32>,
    /// The divisor of the sum. Default: all pixels.
    pub mean: PixelMean,
    /// A weight per class, if not all are equal.
    pub class_weights: Option<Vec<f32>>,
    /// Whether only hard pixels count.
    pub hard: Option<HardPixels>,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self { ignore_index: Some(255), mean: PixelMean::All, class_weights: None, hard: None }
    }
}

/// The labels as numbers, after every check.
pub(super) fn checked_labels(
    op: &'static str,
    logits: &Tensor,
    labels: &Tensor,
    options: &CrossEntropy,
) -> Result<Vec<u32>> {
    check::expect_rank(op, "logits", logits, 4, "(B, C, H, W)")?;
    check::expect_float(op, "logits", logits)?;
    let (batch, classes, height, width) = logits.dims4()?;
    check::expect_shape(op, "labels", labels, &[batch, height, width])?;
    if !matches!(labels.dtype(), DType::U8 | DType::U32) {
        let (arg, expected) = ("labels", "U8 or U32".to_string());
        return Err(Error::DType { op, arg, expected, found: labels.dtype() });
    }
    let value = |arg, expected: String, found: String| Error::Value { op, arg, expected, found };
    if let Some(weights) = &options.class_weights {
        if weights.len() != classes {
            let expected = format!("one weight for each of {classes} classes");
            return Err(value("class_weights", expected, format!("{} weights", weights.len())));
        }
        if let Some(bad) = weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
            return Err(value("class_weights", "finite weights >= 0".into(), bad.to_string()));
        }
    }
    if let Some(threshold) = options.hard.and_then(|hard| hard.threshold)
        && !(0.0..=1.0).contains(&threshold)
    {
        let expected = "a probability between 0 and 1".into();
        return Err(value("hard.threshold", expected, threshold.to_string()));
    }
    let labels = labels.flatten_all()?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    let beyond = |label: u32| Some(label) != options.ignore_index && label as usize >= classes;
    if let Some(place) = labels.iter().position(|&label| beyond(label)) {
        let (image, pixel) = (place / (height * width), place % (height * width));
        let found = format!(
            "{} in image {image} at row {}, column {}",
            labels[place],
            pixel / width,
            pixel % width
        );
        let expected = match options.ignore_index {
            Some(ignored) => format!("a label below {classes}, or {ignored} to be ignored"),
            None => format!("a label below {classes}"),
        };
        return Err(value("labels", expected, found));
    }
    Ok(labels)
}
