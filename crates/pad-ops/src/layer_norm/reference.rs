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
