//! Layer norm over the last axis (Ba et al., 2016).
//!
//! `y = (x - mean) * rstd * weight + bias`, `rstd = 1 / sqrt(var + eps)`, with the biased variance,
//! per row. Saved for the backward: nothing but the operands; mean and rstd are computed again from
//! `x`, one pass over a row that is in the cache anyway.

pub(crate) mod cpu;
mod device;
mod reference;

use candle_core::{CpuStorage, CustomOp3, Layout, Result as CandleResult, Shape, Tensor};

pub use reference::layer_norm as layer_norm_reference;

use crate::{
    Result, check,
    cpu::{has_kernel, slices},
    empty, gpu,
    products::{in_f32, is_mixed},
};

/// Normalises over the last axis.
///
/// # Shapes
/// `x` (.., D); `weight`, `bias` (D); result (.., D), of the dtype of `x`. Any floating dtype; half
/// types are normalised in `f32`, and go with weights of `f32` and the other way round.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `weight` or `bias` is not (D), `DType` or `Device` if
/// they do not go with `x`, `Value` for an `eps` below 0 or not finite.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1_f32, 3.0]], &Device::Cpu)?;
/// let one = Tensor::ones(2, candle_core::DType::F32, &Device::Cpu)?;
/// let y = pad_ops::layer_norm(&x, &one, &one, 0.0)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[0.0, 2.0]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    const OP: &str = "layer_norm";
    let d = check::last_dim(OP, "x", x)?;
    check::expect_float(OP, "x", x)?;
    for (arg, tensor) in [("weight", weight), ("bias", bias)] {
        check::expect_shape(OP, arg, tensor, &[d])?;
        check::expect_mixable(OP, arg, tensor, x)?;
    }
    check::expect_eps(OP, eps)?;
    if x.elem_count() == 0 {
        return Ok(empty::result(x.shape(), &[x, weight, bias])?);
    }
    if is_mixed(x, &[weight, bias]) {
        let y = layer_norm(&in_f32(x)?, &in_f32(weight)?, &in_f32(bias)?, eps)?;
        return Ok(y.to_dtype(x.dtype())?);
    }
    if gpu::has_kernel([x, weight, bias]) {
        return Ok(device::apply(x, weight, bias, eps as f32)?);
    }
    if !has_kernel(x) {
        return reference::layer_norm(x, weight, bias, eps);
    }
    let (x, weight, bias) = (x.contiguous()?, weight.contiguous()?, bias.contiguous()?);
    Ok(x.apply_op3(&weight, &bias, LayerNorm { eps: eps as f32 })?)
}

struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        let x = slices::values(self.name(), x, x_layout)?;
        let weight = slices::values(self.name(), weight, weight_layout)?;
        let bias = slices::values(self.name(), bias, bias_layout)?;
        let mut y = vec![0.0; x.len()];
        cpu::forward(x, weight, bias, self.eps, &mut y);
        Ok(slices::output(y, x_layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        d_y: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let d_y = d_y.contiguous()?;
        let (shape, d) = (x.shape(), weight.dim(0)?);
        let values = slices::borrow(x)?;
        let (weights, d_y) = (slices::borrow(weight)?, slices::borrow(&d_y)?);
        let d_x = if x.track_op() {
            let mut d_x = vec![0.0; values.len()];
            cpu::add_d_x(&values, &weights, &d_y, self.eps, &mut d_x);
            Some(slices::tensor(d_x, shape)?)
        } else {
            None
        };
        if !weight.track_op() && !bias.track_op() {
            return Ok((d_x, None, None));
        }
        let (d_weight, d_bias) = cpu::d_affine(&values, d, &d_y, self.eps);
        Ok((
            d_x,
            if weight.track_op() { Some(slices::tensor(d_weight, d)?) } else { None },
            if bias.track_op() { Some(slices::tensor(d_bias, d)?) } else { None },
        ))
    }
}
