//! The formula in candle operations.

use candle_core::Tensor;

use crate::{Result, products::wide};

/// [`channel_norm2d`](crate::channel_norm2d) in candle operations: any device and floating dtype.
///
/// # Shapes
/// `x` (B, C, H, W); `weight`, `bias` (C).
///
/// # Errors
/// Any error of candle.
pub fn channel_norm2d_reference(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let (channels, dtype) = (x.dim(1)?, x.dtype());
    let x = x.to_dtype(wide(dtype))?;
    let affine = |tensor: &Tensor| tensor.reshape((1, channels, 1, 1))?.to_dtype(x.dtype());
    let centred = x.broadcast_sub(&x.mean_keepdim(1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(1)? + eps)?.sqrt()?;
    let normal = centred.broadcast_div(&deviation)?;
    let y = normal.broadcast_mul(&affine(weight)?)?.broadcast_add(&affine(bias)?)?;
    Ok(y.to_dtype(dtype)?)
}
