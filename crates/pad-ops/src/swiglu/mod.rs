//! SwiGLU (Shazeer, 2020), `silu(gate) value`, on both halves of a packed layer's output.
//!
//! Saved for the backward: the argument.

pub(crate) mod cpu;

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result as CandleResult, Shape, Tensor};

use crate::{
    Error, Result, check,
    cpu::{has_kernel, rows, slices},
    products::wide,
};

/// Computes `silu(gate) * value`; the gate is the first half of the last axis.
///
/// # Shapes
/// `x` (.., 2 H) -> (.., H). Any floating dtype; half types are computed in `f32`.
///
/// # Errors
/// [`Error::DType`] for integers, [`Error::Value`] for an odd last axis.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0_f32, 2.0, 7.0, 3.0]], &Device::Cpu)?;
/// let y = pad_ops::swiglu(&x)?.to_vec2::<f32>()?;
/// assert!(y[0][0] == 0.0 && (y[0][1] - 2.0 / (1.0 + (-2_f32).exp()) * 3.0).abs() < 1e-5);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    const OP: &str = "swiglu";
    check::expect_float(OP, "x", x)?;
    let width = check::last_dim(OP, "x", x)?;
    if !width.is_multiple_of(2) {
        let expected = "an even number of values in the last axis".into();
        return Err(Error::Value { op: OP, arg: "x", expected, found: width.to_string() });
    }
    if !has_kernel(x) || x.elem_count() == 0 {
        return swiglu_reference(x);
    }
    Ok(x.contiguous()?.apply_op1(SwiGlu)?)
}

/// [`swiglu`] as a composition of candle operations: any device and floating dtype.
///
/// # Shapes
/// `x` (.., 2 H) -> (.., H).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0_f64, 2.0, 7.0, 3.0]], &Device::Cpu)?;
/// let y = pad_ops::reference::swiglu(&x)?.to_vec2::<f64>()?;
/// assert!(y[0][0] == 0.0 && (y[0][1] - 2.0 / (1.0 + (-2_f64).exp()) * 3.0).abs() < 1e-12);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn swiglu_reference(x: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let wide = x.to_dtype(wide(x.dtype()))?;
    let gate = wide.narrow(D::Minus1, 0, half)?.contiguous()?.silu()?;
    let y = (gate * wide.narrow(D::Minus1, half, half)?.contiguous()?)?;
    Ok(y.to_dtype(x.dtype())?)
}

struct SwiGlu;

impl CustomOp1 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let mut dims = layout.dims().to_vec();
        let width = dims.last().copied().unwrap_or(0);
        if let Some(last) = dims.last_mut() {
            *last = width / 2;
        }
        let x = slices::values(self.name(), x, layout)?;
        let y = rows::build(x.len() / 2, width / 2, |first, y| {
            cpu::forward(&x[2 * first * (width / 2)..][..2 * y.len()], &[], width, y);
        });
        Ok(slices::output(y, dims))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, d_y: &Tensor) -> CandleResult<Option<Tensor>> {
        let width = x.dim(D::Minus1)?;
        let d_y = d_y.contiguous()?;
        let (values, d_y) = (slices::borrow(x)?, slices::borrow(&d_y)?);
        let (values, d_y) = (&values[..], &d_y[..]);
        let d_x = rows::build(values.len(), width, |first, d_x| {
            let from = first * width;
            let d_y = &d_y[from / 2..][..d_x.len() / 2];
            cpu::backward(&values[from..from + d_x.len()], &[], width, d_y, d_x);
        });
        Ok(Some(slices::tensor(d_x, x.shape())?))
    }
}
