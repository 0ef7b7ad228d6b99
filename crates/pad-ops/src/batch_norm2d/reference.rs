//! Batch norm in candle operations.

use candle_core::Tensor;

use super::Moments;
use crate::{Result, products::wide};

/// [`batch_norm2d`](crate::batch_norm2d) in candle operations: any device and floating dtype.
///
/// # Shapes
/// `x` (B, C, H, W); `weight`, `bias` (C).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let x = Tensor::new(&[[[[1_f64, 3.0]]]], &Device::Cpu)?;
/// let (one, zero) = (Tensor::new(&[1_f64], &Device::Cpu)?, Tensor::new(&[0_f64], &Device::Cpu)?);
/// let (y, moments) = pad_ops::reference::batch_norm2d(&x, &one, &zero, 0.0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, [-1.0, 1.0]);
/// assert_eq!(moments.variance.to_vec1::<f64>()?, [2.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn batch_norm2d_reference(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<(Tensor, Moments)> {
    let (b, channels, height, width) = x.dims4()?;
    let count = (b * height * width) as f64;
    let dtype = x.dtype();
    let (x, weight, bias) = widened(x, weight, bias)?;
    let mean = x.mean_keepdim((0, 2, 3))?;
    let centred = x.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim((0, 2, 3))?;
    let y = centred.broadcast_div(&(&variance + eps)?.sqrt()?)?;
    let y = y
        .broadcast_mul(&weight.reshape((1, channels, 1, 1))?)?
        .broadcast_add(&bias.reshape((1, channels, 1, 1))?)?;
    let variance = (variance * (count / (count - 1.0)))?;
    let flat = |tensor: &Tensor| tensor.detach().reshape(channels)?.to_dtype(dtype);
    Ok((y.to_dtype(dtype)?, Moments { mean: flat(&mean)?, variance: flat(&variance)? }))
}

/// [`batch_norm2d_with`](crate::batch_norm2d_with) in candle operations: any device and floating
/// dtype.
///
/// # Shapes
/// `x` (B, C, H, W); everything else (C).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{Moments, reference};
/// let one = |value: f64| Tensor::new(&[value], &Device::Cpu);
/// let x = Tensor::new(&[[[[1_f64, 3.0]]]], &Device::Cpu)?;
/// let moments = Moments { mean: one(1.0)?, variance: one(4.0)? };
/// let y = reference::batch_norm2d_with(&x, &moments, &one(1.0)?, &one(0.0)?, 0.0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, [0.0, 1.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn batch_norm2d_with_reference(
    x: &Tensor,
    moments: &Moments,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let (channels, dtype) = (x.dim(1)?, x.dtype());
    let (x, weight, bias) = widened(x, weight, bias)?;
    let wide = |tensor: &Tensor| tensor.reshape((1, channels, 1, 1))?.to_dtype(x.dtype());
    let deviation = (wide(&moments.variance.detach())? + eps)?.sqrt()?;
    let y = x.broadcast_sub(&wide(&moments.mean.detach())?)?.broadcast_div(&deviation)?;
    Ok(y.broadcast_mul(&wide(&weight)?)?.broadcast_add(&wide(&bias)?)?.to_dtype(dtype)?)
}

/// The operands as sums are taken.
fn widened(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let wide = |tensor: &Tensor| tensor.to_dtype(wide(x.dtype()));
    Ok((wide(x)?, wide(weight)?, wide(bias)?))
}
