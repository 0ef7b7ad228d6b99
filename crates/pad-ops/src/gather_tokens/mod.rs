//! Choice of tokens by index, per image.
//!
//! `y[b, k] = x[b, ids[b, k]]`; the gradient adds each row back where it came from.

mod device;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result as CandleResult, Shape, Tensor};
use rayon::prelude::*;

use crate::{
    Error, Result, check,
    cpu::{has_kernel, slices},
    empty, gpu,
};

/// Selects the tokens `ids` of each image.
///
/// # Shapes
/// `x` (B, N, D) floating; `ids` (B, K) `u32`, each below N, repetition allowed; result (B, K, D).
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`], or [`Error::Value`] for an index of N or more (of indices on
/// the CPU: those on an accelerator are not fetched).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[[1_f32], [2.0], [3.0]]], &Device::Cpu)?;
/// let ids = Tensor::new(&[[2_u32, 0]], &Device::Cpu)?;
/// assert_eq!(pad_ops::gather_tokens(&x, &ids)?.to_vec3::<f32>()?, [[[3.0], [1.0]]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn gather_tokens(x: &Tensor, ids: &Tensor) -> Result<Tensor> {
    const OP: &str = "gather_tokens";
    check::expect_rank(OP, "x", x, 3, "(B, N, D)")?;
    check::expect_float(OP, "x", x)?;
    check::expect_rank(OP, "ids", ids, 2, "(B, K)")?;
    check::expect_dtype(OP, "ids", ids, DType::U32)?;
    let (b, n, _) = x.dims3()?;
    check::expect_shape(OP, "ids", ids, &[b, ids.dim(1)?])?;
    if gpu::has_kernel([x]) && ids.device().same_device(x.device()) && ids.elem_count() > 0 {
        return Ok(device::apply(OP, &x.contiguous()?, &ids.contiguous()?)?);
    }
    if !ids.device().is_cpu() {
        // Fetching them to look at them would stall the device; its own kernel rejects what is out
        // of range.
        return gather_tokens_reference(x, ids);
    }
    let indices = slices::indices(ids)?;
    let shape = [b, ids.dim(1)?, x.dim(2)?];
    if let Some(&bad) = indices.iter().find(|&&id| id as usize >= n) {
        return Err(Error::Value {
            op: OP,
            arg: "ids",
            expected: format!("every index below {n}"),
            found: bad.to_string(),
        });
    }
    if empty::is_empty(&shape) {
        return Ok(empty::result(shape.to_vec(), &[x])?);
    }
    if !has_kernel(x) {
        return gather_tokens_reference(x, ids);
    }
    Ok(x.contiguous()?.apply_op1(GatherTokens { ids: indices.into_owned() })?)
}

/// [`gather_tokens`] by candle's `gather`: any device and floating dtype.
///
/// # Shapes
/// `x` (B, N, D); `ids` (B, K) `u32`; result (B, K, D).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let x = Tensor::new(&[[[1_f64], [2.0], [3.0]]], &Device::Cpu)?;
/// let ids = Tensor::new(&[[2_u32, 0]], &Device::Cpu)?;
/// assert_eq!(pad_ops::reference::gather_tokens(&x, &ids)?.to_vec3::<f64>()?, [[[3.0], [1.0]]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn gather_tokens_reference(x: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (b, _, d) = x.dims3()?;
    let k = ids.dim(1)?;
    let ids = ids.to_device(x.device())?.unsqueeze(2)?.broadcast_as((b, k, d))?.contiguous()?;
    Ok(x.contiguous()?.gather(&ids, 1)?)
}

struct GatherTokens {
    /// (B, K), flat.
    ids: Vec<u32>,
}

impl CustomOp1 for GatherTokens {
    fn name(&self) -> &'static str {
        "gather_tokens"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let (b, n, d) = layout.shape().dims3()?;
        let k = self.ids.len() / b;
        let x = slices::values(self.name(), x, layout)?;
        let mut y = vec![0.0; b * k * d];
        y.par_chunks_mut(k * d).enumerate().for_each(|(image, y)| {
            let ids = &self.ids[image * k..(image + 1) * k];
            for (y, &id) in y.chunks_exact_mut(d).zip(ids) {
                let from = (image * n + id as usize) * d;
                y.copy_from_slice(&x[from..from + d]);
            }
        });
        Ok(slices::output(y, (b, k, d)))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, d_y: &Tensor) -> CandleResult<Option<Tensor>> {
        let (b, n, d) = x.dims3()?;
        let k = self.ids.len() / b;
        let d_x = slices::read(d_y, |d_y| {
            let mut d_x = vec![0.0; b * n * d];
            d_x.par_chunks_mut(n * d).enumerate().for_each(|(image, d_x)| {
                let ids = &self.ids[image * k..(image + 1) * k];
                let d_y = &d_y[image * k * d..(image + 1) * k * d];
                for (d_y, &id) in d_y.chunks_exact(d).zip(ids) {
                    let d_x = &mut d_x[id as usize * d..(id as usize + 1) * d];
                    d_x.iter_mut().zip(d_y).for_each(|(sum, value)| *sum += value);
                }
            });
            d_x
        })?;
        Ok(Some(slices::tensor(d_x, x.shape())?))
    }
}
