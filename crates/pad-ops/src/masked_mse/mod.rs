//! The MAE loss: mean squared error over removed patches (He et al., 2021, section 3).
//!
//! `loss = sum_bl mask[b, l] * mean_p (pred - target)^2 / sum(mask)`. Saved for the backward: the
//! operands.

mod device;

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result as CandleResult, Shape, Tensor};
use rayon::prelude::*;

use crate::{
    Error, Result, check,
    cpu::{has_kernel, level::multiversioned, rows, slices},
    gpu,
    products::wide,
};

/// Computes the mean squared error over the patches whose mask is 1. Gradients go to `pred` alone.
///
/// # Shapes
/// `pred`, `target` (B, L, P); `mask` (B, L), 1 = removed (counts), 0 = kept; result: a scalar. One
/// floating dtype.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`]; [`Error::Value`] if no patch is removed (the mean would be
/// 0 / 0), so for an empty batch too (of masks on the CPU: those on an accelerator are not fetched).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let pred = Tensor::new(&[[[1_f32, 3.0], [9.0, 9.0]]], &Device::Cpu)?;
/// let target = pred.zeros_like()?;
/// let mask = Tensor::new(&[[1_f32, 0.0]], &Device::Cpu)?; // the second patch was kept
/// assert_eq!(pad_ops::masked_mse(&pred, &target, &mask)?.to_scalar::<f32>()?, 5.0);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn masked_mse(pred: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    const OP: &str = "masked_mse";
    check::expect_rank(OP, "pred", pred, 3, "(B, L, P)")?;
    check::expect_float(OP, "pred", pred)?;
    check::expect_shape(OP, "target", target, pred.dims())?;
    check::expect_like(OP, "target", target, pred)?;
    check::expect_shape(OP, "mask", mask, &pred.dims()[..2])?;
    check::expect_like(OP, "mask", mask, pred)?;
    if pred.dim(2)? == 0 {
        return Err(check::shape_error(OP, "pred", pred, "patches of at least one value".into()));
    }
    if gpu::has_kernel([pred, target, mask]) {
        return Ok(device::apply(OP, pred, target, mask)?);
    }
    if !pred.device().is_cpu() {
        // Fetching the mask to look at it would stall the device.
        return masked_mse_reference(pred, target, mask);
    }
    let values = mask.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let removed: f32 = values.iter().sum();
    if !(removed.is_finite() && removed > 0.0) {
        let found = if removed == 0.0 { "none".into() } else { format!("a sum of {removed}") };
        let expected = "at least one removed patch".to_string();
        return Err(Error::Value { op: OP, arg: "mask", expected, found });
    }
    if !has_kernel(pred) {
        return masked_mse_reference(pred, target, mask);
    }
    let target = target.detach().contiguous()?;
    Ok(pred.contiguous()?.apply_op1(MaskedMse { target, mask: values, removed })?)
}

/// [`masked_mse`] as a composition of candle operations: any device and floating dtype.
///
/// # Shapes
/// `pred`, `target` (B, L, P); `mask` (B, L); result: a scalar.
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let pred = Tensor::new(&[[[1_f64, 3.0], [9.0, 9.0]]], &Device::Cpu)?;
/// let mask = Tensor::new(&[[1_f64, 0.0]], &Device::Cpu)?;
/// let loss = pad_ops::reference::masked_mse(&pred, &pred.zeros_like()?, &mask)?;
/// assert_eq!(loss.to_scalar::<f64>()?, 5.0);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn masked_mse_reference(pred: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let dtype = pred.dtype();
    let wide = |tensor: &Tensor| tensor.to_dtype(wide(dtype));
    let (target, mask) = (wide(&target.detach())?, wide(mask)?);
    let per_patch = (wide(pred)? - target)?.sqr()?.mean(D::Minus1)?;
    Ok((per_patch * &mask)?.sum_all()?.broadcast_div(&mask.sum_all()?)?.to_dtype(dtype)?)
}

