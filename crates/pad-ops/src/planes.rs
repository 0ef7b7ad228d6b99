//! What the operators on (B, C, H, W) maps share: sums over planes, axes of a resampling.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::{
    Result,
    cpu::{level::multiversioned, rows},
    products::matmul,
};

multiversioned! {
    /// `out += a`.
    pub(crate) fn add(out: &mut [f32], a: &[f32]) {
        for (out, a) in out.iter_mut().zip(a) {
            *out += a;
        }
    }
}

multiversioned! {
    /// `out += factor * a`.
    pub(crate) fn add_scaled(out: &mut [f32], a: &[f32], factor: f32) {
        for (out, a) in out.iter_mut().zip(a) {
            *out += factor * a;
        }
    }
}

multiversioned! {
    /// Sum of a plane.
    pub(crate) fn sum(values: &[f32]) -> f32 {
        rows::sum(values)
    }
}

/// One number a channel from one a plane, in the order of the batch, in f64.
pub(crate) fn per_channel(
    planes: usize,
    channels: usize,
    of_plane: impl Fn(usize) -> f64 + Send + Sync,
) -> Vec<f64> {
    let sums: Vec<f64> = (0..planes).into_par_iter().map(of_plane).collect();
    let mut totals = vec![0.0; channels];
    for (index, sum) in sums.into_iter().enumerate() {
        totals[index % channels] += sum;
    }
    totals
}

/// Sums over images and pixels, one a channel.
pub(crate) fn sums_per_channel(values: &[f32], channels: usize, area: usize) -> Vec<f32> {
    let plane = |index: usize| f64::from(sum(&values[index * area..(index + 1) * area]));
    let sums = per_channel(values.len() / area.max(1), channels, plane);
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// `rows x columns^T` of every plane: a separable resampling as two matrix products on any device.
///
/// # Shapes
/// `x` (B, C, H, W); `rows` (H', H) and `columns` (W', W), f64 on the CPU; result (B, C, H', W').
pub(crate) fn resample(x: &Tensor, rows: &Tensor, columns: &Tensor) -> Result<Tensor> {
    let (b, c, height, width) = x.dims4()?;
    let (out_height, out_width) = (rows.dim(0)?, columns.dim(0)?);
    let like = |weights: &Tensor| weights.to_dtype(x.dtype())?.to_device(x.device());
    let wide = x.contiguous()?.reshape((b * c * height, width))?;
    let wide = matmul(&wide, &like(columns)?.t()?)?;
    let wide = wide.reshape((b * c, height, out_width))?.transpose(1, 2)?.contiguous()?;
    let tall = matmul(&wide.reshape((b * c * out_width, height))?, &like(rows)?.t()?)?;
    let tall = tall.reshape((b * c, out_width, out_height))?.transpose(1, 2)?.contiguous()?;
    Ok(tall.reshape((b, c, out_height, out_width))?)
}
