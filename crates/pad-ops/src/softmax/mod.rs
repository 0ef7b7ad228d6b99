//! Softmax over the last axis.
//!
//! `y = exp(x - max) / sum(exp(x - max))`. Saved for the backward: the result.

mod device;

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result as CandleResult, Shape, Tensor};

use crate::{
    Result, check,
    cpu::{has_kernel, level::multiversioned, rows, slices, special},
    gpu,
    products::wide,
};

/// Computes the softmax over the last axis. No values give no values.
///
/// # Shapes
/// `x` (.., N) -> (.., N). A row with a NaN gives NaN in the whole row; a row of minus infinities
/// gives NaN.
///
/// # Errors
/// [`Error::DType`](crate::Error::DType) for integers, `Shape` for a scalar.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[0_f32, 0.0], &Device::Cpu)?;
/// assert_eq!(pad_ops::softmax(&x)?.to_vec1::<f32>()?, [0.5, 0.5]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    const OP: &str = "softmax";
    check::last_dim(OP, "x", x)?;
    check::expect_float(OP, "x", x)?;
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    if gpu::has_kernel([x]) {
        return Ok(device::apply(x)?);
    }
    if !has_kernel(x) {
        return softmax_reference(x);
    }
    Ok(x.contiguous()?.apply_op1(Softmax)?)
}

/// [`softmax`] as a composition of candle operations: any device and floating dtype.
///
/// # Shapes
/// `x` (.., N) -> (.., N).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let x = Tensor::new(&[[0_f64, 0.0]], &Device::Cpu)?;
/// assert_eq!(pad_ops::reference::softmax(&x)?.to_vec2::<f64>()?, [[0.5, 0.5]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn softmax_reference(x: &Tensor) -> Result<Tensor> {
    // The maximum only keeps exp in range; its gradient cancels, so it is left out of the graph.
    let dtype = x.dtype();
    let x = x.to_dtype(wide(dtype))?;
    let shifted = x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?;
    let exp = shifted.exp()?;
    Ok(exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?.to_dtype(dtype)?)
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let mut y = slices::values(self.name(), x, layout)?.to_vec();
        let n = layout.dims().last().copied().unwrap_or(1);
        rows::for_rows(&mut y, n, |_, y| forward_rows(y, n));
        Ok(slices::output(y, layout.shape()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, d_y: &Tensor) -> CandleResult<Option<Tensor>> {
        let n = y.dim(D::Minus1)?;
        let d_x = slices::read(y, |y| {
            slices::read(d_y, |d_y| {
                let mut d_x = d_y.to_vec();
                rows::for_rows(&mut d_x, n, |first, d_x| {
                    backward_rows(&y[first * n..first * n + d_x.len()], d_x, n);
                });
                d_x
            })
        })??;
        Ok(Some(slices::tensor(d_x, y.shape())?))
    }
}

multiversioned! {
    /// Replaces each row of `n` values by its softmax.
    pub(crate) fn forward_rows(x: &mut [f32], n: usize) {
        for row in x.chunks_exact_mut(n) {
            let max = rows::max(row);
            for x in row.iter_mut() {
                *x = special::exp(*x - max);
            }
            let scale = 1.0 / rows::sum(row);
            for x in row.iter_mut() {
                *x *= scale;
            }
        }
    }
}

multiversioned! {
    /// Replaces the gradient to each row's softmax `y` by the gradient to its argument:
    /// `y (d_y - sum(d_y y))`.
    pub(crate) fn backward_rows(y: &[f32], d_y: &mut [f32], n: usize) {
        for (d_y, y) in d_y.chunks_exact_mut(n).zip(y.chunks_exact(n)) {
            let inner = rows::dot(y, d_y);
            for (d_y, y) in d_y.iter_mut().zip(y) {
                *d_y = y * (*d_y - inner);
            }
        }
    }
}
