//! One task per (image, head); products read and write heads in place inside the packed arrays.
#![allow(unsafe_code)]

use rayon::prelude::*;

use crate::{
    cpu::matmul::{Into, Mat, Threads, matmul, matmul_raw},
    softmax,
};

/// Values of a block of the N x N matrix: half a megabyte, so that it stays in the second-level cache.
const BLOCK_VALUES: usize = 1 << 17;

/// `b` images, `n` tokens, `d` = `heads` * `head_dim`.
pub(super) struct Sizes {
    pub(super) b: usize,
    pub(super) n: usize,
    pub(super) d: usize,
    pub(super) heads: usize,
    pub(super) head_dim: usize,
}

impl Sizes {
    fn scale(&self) -> f32 {
        (self.head_dim as f32).powf(-0.5)
    }

    /// Query rows worked on together.
    fn block_rows(&self) -> usize {
        (BLOCK_VALUES / self.n.max(1)).clamp(16, self.n.max(16))
    }

    /// Where head `head` of queries (0), keys (1) or values (2) of `image` begins in the packed array.
    fn packed(&self, image: usize, which: usize, head: usize) -> usize {
        image * self.n * 3 * self.d + which * self.d + head * self.head_dim
    }

    /// Rows `rows` of a head inside the packed array.
    fn packed_mat(&self, rows: usize) -> Mat {
        Mat::strided(rows, self.head_dim, 3 * self.d)
    }

    /// Rows `rows` of a head inside the output.
    fn out_mat(&self, rows: usize) -> Mat {
        Mat::strided(rows, self.head_dim, self.d)
    }
}

/// A pointer that tasks share, each for its own head.
#[derive(Clone, Copy)]
struct Heads(*mut f32);
// SAFETY: every task writes only the columns of its own (image, head), and these are disjoint.
unsafe impl Send for Heads {}
// SAFETY: as above.
unsafe impl Sync for Heads {}

impl Heads {
    /// The value at `offset`.
    fn at(self, offset: usize) -> *mut f32 {
        // A method, so that closures capture the whole (Sync) wrapper and not the bare pointer.
        self.0.wrapping_add(offset)
    }
}

/// `p = softmax(scale q k^T)` for query rows `first..first + rows` of one head.
fn probabilities(qkv: &[f32], s: &Sizes, image: usize, head: usize, first: usize, p: &mut [f32]) {
    let rows = p.len() / s.n;
    let q = &qkv[s.packed(image, 0, head) + first * 3 * s.d..];
    let k = &qkv[s.packed(image, 1, head)..];
    matmul(
        (p, Mat::dense(rows, s.n)),
        Into::Replace,
        s.scale(),
        (q, s.packed_mat(rows)),
        (k, s.packed_mat(s.n).t()),
        Threads::One,
    );
    softmax::forward_rows(p, s.n);
}

/// `qkv` (B, N, 3 D) -> (B, N, D).
pub(super) fn forward(qkv: &[f32], s: &Sizes) -> Vec<f32> {
    let mut out = vec![0.0; s.b * s.n * s.d];
    let heads = Heads(out.as_mut_ptr());
    let block = s.block_rows();
    (0..s.b * s.heads).into_par_iter().for_each_init(
        || vec![0.0; block.min(s.n) * s.n],
        |scratch, task| {
            let (image, head) = (task / s.heads, task % s.heads);
            for first in (0..s.n).step_by(block) {
                let rows = block.min(s.n - first);
                let p = &mut scratch[..rows * s.n];
                probabilities(qkv, s, image, head, first, p);
                let v = &qkv[s.packed(image, 2, head)..];
                let offset = (image * s.n + first) * s.d + head * s.head_dim;
                // SAFETY: `out` holds (B, N, D); this task alone writes the columns of (image, head), and rows
                // `first..first + rows` exist.
                unsafe {
                    matmul_raw(
                        (heads.at(offset), s.out_mat(rows)),
                        Into::Replace,
                        1.0,
                        (p, Mat::dense(rows, s.n)),
                        (v, s.packed_mat(s.n)),
                        Threads::One,
                    );
                }
            }
        },
    );
    out
}

/// `qkv` (B, N, 3 D), `d_out` (B, N, D) -> `d_qkv` (B, N, 3 D).
///
/// With `P` computed again: `d_V = P^T d_O`, `d_P = d_O V^T`, `d_S = P (d_P - rowsum(d_P P))`,
/// `d_Q = scale d_S K`, `d_K = scale d_S^T Q`.
pub(super) fn backward(qkv: &[f32], d_out: &[f32], s: &Sizes) -> Vec<f32> {
    let mut d_qkv = vec![0.0; qkv.len()];
    let heads = Heads(d_qkv.as_mut_ptr());
    let block = s.block_rows();
    (0..s.b * s.heads).into_par_iter().for_each_init(
        || (vec![0.0; block.min(s.n) * s.n], vec![0.0; block.min(s.n) * s.n]),
        |(p, d_s), task| {
            let (image, head) = (task / s.heads, task % s.heads);
            let k = &qkv[s.packed(image, 1, head)..];
            let v = &qkv[s.packed(image, 2, head)..];
            for first in (0..s.n).step_by(block) {
                let rows = block.min(s.n - first);
                let (p, d_s) = (&mut p[..rows * s.n], &mut d_s[..rows * s.n]);
                probabilities(qkv, s, image, head, first, p);
                let d_o = &d_out[(image * s.n + first) * s.d + head * s.head_dim..];
                let q_from = s.packed(image, 0, head) + first * 3 * s.d;
                let square = Mat::dense(rows, s.n);
                let into = if first == 0 { Into::Replace } else { Into::Add };
                // SAFETY: `d_qkv` is as long as `qkv`; this task alone writes the columns of (image, head) in its
                // three parts, and the rows named exist. The same holds for the two calls below.
                unsafe {
                    matmul_raw(
                        (heads.at(s.packed(image, 2, head)), s.packed_mat(s.n)),
                        into,
                        1.0,
                        (p, square.t()),
                        (d_o, s.out_mat(rows)),
                        Threads::One,
                    );
                }
                matmul(
                    (d_s, square),
                    Into::Replace,
                    1.0,
                    (d_o, s.out_mat(rows)),
                    (v, s.packed_mat(s.n).t()),
                    Threads::One,
                );
                softmax::backward_rows(p, d_s, s.n);
                // SAFETY: see above.
                unsafe {
                    matmul_raw(
                        (heads.at(q_from), s.packed_mat(rows)),
                        Into::Replace,
                        s.scale(),
                        (d_s, square),
                        (k, s.packed_mat(s.n)),
                        Threads::One,
                    );
                    matmul_raw(
                        (heads.at(s.packed(image, 1, head)), s.packed_mat(s.n)),
                        into,
                        s.scale(),
                        (d_s, square.t()),
                        (&qkv[q_from..], s.packed_mat(rows)),
                        Threads::One,
                    );
                }
            }
        },
    );
    d_qkv
}
