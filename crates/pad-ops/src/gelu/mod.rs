//! GELU, the exact one: `x * Phi(x)` with the normal distribution function `Phi` (Hendrycks and
//! Gimpel, 2016).
//!
//! Saved for the backward: the argument.

mod approximate;
mod device;

use candle_core::{CpuStorage, CustomOp1, Layout, Result as CandleResult, Shape, Tensor};

pub use approximate::{gelu_tanh, gelu_tanh_reference, quick_gelu, quick_gelu_reference};
pub(crate) use approximate::{quick, tanh};

use crate::{
    Result, check,
    cpu::{has_kernel, level::multiversioned, rows, slices, special},
    gpu,
    products::wide,
};

/// Computes `x * Phi(x)`, elementwise.
///
/// # Shapes
/// Any, floating dtype.
///
/// # Errors
/// [`Error::DType`](crate::Error::DType) for integers.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let y = pad_ops::gelu(&Tensor::new(&[0_f32, 1.0], &Device::Cpu)?)?.to_vec1::<f32>()?;
/// assert!(y[0] == 0.0 && (y[1] - 0.841_344_7).abs() < 1e-6);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    check::expect_float("gelu", "x", x)?;
    if gpu::has_kernel([x]) {
        return Ok(device::apply(x)?);
    }
    if !has_kernel(x) {
        return gelu_reference(x);
    }
    Ok(x.contiguous()?.apply_op1(Gelu)?)
}

/// [`gelu`] by candle's own `gelu_erf`: any device and floating dtype.
///
/// # Shapes
/// Any.
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let y = pad_ops::reference::gelu(&Tensor::new(&[0_f64, 1.0], &Device::Cpu)?)?;
/// assert!((y.to_vec1::<f64>()?[1] - 0.841_344_746).abs() < 1e-9);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn gelu_reference(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_dtype(wide(x.dtype()))?.gelu_erf()?.to_dtype(x.dtype())?)
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let x = slices::values(self.name(), x, layout)?;
        let mut y = vec![0.0; x.len()];
        rows::for_values(&mut y, |first, y| {
            forward(&x[first..first + y.len()], y);
        });
        Ok(slices::output(y, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, d_y: &Tensor) -> CandleResult<Option<Tensor>> {
        let d_x = slices::read(x, |x| {
            slices::read(d_y, |d_y| {
                let mut d_x = vec![0.0; x.len()];
                rows::for_values(&mut d_x, |first, d_x| {
                    let range = first..first + d_x.len();
                    backward(&x[range.clone()], &d_y[range], d_x);
                });
                d_x
            })
        })??;
        Ok(Some(slices::tensor(d_x, x.shape())?))
    }
}

multiversioned! {
    fn forward(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * special::normal(x).0;
        }
    }
}

multiversioned! {
    /// `d_x = d_y (Phi(x) + x phi(x))`.
    fn backward(x: &[f32], d_y: &[f32], d_x: &mut [f32]) {
        for ((d_x, &d_y), &x) in d_x.iter_mut().zip(d_y).zip(x) {
            let (cdf, pdf) = special::normal(x);
            *d_x = d_y * (cdf + x * pdf);
        }
    }
}
