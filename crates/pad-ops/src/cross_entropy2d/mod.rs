//! Cross-entropy of every pixel, with ignored pixels, class weights and hard pixels only.
//!
//! `loss = sum_p w_p (logsumexp_c x[c, p] - x[label_p, p]) / n`. Saved for the backward: the operand; per pixel a label, a
//! weight and the logarithm of the sum.

mod cpu;
mod reference;
mod weights;

use candle_core::{DType, Result as CandleResult, Shape, Tensor};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, check,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
};
use cpu::Pixels;
pub use reference::cross_entropy2d_reference;

/// What the sum over pixels is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelMean {
    /// By all pixels, ignored ones too (mmsegmentation up to 0.x, the original's).
    #[default]
    All,
    /// By the weights of the pixels that count (PyTorch, Hugging Face); pixels left out as easy do not count.
    Valid,
}

/// Only hard pixels count (online hard example mining, mmsegmentation's `OHEMPixelSampler`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardPixels {
    /// A pixel counts if its own class's probability is below this; if absent, the pixels of the largest losses count.
    pub threshold: Option<f64>,
    /// As many pixels per image count at least (by threshold: up to equal probabilities), if there are so many.
    pub min_kept: usize,
}

/// How [`cross_entropy2d`] counts pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrossEntropy {
    /// Label of pixels that do not count. Default 255.
    pub ignore: u32,
    /// What the sum is divided by. Default: all pixels.
    pub mean: PixelMean,
    /// A weight per class, if not all are equal.
    pub class_weights: Option<Vec<f32>>,
    /// Whether only hard pixels count.
    pub hard: Option<HardPixels>,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self { ignore: 255, mean: PixelMean::All, class_weights: None, hard: None }
    }
}

/// The loss of `logits` against `labels`; 0 with a gradient of zeros if no pixel counts. Gradients go to `logits` alone.
///
/// # Shapes
/// `logits` (B, C, H, W), floating dtype; `labels` (B, H, W), `u8` or `u32`, each below C or the ignored one; result: a
/// scalar.
///
/// # Errors
/// [`Error::Shape`] or `DType`; [`Error::Value`] for a label beyond the classes, or class weights that are not one a
/// class, finite and not negative.
pub fn cross_entropy2d(logits: &Tensor, labels: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
    const OP: &str = "cross_entropy2d";
    let labels = checked_labels(OP, logits, labels, options)?;
    if !has_kernel(logits) || logits.elem_count() == 0 {
        return reference::with_labels(logits, labels, options);
    }
    let (batch, classes, height, width) = logits.dims4()?;
    let logits = logits.contiguous()?;
    let pixels = {
        let x = slices::borrow(&logits)?;
        Pixels::new(&x, labels, batch, classes, height * width, options)
    };
    let loss = pixels.loss();
    let backward = CrossEntropyBackward { logits: logits.clone(), pixels };
    Ok(nary::apply(OP, &logits, &[], vec![loss], Shape::from(()), backward)?)
}

struct CrossEntropyBackward {
    logits: Tensor,
    pixels: Pixels,
}

impl Backward for CrossEntropyBackward {
    fn backward(&self, d_y: &[f32], d_x: bool, _wanted: &[bool]) -> CandleResult<Gradients> {
        let x = slices::borrow(&self.logits)?;
        let d_loss = d_y.first().copied().unwrap_or(0.0);
        Ok(Gradients { d_x: d_x.then(|| self.pixels.d_logits(&x, d_loss)), d_params: Vec::new() })
    }
}

/// The labels as numbers, after every check.
fn checked_labels(
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
    let labels = labels.flatten_all()?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    let beyond = |label: u32| label != options.ignore && label as usize >= classes;
    if let Some(place) = labels.iter().position(|&label| beyond(label)) {
        let (image, pixel) = (place / (height * width), place % (height * width));
        let found = format!(
            "{} in image {image} at row {}, column {}",
            labels[place],
            pixel / width,
            pixel % width
        );
        let expected = format!("a label below {classes}, or {} to be ignored", options.ignore);
        return Err(value("labels", expected, found));
    }
    Ok(labels)
}
