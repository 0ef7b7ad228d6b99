//! Rows in parallel; forward and backward side by side.

use crate::cpu::{level::multiversioned, real::Real, rows};

/// Mean and `1 / sqrt(var + eps)` of one row, in two passes (the one-pass formula cancels).
#[inline(always)]
fn statistics(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = rows::sum(x) / n;
    let variance = rows::sum_by(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

multiversioned! {
    fn forward_rows<T: Real>(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [T]) {
        let d = weight.len();
        let bias = &bias[..d];
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            let (mean, rstd) = statistics(x, eps);
            for i in 0..d {
                y[i] = T::from_f32((x[i] - mean) * rstd * weight[i] + bias[i]);
            }
        }
    }
}

/// `x` (rows, D), `weight`, `bias` (D) -> `y` (rows, D).
pub(crate) fn forward<T: Real>(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [T]) {
    let d = weight.len();
    rows::for_rows(y, d, |first, y| {
        forward_rows(&x[first * d..first * d + y.len()], weight, bias, eps, y);
    });
}

multiversioned! {
    /// With `n = (x - mean) rstd` and `g = d_y weight`: `d_x += rstd (g - mean(g) - n mean(g n))`.
    fn d_x_rows(x: &[f32], weight: &[f32], d_y: &[f32], eps: f32, d_x: &mut [f32]) {
        let d = weight.len();
        let rows = x.chunks_exact(d).zip(d_y.chunks_exact(d)).zip(d_x.chunks_exact_mut(d));
        for ((x, d_y), d_x) in rows {
            let (mean, rstd) = statistics(x, eps);
            let g_mean = rows::dot(d_y, weight) / d as f32;
            let gn_mean =
                rows::sum_by(d, |i| d_y[i] * weight[i] * (x[i] - mean) * rstd) / d as f32;
            for i in 0..d {
                let n = (x[i] - mean) * rstd;
                d_x[i] += rstd * (d_y[i] * weight[i] - g_mean - n * gn_mean);
            }
        }
    }
}

multiversioned! {
    /// Adds `d_y n` to `d_weight` and `d_y` to `d_bias`, over the rows.
    fn d_affine_rows(x: &[f32], d_y: &[f32], eps: f32, d_weight: &mut [f32], d_bias: &mut [f32]) {
        let d = d_weight.len();
        let d_bias = &mut d_bias[..d];
        for (x, d_y) in x.chunks_exact(d).zip(d_y.chunks_exact(d)) {
            let (mean, rstd) = statistics(x, eps);
            for i in 0..d {
                d_weight[i] += d_y[i] * (x[i] - mean) * rstd;
                d_bias[i] += d_y[i];
            }
        }
    }
}

/// Adds the gradient to `x` (rows, D) onto `d_x`.
pub(crate) fn add_d_x(x: &[f32], weight: &[f32], d_y: &[f32], eps: f32, d_x: &mut [f32]) {
    let d = weight.len();
    rows::for_rows(d_x, d, |first, d_x| {
        let range = first * d..first * d + d_x.len();
        d_x_rows(&x[range.clone()], weight, &d_y[range], eps, d_x);
    });
}

/// Gradients to the affine part, `weight` (D) and `bias` (D).
pub(crate) fn d_affine(x: &[f32], d: usize, d_y: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>) {
    let mut d_weight = rows::reduce_rows(x.len() / d, d, 2 * d, |range, partial| {
        let (d_weight, d_bias) = partial.split_at_mut(d);
        let range = range.start * d..range.end * d;
        d_affine_rows(&x[range.clone()], &d_y[range], eps, d_weight, d_bias);
    });
    let d_bias = d_weight.split_off(d);
    (d_weight, d_bias)
}
