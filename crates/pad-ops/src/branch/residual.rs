//! How a branch's result joins the residual stream: layer scale, drop path.

use std::borrow::Cow;

use candle_core::{Result, Tensor};

use super::weights::ResidualWeights;
use crate::cpu::{level::multiversioned, rows, slices};

/// The residual stream, or zeros where a branch stands without it.
pub(super) fn skipped(stream: &[f32], skip: bool) -> Cow<'_, [f32]> {
    match skip {
        true => Cow::Borrowed(stream),
        false => Cow::Owned(vec![0.0; stream.len()]),
    }
}

/// Layer scale and drop path of a branch.
pub(super) struct Residual {
    has_gamma: bool,
    factors: Option<Vec<f32>>,
    /// What rows are multiplied by: gamma, or ones.
    scales: Vec<f32>,
    /// Tokens of an image.
    tokens: usize,
}

multiversioned! {
    /// `y += a + factor scales (branch + bias)` of rows of one image.
    fn add_rows(
        y: &mut [f32],
        a: &[f32],
        branch: &[f32],
        bias: &[f32],
        scales: &[f32],
        factor: f32,
    ) {
        let d = scales.len();
        let bias = &bias[..d];
        let rows = a.chunks_exact(d).zip(branch.chunks_exact(d));
        for (y, (a, branch)) in y.chunks_exact_mut(d).zip(rows) {
            for i in 0..d {
                y[i] += a[i] + (branch[i] + bias[i]) * (scales[i] * factor);
            }
        }
    }
}

multiversioned! {
    /// `y = a + factor scales (y + bias)` of rows of one image.
    fn join_rows(y: &mut [f32], a: &[f32], bias: &[f32], scales: &[f32], factor: f32) {
        let d = scales.len();
        let bias = &bias[..d];
        for (y, a) in y.chunks_exact_mut(d).zip(a.chunks_exact(d)) {
            for i in 0..d {
                y[i] = a[i] + (y[i] + bias[i]) * (scales[i] * factor);
            }
        }
    }
}

multiversioned! {
    /// `d = factor scales d_y` of rows of one image.
    fn scale_rows(d_y: &[f32], scales: &[f32], factor: f32, d: &mut [f32]) {
        let width = scales.len();
        for (d, d_y) in d.chunks_exact_mut(width).zip(d_y.chunks_exact(width)) {
            for i in 0..width {
                d[i] = d_y[i] * (scales[i] * factor);
            }
        }
    }
}

multiversioned! {
    /// Adds `factor d_y (branch + bias)` of rows of one image onto `sum`.
    fn gamma_rows(d_y: &[f32], branch: &[f32], bias: &[f32], factor: f32, sum: &mut [f32]) {
        let d = sum.len();
        let bias = &bias[..d];
        for (d_y, branch) in d_y.chunks_exact(d).zip(branch.chunks_exact(d)) {
            for i in 0..d {
                sum[i] += d_y[i] * (branch[i] + bias[i]) * factor;
            }
        }
    }
}

impl Residual {
    /// Of a branch on `x` (B, N, D).
    pub(super) fn new(weights: &ResidualWeights, x: &Tensor) -> Result<Self> {
        let (_, tokens, d) = x.dims3()?;
        let values = |tensor: &Tensor| slices::borrow(tensor).map(|values| values.to_vec());
        let gamma = weights.gamma.as_ref().map(values).transpose()?;
        let factors = weights.factors.as_ref().map(values).transpose()?;
        let has_gamma = gamma.is_some();
        let ones = || factors.as_ref().map_or(Vec::new(), |_| vec![1.0; d]);
        let scales = gamma.unwrap_or_else(ones);
        Ok(Self { has_gamma, factors, scales, tokens })
    }

    /// Whether it has a layer scale, which may want a gradient.
    pub(super) fn has_gamma(&self) -> bool {
        self.has_gamma
    }

    /// Whether the result is added as it is.
    fn is_plain(&self) -> bool {
        self.scales.is_empty()
    }

    /// Calls `work(factor, rows)` for each run of rows of one image inside rows `first..last`.
    fn images(&self, first: usize, last: usize, mut work: impl FnMut(f32, std::ops::Range<usize>)) {
        let Some(factors) = &self.factors else { return work(1.0, first..last) };
        let mut row = first;
        while row < last {
            let image = row / self.tokens;
            let end = ((image + 1) * self.tokens).min(last);
            work(factors[image], row..end);
            row = end;
        }
    }

    fn bias(&self, bias: &[f32]) -> Vec<f32> {
        let mut bias = bias.to_vec();
        bias.resize(self.scales.len(), 0.0);
        bias
    }

    /// `y = a + gamma (y + bias)`; an empty bias adds nothing.
    pub(super) fn join(&self, y: &mut [f32], a: &[f32], bias: &[f32]) {
        if self.is_plain() {
            return rows::add_to(y, a, bias);
        }
        let (bias, d) = (self.bias(bias), self.scales.len());
        rows::for_rows(y, d, |first, y| {
            self.images(first, first + y.len() / d, |factor, range| {
                let y = &mut y[(range.start - first) * d..(range.end - first) * d];
                let a = &a[range.start * d..range.end * d];
                join_rows(y, a, &bias, &self.scales, factor);
            });
        });
    }

    /// `a + gamma branch + c`, of a branch that has its bias already.
    pub(super) fn sum(&self, a: &[f32], branch: &[f32], c: Vec<f32>) -> Vec<f32> {
        if self.is_plain() {
            return rows::sum_of_three(a, branch, &c);
        }
        let (mut y, d) = (c, self.scales.len());
        let bias = self.bias(&[]);
        rows::for_rows(&mut y, d, |first, y| {
            self.images(first, first + y.len() / d, |factor, range| {
                let y = &mut y[(range.start - first) * d..(range.end - first) * d];
                let range = range.start * d..range.end * d;
                add_rows(y, &a[range.clone()], &branch[range], &bias, &self.scales, factor);
            });
        });
        y
    }

    /// The gradient to the branch's result, `gamma d_y`; `None` if that is `d_y`.
    pub(super) fn d_branch(&self, d_y: &[f32]) -> Option<Vec<f32>> {
        if self.is_plain() {
            return None;
        }
        let d = self.scales.len();
        Some(rows::build(d_y.len(), d, |first, out| {
            self.images(first, first + out.len() / d, |factor, range| {
                let out = &mut out[(range.start - first) * d..(range.end - first) * d];
                scale_rows(&d_y[range.start * d..range.end * d], &self.scales, factor, out);
            });
        }))
    }

    /// The gradient to gamma, `d_y (branch + bias)` summed over rows; an empty bias adds nothing.
    pub(super) fn d_gamma(&self, d_y: &[f32], branch: &[f32], bias: &[f32]) -> Vec<f32> {
        let (bias, d) = (self.bias(bias), self.scales.len());
        rows::reduce_rows(d_y.len() / d.max(1), d, d, |range, partial| {
            self.images(range.start, range.end, |factor, range| {
                let range = range.start * d..range.end * d;
                gamma_rows(&d_y[range.clone()], &branch[range], &bias, factor, partial);
            });
        })
    }
}
