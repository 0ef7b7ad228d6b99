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
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let x = Tensor::new(&[[[[1_f64]], [[3.0]]]], &Device::Cpu)?;
/// let (one, zero) = (x.ones_like()?.flatten_all()?, x.zeros_like()?.flatten_all()?);
/// let y = pad_ops::reference::channel_norm2d(&x, &one, &zero, 0.0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, [-1.0, 1.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
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
