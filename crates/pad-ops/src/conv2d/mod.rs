//! 2D convolution of stride 1 as matrix products, forward and backward: columns in blocks of rows,
//! or Winograd's tiles for 3 x 3 kernels with enough channels.
//!
//! Saved for the backward: the operands; columns and tiles are gathered again.

mod cpu;
mod geometry;
mod reference;
mod winograd;

use candle_core::{Result as CandleResult, Shape, Tensor};

use crate::{
    Error, Result, check,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
};
use geometry::Geometry;
pub use reference::conv2d_reference;

/// Computes `y[b, o] = bias[o] + sum_c weight[o, c] * x[b, c]`, cross-correlated, stride 1, zeros
/// around the image. Gradients to every operand that tracks something.
///
/// # Shapes
/// `x` (B, C, H, W); `weight` (O, C, k, k), `k` odd; `bias` (O); result (B, O, H + 2 padding - k +
/// 1, W + 2 padding - k + 1). One floating dtype.
///
/// # Errors
/// [`Error::Shape`], `DType` or `Device` if an operand does not fit `x`; [`Error::Value`] for an
/// even kernel or one that is larger than the padded image.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    padding: usize,
) -> Result<Tensor> {
    const OP: &str = "conv2d";
    check::expect_rank(OP, "x", x, 4, "(B, C, H, W)")?;
    check::expect_float(OP, "x", x)?;
    let (batch, channels, height, width) = x.dims4()?;
    check::expect_rank(OP, "weight", weight, 4, "(O, C, k, k)")?;
    let (outputs, _, kernel, _) = weight.dims4()?;
    check::expect_shape(OP, "weight", weight, &[outputs, channels, kernel, kernel])?;
    check::expect_like(OP, "weight", weight, x)?;
    if let Some(bias) = bias {
        check::expect_shape(OP, "bias", bias, &[outputs])?;
        check::expect_like(OP, "bias", bias, x)?;
    }
    let smallest = height.min(width) + 2 * padding;
    if kernel % 2 == 0 || kernel > smallest {
        return Err(Error::Value {
            op: OP,
            arg: "weight",
            expected: format!("an odd kernel of at most the padded image's {smallest}"),
            found: format!("a kernel of {kernel}"),
        });
    }
    if !has_kernel(x) || x.elem_count() == 0 || weight.elem_count() == 0 {
        return conv2d_reference(x, weight, bias, padding);
    }
    let geometry = Geometry { batch, channels, outputs, height, width, kernel, padding };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let y = {
        let bias = bias.as_ref().map(slices::borrow).transpose()?;
        geometry.forward(&slices::borrow(&x)?, &slices::borrow(&weight)?, bias.as_deref())
    };
    let shape = Shape::from((batch, outputs, geometry.out_height(), geometry.out_width()));
    let mut params = vec![&weight];
    params.extend(&bias);
    let backward = Conv2d { x: x.clone(), weight: weight.clone(), geometry };
    Ok(nary::apply(OP, &x, &params, y, shape, backward)?)
}

struct Conv2d {
    x: Tensor,
    weight: Tensor,
    geometry: Geometry,
}

impl Backward for Conv2d {
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
