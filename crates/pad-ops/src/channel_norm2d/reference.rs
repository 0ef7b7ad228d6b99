//! The formula in candle operations.

use candle_core::Tensor;

use crate::Result;

/// [`channel_norm2d`](crate::channel_norm2d) in candle operations: any device and floating dtype.
///
/// # Shapes
/// `x` (B, C, H, W); `weight`, `bias` (C).
///
/// # Errors
/// Whatever candle refuses.
pub fn channel_norm2d_reference(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let channels = x.dim(1)?;
    let affine = |tensor: &Tensor| tensor.reshape((1, channels, 1, 1));
    let centred = x.broadcast_sub(&x.mean_keepdim(1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(1)? + eps)?.sqrt()?;
    let normal = centred.broadcast_div(&deviation)?;
    Ok(normal.broadcast_mul(&affine(weight)?)?.broadcast_add(&affine(bias)?)?)
}
