//! The formula in candle operations, each of which has a correct gradient.

use candle_core::{D, Tensor};

use crate::{Result, products::wide};

/// [`layer_norm`](crate::layer_norm) as a composition of candle operations: any device and floating
/// dtype.
///
/// # Shapes
/// `x` (.., D); `weight`, `bias` (D).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let x = Tensor::new(&[[1_f64, 3.0]], &Device::Cpu)?;
/// let one = Tensor::ones(2, DType::F64, &Device::Cpu)?;
/// let y = pad_ops::reference::layer_norm(&x, &one, &one, 0.0)?;
/// assert_eq!(y.to_vec2::<f64>()?, [[0.0, 2.0]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let dtype = x.dtype();
    let wide = wide(dtype);
    let x = x.to_dtype(wide)?;
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    let y = normed.broadcast_mul(&weight.to_dtype(wide)?)?.broadcast_add(&bias.to_dtype(wide)?)?;
    Ok(y.to_dtype(dtype)?)
}
