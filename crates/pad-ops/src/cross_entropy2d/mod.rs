//! Cross-entropy of every pixel, with ignored pixels, class weights and hard pixels only.
//!
//! `loss = sum_p w_p (logsumexp_c x[c, p] - x[label_p, p]) / n`. Saved for the backward: the
//! operand; per pixel a label, a weight and the logarithm of the sum.

mod cpu;
mod options;
mod reference;
mod weights;

use candle_core::{Result as CandleResult, Shape, Tensor};

use crate::{
    Result,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
    empty,
};
use cpu::Pixels;
use options::checked_labels;
pub use options::{CrossEntropy, HardPixels, PixelMean};
pub use reference::cross_entropy2d_reference;

/// Computes the loss of `logits` against `labels`; 0 with a gradient of zeros if no pixel counts or
/// there are no pixels. Gradients go to `logits` alone.
///
/// By default the sum is divided by the number of *all* pixels, ignored ones included, as the
/// original's mmsegmentation has it; PyTorch and Hugging Face divide by the valid ones
/// ([`PixelMean::Valid`]).
///
/// # Shapes
/// `logits` (B, C, H, W), floating dtype; `labels` (B, H, W), `u8` or `u32`, each below C or the
/// ignored one; result: a scalar.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) or `DType`; `Value` for a label beyond the classes, or
/// class weights that are not one a class, finite and not negative, or a threshold of hard pixels
/// that is no probability.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{CrossEntropy, PixelMean, cross_entropy2d};
/// let logits = Tensor::zeros((1, 2, 1, 2), candle_core::DType::F32, &Device::Cpu)?;
/// let labels = Tensor::new(&[[[1_u8, 255]]], &Device::Cpu)?; // the second pixel is ignored
/// let mut options = CrossEntropy::default();
/// let all = cross_entropy2d(&logits, &labels, &options)?.to_scalar::<f32>()?;
/// options.mean = PixelMean::Valid;
/// let valid = cross_entropy2d(&logits, &labels, &options)?.to_scalar::<f32>()?;
/// assert!((all - 2_f32.ln() / 2.0).abs() < 1e-6 && (valid - 2_f32.ln()).abs() < 1e-6);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn cross_entropy2d(logits: &Tensor, labels: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
    const OP: &str = "cross_entropy2d";
    let labels = checked_labels(OP, logits, labels, options)?;
    if logits.elem_count() == 0 {
        let none = Tensor::zeros((), logits.dtype(), logits.device())?;
        return Ok(empty::reaching(&none, &[logits])?);
    }
    if !has_kernel(logits) {
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
