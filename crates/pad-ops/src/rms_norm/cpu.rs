//! Rows in parallel; forward and backward side by side.

use crate::cpu::{level::multiversioned, rows};

/// `1 / sqrt(mean(x^2) + eps)` of one row.
#[inline(always)]
fn inverse(x: &[f32], eps: f32) -> f32 {
    1.0 / (rows::dot(x, x) / x.len() as f32 + eps).sqrt()
}

multiversioned! {
    fn forward_rows(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
        let d = weight.len();
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            let inverse = inverse(x, eps);
            for i in 0..d {
                y[i] = x[i] * inverse * weight[i];
            }
        }
    }
}

/// `x` (rows, D), `weight` (D) -> `y` (rows, D).
pub(super) fn forward(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let d = weight.len();
    rows::for_rows(y, d, |first, y| {
        forward_rows(&x[first * d..first * d + y.len()], weight, eps, y);
    });
}

multiversioned! {
    /// With `r` the inverse and `g = d_y weight`: `d_x = r (g - x r^2 mean(g x))`.
    fn d_x_rows(x: &[f32], weight: &[f32], d_y: &[f32], eps: f32, d_x: &mut [f32]) {
        let d = weight.len();
        let rows = x.chunks_exact(d).zip(d_y.chunks_exact(d)).zip(d_x.chunks_exact_mut(d));
        for ((x, d_y), d_x) in rows {
            let r = inverse(x, eps);
            let inner = rows::sum_by(d, |i| d_y[i] * weight[i] * x[i]) / d as f32;
            let along = r * r * inner;
            for i in 0..d {
                d_x[i] = r * (d_y[i] * weight[i] - x[i] * along);
            }
        }
    }
}

multiversioned! {
    /// Adds `d_y x r` to `d_weight`, over the rows.
    fn d_weight_rows(x: &[f32], d_y: &[f32], eps: f32, d_weight: &mut [f32]) {
        let d = d_weight.len();
        for (x, d_y) in x.chunks_exact(d).zip(d_y.chunks_exact(d)) {
            let r = inverse(x, eps);
            for i in 0..d {
                d_weight[i] += d_y[i] * x[i] * r;
            }
        }
    }
}

/// The gradient to `x` (rows, D).
pub(super) fn d_x(x: &[f32], weight: &[f32], d_y: &[f32], eps: f32) -> Vec<f32> {
    let d = weight.len();
    rows::build(x.len(), d, |first, d_x| {
        let range = first * d..first * d + d_x.len();
        d_x_rows(&x[range.clone()], weight, &d_y[range], eps, d_x);
    })
}

/// The gradient to `weight` (D).
pub(super) fn d_weight(x: &[f32], d: usize, d_y: &[f32], eps: f32) -> Vec<f32> {
    rows::reduce_rows(x.len() / d, d, d, |range, partial| {
        let range = range.start * d..range.end * d;
        d_weight_rows(&x[range.clone()], &d_y[range], eps, partial);
    })
}
