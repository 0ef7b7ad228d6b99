//! The convolution by candle's own.

use candle_core::Tensor;

use crate::{Result, products};

/// [`conv2d`](crate::conv2d) by candle's convolution: any device and floating dtype. Computes every
/// gradient.
///
/// # Shapes
/// `x` (B, C, H, W); `weight` (O, C, k, k); `bias` (O).
///
/// # Errors
/// Any error of candle.
pub fn conv2d_reference(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    padding: usize,
) -> Result<Tensor> {
    let y = x.conv2d(weight, padding, 1, 1, 1)?;
    Ok(match bias {
        Some(bias) => products::add_bias(&y, &bias.reshape((1, bias.elem_count(), 1, 1))?)?,
        None => y,
    })
}
