//! Transposed convolution with a 2 x 2 kernel and stride 2: every pixel becomes four, so it is one
//! matrix product.
//!
//! Saved for the backward: the operands.

mod cpu;
mod reference;

use candle_core::{Result as CandleResult, Shape, Tensor};

use crate::{
    Result, check,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
    empty,
    products::{self, in_f32},
};
use cpu::Geometry;
pub use reference::conv_transpose2x2_reference;

/// Doubles the sides:
/// `y[b, o, 2i + s, 2j + t] = bias[o] + sum_c weight[c, o, s, t] * x[b, c, i, j]`. Gradients to
/// every operand that tracks something.
///
/// # Shapes
/// `x` (B, C, H, W); `weight` (C, O, 2, 2), PyTorch's layout; `bias` (O); result (B, O, 2 H, 2 W).
/// Any floating dtype; half types go with weights of `f32` and the other way round.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), `DType` or `Device` if an operand does not fit `x`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[[[10_f32]]]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[[[1_f32, 2.0], [3.0, 4.0]]]], &Device::Cpu)?;
/// let y = pad_ops::conv_transpose2x2(&x, &weight, None)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [10.0, 20.0, 30.0, 40.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn conv_transpose2x2(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    const OP: &str = "conv_transpose2x2";
    check::expect_rank(OP, "x", x, 4, "(B, C, H, W)")?;
    check::expect_float(OP, "x", x)?;
    let (batch, channels, height, width) = x.dims4()?;
    check::expect_rank(OP, "weight", weight, 4, "(C, O, 2, 2)")?;
    let outputs = weight.dim(1)?;
    check::expect_shape(OP, "weight", weight, &[channels, outputs, 2, 2])?;
    check::expect_mixable(OP, "weight", weight, x)?;
    if let Some(bias) = bias {
        check::expect_shape(OP, "bias", bias, &[outputs])?;
        check::expect_mixable(OP, "bias", bias, x)?;
    }
    let mut operands = vec![x, weight];
    operands.extend(bias);
    let sizes = [batch, outputs, 2 * height, 2 * width];
    if empty::is_empty(&sizes) {
        return Ok(empty::result(sizes.to_vec(), &operands)?);
    }
    if channels == 0 {
        let y = Tensor::zeros(sizes.to_vec(), x.dtype(), x.device())?;
        let y = empty::reaching(&y, &operands[..2])?;
        return Ok(match bias {
            Some(bias) => products::add_bias(&y, &bias.reshape((1, outputs, 1, 1))?)?,
            None => y,
        });
    }
    if products::is_mixed(x, &operands[1..]) {
        let bias = bias.map(in_f32).transpose()?;
        let y = conv_transpose2x2(&in_f32(x)?, &in_f32(weight)?, bias.as_ref())?;
        return Ok(y.to_dtype(x.dtype())?);
    }
    if !has_kernel(x) {
        return conv_transpose2x2_reference(x, weight, bias);
    }
    let geometry = Geometry { channels, outputs, height, width };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let y = {
        let bias = bias.as_ref().map(slices::borrow).transpose()?;
        geometry.forward(&slices::borrow(&x)?, &slices::borrow(&weight)?, bias.as_deref())
    };
    let shape = Shape::from((batch, outputs, 2 * height, 2 * width));
    let mut params = vec![&weight];
    params.extend(&bias);
    let backward = ConvTranspose { x: x.clone(), weight: weight.clone(), geometry };
    Ok(nary::apply(OP, &x, &params, y, shape, backward)?)
}

struct ConvTranspose {
    x: Tensor,
    weight: Tensor,
    geometry: Geometry,
}

impl Backward for ConvTranspose {
    fn backward(&self, d_y: &[f32], d_x: bool, wanted: &[bool]) -> CandleResult<Gradients> {
        let x = slices::borrow(&self.x)?;
        let weight = slices::borrow(&self.weight)?;
        let (d_x, d_weight) = self.geometry.backward(&x, &weight, d_y, d_x, wanted[0]);
        let mut d_params = vec![d_weight];
        if let Some(&bias) = wanted.get(1) {
            d_params.push(bias.then(|| self.geometry.d_bias(d_y)));
        }
        Ok(Gradients { d_x, d_params })
    }
}