/// Normalises each patch by its own mean and standard deviation (unbiased variance, 1e-6 added
/// under the root): the targets of MAE's `norm_pix_loss`. Targets are data: the result has no
/// gradient.
///
/// # Shapes
/// `patches` (.., P) -> the same, floating dtype.
///
/// # Errors
/// [`Error::DType`] for integers, [`Error::Shape`] for a scalar.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let y = pad_ops::normalize_patches(&Tensor::new(&[[1_f32, 3.0]], &Device::Cpu)?)?;
/// let y = y.to_vec2::<f32>()?;
/// // The deviation is that of n - 1: sqrt(2), not 1.
/// assert!((y[0][1] - 0.5_f32.sqrt()).abs() < 1e-6);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn normalize_patches(patches: &Tensor) -> Result<Tensor> {
    const OP: &str = "normalize_patches";
    let pixels = check::last_dim(OP, "patches", patches)?;
    check::expect_float(OP, "patches", patches)?;
    let patches = patches.detach().contiguous()?;
    if patches.elem_count() == 0 {
        return Ok(patches);
    }
    if gpu::has_kernel([&patches]) {
        return Ok(device::normalize(&patches)?);
    }
    if !has_kernel(&patches) {
        let dtype = patches.dtype();
        let patches = patches.to_dtype(wide(dtype))?;
        let mean = patches.mean_keepdim(D::Minus1)?;
        let centred = patches.broadcast_sub(&mean)?;
        let square = centred.sqr()?.sum_keepdim(D::Minus1)?;
        let variance = (square / (pixels as f64 - 1.0).max(1.0))?;
        return Ok(centred.broadcast_div(&(variance + 1e-6)?.sqrt()?)?.to_dtype(dtype)?);
    }
    let mut out = slices::read(&patches, <[f32]>::to_vec)?;
    rows::for_rows(&mut out, pixels, |_, out| normalize_rows(out, pixels));
    Ok(slices::tensor(out, patches.shape())?)
}

multiversioned! {
    fn normalize_rows(x: &mut [f32], n: usize) {
        for row in x.chunks_exact_mut(n) {
            let mean = rows::sum(row) / n as f32;
            let square = rows::sum_by(n, |i| (row[i] - mean) * (row[i] - mean));
            let scale = 1.0 / (square / (n as f32 - 1.0).max(1.0) + 1e-6).sqrt();
            for x in row.iter_mut() {
                *x = (*x - mean) * scale;
            }
        }
    }
}

struct MaskedMse {
    target: Tensor,
    mask: Vec<f32>,
    removed: f32,
}

impl CustomOp1 for MaskedMse {
    fn name(&self) -> &'static str {
        "masked_mse"
    }

    fn cpu_fwd(&self, pred: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let pred = slices::values(self.name(), pred, layout)?;
        let p = pred.len() / self.mask.len();
        let sum = slices::read(&self.target, |target| {
            let terms: Vec<f64> = (0..self.mask.len())
                .into_par_iter()
                .with_min_len(rows::rows_per_chunk(p))
                .map(|patch| {
                    if self.mask[patch] == 0.0 {
                        return 0.0;
                    }
                    let range = patch * p..(patch + 1) * p;
                    let (pred, target) = (&pred[range.clone()], &target[range]);
                    f64::from(square_distance(pred, target)) * f64::from(self.mask[patch])
                })
                .collect();
            // In patch order and in f64: thousands of terms, the same bits for any number of
            // threads.
            terms.iter().sum::<f64>()
        })?;
        let loss = sum / (p as f64 * f64::from(self.removed));
        Ok(slices::output(vec![loss as f32], ()))
    }

    fn bwd(&self, pred: &Tensor, _loss: &Tensor, d_loss: &Tensor) -> CandleResult<Option<Tensor>> {
        let d_loss = d_loss.to_scalar::<f32>()?;
        let p = pred.elem_count() / self.mask.len();
        let factor = 2.0 * d_loss / (p as f32 * self.removed);
        let d_pred = slices::read(pred, |pred| {
            slices::read(&self.target, |target| {
                let mut d_pred = vec![0.0; pred.len()];
                rows::for_rows(&mut d_pred, p, |first, d_pred| {
                    for (row, d_pred) in d_pred.chunks_exact_mut(p).enumerate() {
                        let patch = first + row;
                        let factor = factor * self.mask[patch];
                        if factor == 0.0 {
                            continue; // a kept patch: its gradient stays zero
                        }
                        let range = patch * p..(patch + 1) * p;
                        let (pred, target) = (&pred[range.clone()], &target[range]);
                        for ((d_pred, pred), target) in d_pred.iter_mut().zip(pred).zip(target) {
                            *d_pred = factor * (pred - target);
                        }
                    }
                });
                d_pred
            })
        })??;
        Ok(Some(slices::tensor(d_pred, pred.shape())?))
    }
}

multiversioned! {
    fn square_distance(a: &[f32], b: &[f32]) -> f32 {
        let n = a.len().min(b.len());
        let (a, b) = (&a[..n], &b[..n]);
        rows::sum_by(n, |i| (a[i] - b[i]) * (a[i] - b[i]))
    }
}
