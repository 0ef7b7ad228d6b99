//! GELU, the exact one: `x * Phi(x)` with the normal distribution function `Phi` (Hendrycks and Gimpel, 2016).
//!
//! Saved for the backward: the argument.

use candle_core::{CpuStorage, CustomOp1, Layout, Result as CandleResult, Shape, Tensor};

use crate::{
    Result, check,
    cpu::{has_kernel, level::vectorized, rows, slices, special},
};

/// `x * Phi(x)`, elementwise.
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
    if !has_kernel(x) || x.elem_count() == 0 {
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
/// Whatever candle refuses.
pub fn gelu_reference(x: &Tensor) -> Result<Tensor> {
    Ok(x.gelu_erf()?)
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
            let x = &x[first..first + y.len()];
            vectorized(|| y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * special::normal(x).0));
        });
        Ok(slices::output(y, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, d_y: &Tensor) -> CandleResult<Option<Tensor>> {
        let d_x = slices::read(x, |x| {
            slices::read(d_y, |d_y| {
                let mut d_x = vec![0.0; x.len()];
                rows::for_values(&mut d_x, |first, d_x| {
                    let (x, d_y) = (&x[first..first + d_x.len()], &d_y[first..first + d_x.len()]);
                    vectorized(|| {
                        for i in 0..d_x.len() {
                            let (cdf, pdf) = special::normal(x[i]);
                            d_x[i] = d_y[i] * (cdf + x[i] * pdf);
                        }
                    });
                });
                d_x
            })
        })??;
        Ok(Some(slices::tensor(d_x, x.shape())?))
    }
}
