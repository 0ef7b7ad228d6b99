//! Layer norm over the channels of each pixel of a map (detectron2's convolutional `LN`), without
//! transposed copies.
//!
//! Saved for the backward: operands, two numbers a pixel.

mod cpu;
mod reference;

use candle_core::{Result as CandleResult, Tensor};

use crate::{
    Result, check,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
    empty,
    products::{in_f32, is_mixed},
};
use cpu::{Pixels, Shape};
pub use reference::channel_norm2d_reference;

/// `weight (x - mean) / sqrt(var + eps) + bias`, mean and (biased) variance over the channels of
/// each pixel. Gradients to every operand that tracks something.
///
/// # Shapes
/// `x` (B, C, H, W); `weight`, `bias` (C); result as `x`. Any floating dtype; half types go with
/// weights of `f32` and the other way round.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), `DType` or `Device` if an operand does not fit `x`;
/// `Value` for an `eps` below 0 or not finite.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let x = Tensor::new(&[[[[1_f32]], [[3.0]]]], &Device::Cpu)?; // one pixel of two channels
/// let (one, zero) = (x.ones_like()?.flatten_all()?, x.zeros_like()?.flatten_all()?);
/// let y = pad_ops::channel_norm2d(&x, &one, &zero, 0.0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [-1.0, 1.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn channel_norm2d(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    const OP: &str = "channel_norm2d";
    check::expect_rank(OP, "x", x, 4, "(B, C, H, W)")?;
    check::expect_float(OP, "x", x)?;
    let (_, channels, height, width) = x.dims4()?;
    for (arg, tensor) in [("weight", weight), ("bias", bias)] {
        check::expect_shape(OP, arg, tensor, &[channels])?;
        check::expect_mixable(OP, arg, tensor, x)?;
    }
    check::expect_eps(OP, eps)?;
    if x.elem_count() == 0 {
        return Ok(empty::result(x.shape(), &[x, weight, bias])?);
    }
    if is_mixed(x, &[weight, bias]) {
        let y = channel_norm2d(&in_f32(x)?, &in_f32(weight)?, &in_f32(bias)?, eps)?;
        return Ok(y.to_dtype(x.dtype())?);
    }
    if !has_kernel(x) {
        return channel_norm2d_reference(x, weight, bias, eps);
    }
    let (x, weight, bias) = (x.contiguous()?, weight.contiguous()?, bias.contiguous()?);
    let shape = Shape { channels, area: height * width };
    let (y, pixels) = {
        let values = slices::borrow(&x)?;
        let pixels = shape.statistics(&values, eps as f32);
        let y =
            shape.normalize(&values, &pixels, &slices::borrow(&weight)?, &slices::borrow(&bias)?);
        (y, pixels)
    };
    let backward = ChannelNorm { x: x.clone(), weight: weight.clone(), pixels, shape };
    Ok(nary::apply(OP, &x, &[&weight, &bias], y, x.shape().clone(), backward)?)
}

struct ChannelNorm {
    x: Tensor,
    weight: Tensor,
    pixels: Pixels,
    shape: Shape,
}

impl Backward for ChannelNorm {
    fn backward(&self, d_y: &[f32], d_x: bool, wanted: &[bool]) -> CandleResult<Gradients> {
        let (x, weight) = (slices::borrow(&self.x)?, slices::borrow(&self.weight)?);
        let d_x = d_x.then(|| self.shape.d_x(&x, &self.pixels, &weight, d_y));
        let d_weight = wanted[0].then(|| self.shape.d_weight(&x, &self.pixels, d_y));
        let d_bias = wanted[1].then(|| self.shape.d_bias(d_y));
        Ok(Gradients { d_x, d_params: vec![d_weight, d_bias] })
    }
}
