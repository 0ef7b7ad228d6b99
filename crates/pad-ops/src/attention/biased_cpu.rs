//! Attention with a bias: a task per (image, head), or per head where the bias is the same for
//! every image and its gradient a sum over them. The N x N matrix of a head lives a block of rows
//! at a time, in both directions; the bias is added to a block while it is in the cache.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::{
    cpu::Head,
    layout::{Heads, Sizes},
};
use crate::{cpu::level::multiversioned, planes, softmax};

/// What is added to the logits, as slices.
#[derive(Clone, Copy)]
pub(super) enum Bias<'a> {
    /// (H, N, N).
    PerHead(&'a [f32]),
    /// (B, N).
    Keys(&'a [f32]),
    /// (B, H, N, height) and (B, H, N, width).
    Decomposed { rows: &'a [f32], columns: &'a [f32], height: usize, width: usize },
}

/// Gradients of the bias, one or two arrays as the bias has; empty where no gradient is needed.
pub(super) struct BiasGradients {
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
}

multiversioned! {
    /// `p[i, j] += rows[i] + columns[j]`, for one query.
    fn add_decomposed(p: &mut [f32], rows: &[f32], columns: &[f32]) {
        let width = columns.len();
        for (p, &row) in p.chunks_exact_mut(width).zip(rows) {
            for i in 0..width {
                p[i] += row + columns[i];
            }
        }
    }
}

multiversioned! {
    /// `d_rows[i] = sum over j of d_s[i, j]`, `d_columns[j] = sum over i`, for one query.
    fn sum_decomposed(d_s: &[f32], d_rows: &mut [f32], d_columns: &mut [f32]) {
        let width = d_columns.len();
        d_columns.fill(0.0);
        for (d_s, d_row) in d_s.chunks_exact(width).zip(d_rows) {
            for i in 0..width {
                d_columns[i] += d_s[i];
            }
            let mut sum = 0.0;
            for &value in d_s {
                sum += value;
            }
            *d_row = sum;
        }
    }
}

impl Bias<'_> {
    /// Adds it to the logits of query rows from `first` on.
    fn add(&self, s: &Sizes, (image, head): (usize, usize), first: usize, p: &mut [f32]) {
        match *self {
            Bias::PerHead(bias) => {
                let from = (head * s.n + first) * s.n;
                planes::add(p, &bias[from..from + p.len()]);
            }
            Bias::Keys(bias) => {
                let keys = &bias[image * s.n..(image + 1) * s.n];
                p.chunks_exact_mut(s.n).for_each(|p| planes::add(p, keys));
            }
            Bias::Decomposed { rows, columns, height, width } => {
                let query = (image * s.heads + head) * s.n + first;
                for (p, query) in p.chunks_exact_mut(s.n).zip(query..) {
                    let rows = &rows[query * height..(query + 1) * height];
                    add_decomposed(p, rows, &columns[query * width..(query + 1) * width]);
                }
            }
        }
    }

    fn probabilities(
        &self,
        head: &mut Head,
        s: &Sizes,
        at: (usize, usize),
        first: usize,
        rows: usize,
    ) {
        head.logits(s, first, rows);
        let p = &mut head.p[..rows * s.n];
        self.add(s, at, first, p);
        softmax::forward_rows(p, s.n);
    }

    /// `qkv` (B, N, 3 D) -> (B, N, D).
    pub(super) fn forward(&self, qkv: &[f32], s: &Sizes) -> Vec<f32> {
        assert_eq!(qkv.len(), s.b * s.n * 3 * s.d);
        let mut out = vec![0.0; s.b * s.n * s.d];
        let (heads, block) = (Heads(out.as_mut_ptr()), s.block_rows());
        (0..s.b * s.heads).into_par_iter().for_each_init(
            || Head::new(s, false),
            |scratch, task| {
                let at = (task / s.heads, task % s.heads);
                scratch.load((qkv, &[], None), s, at.0, at.1);
                for first in (0..s.n).step_by(block) {
                    let rows = block.min(s.n - first);
                    self.probabilities(scratch, s, at, first, rows);
                    // SAFETY: `out` holds (B, N, D); this task alone writes the columns of (image,
                    // head).
                    unsafe { scratch.write(heads, s, at, first, rows) };
                }
            },
        );
        out
    }

    /// One head of one image; `take(first, d_s)` sees the gradient of the logits from query row
    /// `first` on.
    fn back(
        &self,
        scratch: &mut Head,
        (qkv, d_out, d_qkv): (&[f32], &[f32], Heads),
        s: &Sizes,
        at: (usize, usize),
        mut take: impl FnMut(usize, &[f32]),
    ) {
        scratch.load((qkv, &[], None), s, at.0, at.1);
        let block = s.block_rows();
        for first in (0..s.n).step_by(block) {
            let rows = block.min(s.n - first);
            self.probabilities(scratch, s, at, first, rows);
            // SAFETY: `backward` gives each (image, head) to one task alone; `d_qkv` holds (B, N, 3
            // D).
            unsafe { scratch.back(d_qkv, d_out, s, at, first, rows) };
            take(first, &scratch.d_s[..rows * s.n]);
        }
    }

    /// `d_out` (B, N, D) -> `d_qkv` (B, N, 3 D) and the bias's gradients, if `wanted`.
    pub(super) fn backward(
        &self,
        qkv: &[f32],
        d_out: &[f32],
        s: &Sizes,
        wanted: bool,
    ) -> (Vec<f32>, BiasGradients) {
        let lengths = (s.b * s.n * 3 * s.d, s.b * s.n * s.d);
        assert_eq!((qkv.len(), d_out.len()), lengths);
        let mut d_qkv = vec![0.0; lengths.0];
        let operands = (qkv, d_out, Heads(d_qkv.as_mut_ptr()));
        let scratch = || Head::new(s, true);
        let mut gradients = BiasGradients { first: Vec::new(), second: Vec::new() };
        match *self {
            Bias::PerHead(bias) if wanted => {
                gradients.first = vec![0.0; bias.len()];
                let heads = gradients.first.par_chunks_mut(s.n * s.n).enumerate();
                heads.for_each_init(scratch, |scratch, (head, d_bias)| {
                    for image in 0..s.b {
                        self.back(scratch, operands, s, (image, head), |first, d_s| {
                            planes::add(&mut d_bias[first * s.n..first * s.n + d_s.len()], d_s);
                        });
                    }
                });
            }
            Bias::Keys(bias) if wanted => {
                gradients.first = vec![0.0; bias.len()];
                let images = gradients.first.par_chunks_mut(s.n).enumerate();
                images.for_each_init(scratch, |scratch, (image, d_bias)| {
                    for head in 0..s.heads {
                        self.back(scratch, operands, s, (image, head), |_, d_s| {
                            d_s.chunks_exact(s.n).for_each(|d_s| planes::add(d_bias, d_s));
                        });
                    }
                });
            }
            Bias::Decomposed { rows, columns, height, width } if wanted => {
                gradients.first = vec![0.0; rows.len()];
                gradients.second = vec![0.0; columns.len()];
                let rows = gradients.first.par_chunks_mut(s.n * height);
                let tasks = rows.zip(gradients.second.par_chunks_mut(s.n * width)).enumerate();
                tasks.for_each_init(scratch, |scratch, (task, (d_rows, d_columns))| {
                    let at = (task / s.heads, task % s.heads);
                    self.back(scratch, operands, s, at, |first, d_s| {
                        for (d_s, query) in d_s.chunks_exact(s.n).zip(first..) {
                            let d_rows = &mut d_rows[query * height..(query + 1) * height];
                            let columns = query * width..(query + 1) * width;
                            sum_decomposed(d_s, d_rows, &mut d_columns[columns]);
                        }
                    });
                });
            }
            _ => (0..s.b * s.heads).into_par_iter().for_each_init(scratch, |scratch, task| {
                self.back(scratch, operands, s, (task / s.heads, task % s.heads), |_, _| {});
            }),
        }
        (d_qkv, gradients)
    }
}
