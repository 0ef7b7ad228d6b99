//! Rows in parallel; forward and backward side by side.

use crate::cpu::{level::vectorized, rows};

/// Which gradients someone asked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) d_x: bool,
    pub(super) d_affine: bool,
}

/// Mean and `1 / sqrt(var + eps)` of one row, in two passes (the one-pass formula cancels).
#[inline(always)]
fn statistics(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = rows::sum(x) / n;
    let variance = rows::sum_by(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// `x` (rows, D), `weight`, `bias` (D) -> (rows, D).
pub(super) fn forward(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let d = weight.len();
    let mut y = vec![0.0; x.len()];
    rows::for_rows(&mut y, d, |first, y| {
        vectorized(|| {
            let x = &x[first * d..first * d + y.len()];
            for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
                let (mean, rstd) = statistics(x, eps);
                for i in 0..d {
                    y[i] = (x[i] - mean) * rstd * weight[i] + bias[i];
                }
            }
        });
    });
    y
}

/// Gradients to `x` (rows, D), `weight` (D) and `bias` (D); those not wanted come back empty.
///
/// With `n = (x - mean) rstd` and `g = d_y weight`: `d_x = rstd (g - mean(g) - n mean(g n))`,
/// `d_weight = sum(d_y n)`, `d_bias = sum(d_y)` over the rows.
pub(super) fn backward(
    x: &[f32],
    weight: &[f32],
    d_y: &[f32],
    eps: f32,
    wanted: Wanted,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let d = weight.len();
    let mut d_x = if wanted.d_x { vec![0.0; x.len()] } else { Vec::new() };
    if wanted.d_x {
        rows::for_rows(&mut d_x, d, |first, d_x| {
            vectorized(|| {
                for (row, d_x) in d_x.chunks_exact_mut(d).enumerate() {
                    let from = (first + row) * d;
                    let (x, d_y) = (&x[from..from + d], &d_y[from..from + d]);
                    let (mean, rstd) = statistics(x, eps);
                    let g_mean = rows::dot(d_y, weight) / d as f32;
                    let gn_mean =
                        rows::sum_by(d, |i| d_y[i] * weight[i] * (x[i] - mean) * rstd) / d as f32;
                    for i in 0..d {
                        let n = (x[i] - mean) * rstd;
                        d_x[i] = rstd * (d_y[i] * weight[i] - g_mean - n * gn_mean);
                    }
                }
            });
        });
    }
    if !wanted.d_affine {
        return (d_x, Vec::new(), Vec::new());
    }
    let mut d_weight = rows::reduce_rows(x.len() / d, d, 2 * d, |range, partial| {
        vectorized(|| {
            let (d_weight, d_bias) = partial.split_at_mut(d);
            for row in range {
                let (x, d_y) = (&x[row * d..(row + 1) * d], &d_y[row * d..(row + 1) * d]);
                let (mean, rstd) = statistics(x, eps);
                for i in 0..d {
                    d_weight[i] += d_y[i] * (x[i] - mean) * rstd;
                    d_bias[i] += d_y[i];
                }
            }
        });
    });
    let d_bias = d_weight.split_off(d);
    (d_x, d_weight, d_bias)
}
