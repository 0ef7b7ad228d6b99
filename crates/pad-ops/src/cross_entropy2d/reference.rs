//! The loss in candle operations.

use candle_core::{D, DType, Device, Tensor};

use super::{
    options::{CrossEntropy, checked_labels},
    weights::pixel_weights,
};
use crate::{Result, products::wide};

/// [`cross_entropy2d`](crate::cross_entropy2d) in candle operations: any device and floating dtype.
///
/// # Shapes
/// `logits` (B, C, H, W); `labels` (B, H, W); result: a scalar.
///
/// # Errors
/// As [`cross_entropy2d`](crate::cross_entropy2d).
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{CrossEntropy, reference};
/// let logits = Tensor::zeros((1, 2, 1, 1), DType::F64, &Device::Cpu)?;
/// let labels = Tensor::new(&[[[1_u8]]], &Device::Cpu)?;
/// let loss = reference::cross_entropy2d(&logits, &labels, &CrossEntropy::default())?;
/// assert!((loss.to_scalar::<f64>()? - 2_f64.ln()).abs() < 1e-6);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn cross_entropy2d_reference(
    logits: &Tensor,
    labels: &Tensor,
    options: &CrossEntropy,
) -> Result<Tensor> {
    let labels = checked_labels("cross_entropy2d", logits, labels, options)?;
    with_labels(logits, labels, options)
}

pub(super) fn with_labels(
    logits: &Tensor,
    labels: Vec<u32>,
    options: &CrossEntropy,
) -> Result<Tensor> {
    let (batch, classes, height, width) = logits.dims4()?;
    let pixels = batch * height * width;
    let dtype = logits.dtype();
    let logits = logits.to_dtype(wide(dtype))?;
    let rows = logits.permute((0, 2, 3, 1))?.contiguous()?.reshape((pixels, classes))?;
    let peak = rows.detach().max_keepdim(D::Minus1)?;
    let sums = rows.broadcast_sub(&peak)?.exp()?.sum_keepdim(D::Minus1)?;
    let own =
        labels.iter().map(|&label| if Some(label) == options.ignore_index { 0 } else { label });
    let own = Tensor::from_vec(own.collect::<Vec<u32>>(), (pixels, 1), logits.device())?;
    let losses = ((sums.log()? + peak)? - rows.gather(&own, 1)?)?.flatten_all()?;
    let values = losses.detach().to_dtype(DType::F32)?.to_vec1::<f32>()?;
    let weights = pixel_weights(&labels, &values, batch, options);
    let weights = Tensor::from_vec(weights, pixels, &Device::Cpu)?;
    let weights = weights.to_dtype(logits.dtype())?.to_device(logits.device())?;
    Ok((losses * weights)?.sum_all()?.to_dtype(dtype)?)
}
