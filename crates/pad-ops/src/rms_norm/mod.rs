//! RMS norm over the last axis (Zhang and Sennrich, 2019): `y = x / sqrt(mean(x^2) + eps) weight`.
//!
//! Saved for the backward: the operands.

mod cpu;

use candle_core::{CpuStorage, CustomOp2, D, Layout, Result as CandleResult, Shape, Tensor};

use crate::{
    Result, check,
    cpu::{has_kernel, slices},
    products::wide,
};

/// Divides each row by its root mean square.
///
/// # Shapes
/// `x` (.., D); `weight` (D); result (.., D). Any floating dtype; half types are normalised in
/// `f32`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `weight` is not (D), `DType` or `Device` if it differs
/// from `x`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[3_f32, 4.0]], &Device::Cpu)?;
/// let weight = Tensor::new(&[5_f32, 10.0], &Device::Cpu)?;
/// let y = pad_ops::rms_norm(&x, &weight, 0.0)?.to_vec2::<f32>()?;
/// assert!((y[0][0] - 15.0 / 12.5_f32.sqrt()).abs() < 1e-5);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    const OP: &str = "rms_norm";
    let d = check::last_dim(OP, "x", x)?;
    check::expect_float(OP, "x", x)?;
    check::expect_shape(OP, "weight", weight, &[d])?;
    check::expect_like(OP, "weight", weight, x)?;
    if !has_kernel(x) || x.elem_count() == 0 {
        return rms_norm_reference(x, weight, eps);
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    Ok(x.apply_op2(&weight, RmsNorm { eps: eps as f32 })?)
}

/// [`rms_norm`] as a composition of candle operations: any device and floating dtype.
///
/// # Shapes
/// `x` (.., D); `weight` (D).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[3_f64, 4.0]], &Device::Cpu)?;
/// let weight = Tensor::new(&[1_f64, 2.0], &Device::Cpu)?;
/// let y = pad_ops::reference::rms_norm(&x, &weight, 0.0)?.to_vec2::<f64>()?;
/// assert!((y[0][0] - 3.0 / 12.5_f64.sqrt()).abs() < 1e-12);
/// assert!((y[0][1] - 8.0 / 12.5_f64.sqrt()).abs() < 1e-12);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn rms_norm_reference(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let (dtype, wide) = (x.dtype(), wide(x.dtype()));
    let x = x.to_dtype(wide)?;
    let size = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    let y = x.broadcast_div(&size)?.broadcast_mul(&weight.to_dtype(wide)?)?;
    Ok(y.to_dtype(dtype)?)
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        let x = slices::values(self.name(), x, x_layout)?;
        let weight = slices::values(self.name(), weight, weight_layout)?;
        let mut y = vec![0.0; x.len()];
        cpu::forward(x, weight, self.eps, &mut y);
        Ok(slices::output(y, x_layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        d_y: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
        let d_y = d_y.contiguous()?;
        let d = weight.dim(0)?;
        let values = slices::borrow(x)?;
        let (weights, d_y) = (slices::borrow(weight)?, slices::borrow(&d_y)?);
        let d_x = x.track_op().then(|| cpu::d_x(&values, &weights, &d_y, self.eps));
        let d_weight = weight.track_op().then(|| cpu::d_weight(&values, d, &d_y, self.eps));
        Ok((
            d_x.map(|d_x| slices::tensor(d_x, x.shape())).transpose()?,
            d_weight.map(|d_weight| slices::tensor(d_weight, d)).transpose()?,
        ))
    }
}
