//! One task per (image, head): its queries, keys and values are copied together once, which also
//! adds the bias of the `qkv` layer, and all products of the head stay in the cache.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::{
    layout::{Heads, Packed, Part, Sizes, load_rows, turn_back},
    panel,
};
use crate::{
    cpu::{
        matmul::{Into, Mat, Threads, matmul, matmul_raw},
        real::Real,
        scratch::Scratch,
    },
    rope::cpu::Rotation,
    softmax,
};

/// One head's operands, dense, and its blocks of the N x N matrix.
pub(super) struct Head {
    /// (N, E), times the scale.
    pub(super) q: Scratch,
    pub(super) k: Scratch,
    pub(super) v: Scratch,
    /// (block, N).
    pub(super) p: Scratch,
    pub(super) d_s: Scratch,
}

impl Head {
    pub(super) fn new(s: &Sizes, backward: bool) -> Self {
        let (dense, square) = (s.n * s.head_dim, s.block_rows() * s.n);
        Self {
            q: Scratch::new(dense),
            k: Scratch::new(dense),
            v: Scratch::new(dense),
            p: Scratch::new(square),
            d_s: Scratch::new(if backward { square } else { 0 }),
        }
    }

    /// Copies head `head` of `image`; queries and keys are rotated.
    pub(super) fn load<T: Real>(
        &mut self,
        (qkv, bias, rotation): Packed<'_, T>,
        s: &Sizes,
        image: usize,
        head: usize,
    ) {
        let parts = [(Part::Queries, s.scale()), (Part::Keys, 1.0), (Part::Values, 1.0)];
        for ((part, scale), dense) in parts.into_iter().zip([&mut self.q, &mut self.k, &mut self.v])
        {
            let from = part as usize * s.d + head * s.head_dim;
            let bias = bias.get(from..from + s.head_dim).unwrap_or(&[]);
            load_rows(&qkv[s.packed(image, part, head)..], 3 * s.d, bias, scale, s.head_dim, dense);
        }
        if let Some(rotation) = rotation {
            rotation.rotate_rows(image, &mut self.q, s.head_dim);
            rotation.rotate_rows(image, &mut self.k, s.head_dim);
        }
    }

    /// `p = softmax(q k^T)` for query rows `first..first + rows`.
    fn probabilities(&mut self, s: &Sizes, first: usize, rows: usize) {
        self.logits(s, first, rows);
        softmax::forward_rows(&mut self.p[..rows * s.n], s.n);
    }

    /// `p = q k^T` for query rows `first..first + rows`.
    pub(super) fn logits(&mut self, s: &Sizes, first: usize, rows: usize) {
        let p = &mut self.p[..rows * s.n];
        matmul(
            (p, Mat::dense(rows, s.n)),
            Into::Replace,
            1.0,
            (&self.q[first * s.head_dim..], s.head_mat(rows)),
            (&self.k, s.head_mat(s.n).t()),
            Threads::One,
        );
    }

    /// `out = p v` for query rows `first..first + rows` of head `head` of `image`.
    ///
    /// # Safety
    /// `out` points to (B, N, D), and no other thread accesses the columns of this head in this
    /// image's rows.
    pub(super) unsafe fn write(
        &self,
        out: Heads,
        s: &Sizes,
        (image, head): (usize, usize),
        first: usize,
        rows: usize,
    ) {
        let offset = (image * s.n + first) * s.d + head * s.head_dim;
        // SAFETY: by this function's contract; rows `first..first + rows` exist.
        unsafe {
            matmul_raw(
                (out.at(offset), s.out_mat(rows)),
                Into::Replace,
                1.0,
                (&self.p, Mat::dense(rows, s.n)),
                (&self.v, s.head_mat(s.n)),
                Threads::One,
            );
        }
    }

    /// With `p` the probabilities of query rows `first..first + rows`: writes the gradients of
    /// their queries, adds those of keys and values, and leaves the gradient of the logits in
    /// `d_s`.
    ///
    /// # Safety
    /// `d_qkv` points to (B, N, 3 D), and no other thread accesses the columns of this head in this
    /// image's rows.
    pub(super) unsafe fn back(
        &mut self,
        d_qkv: Heads,
        d_out: &[f32],
        s: &Sizes,
        (image, head): (usize, usize),
        first: usize,
        rows: usize,
    ) {
        let to = |part| d_qkv.at(s.packed(image, part, head));
        let d_o = &d_out[(image * s.n + first) * s.d + head * s.head_dim..];
        let square = Mat::dense(rows, s.n);
        let into = if first == 0 { Into::Replace } else { Into::Add };
        // SAFETY: by this function's contract, and the rows named exist. The same holds for the two
        // calls below.
        unsafe {
            matmul_raw(
                (to(Part::Values), s.packed_mat(s.n)),
                into,
                1.0,
                (&self.p, square.t()),
                (d_o, s.out_mat(rows)),
                Threads::One,
            );
        }
        let d_s = &mut self.d_s[..rows * s.n];
        matmul(
            (d_s, square),
            Into::Replace,
            1.0,
            (d_o, s.out_mat(rows)),
            (&self.v, s.head_mat(s.n).t()),
            Threads::One,
        );
        softmax::backward_rows(&self.p[..rows * s.n], d_s, s.n);
        // SAFETY: see above. The copy of the queries holds the scale already.
        unsafe {
            matmul_raw(
                (to(Part::Queries).wrapping_add(first * 3 * s.d), s.packed_mat(rows)),
                Into::Replace,
                s.scale(),
                (d_s, square),
                (&self.k, s.head_mat(s.n)),
                Threads::One,
            );
            matmul_raw(
                (to(Part::Keys), s.packed_mat(s.n)),
                into,
                1.0,
                (d_s, square.t()),
                (&self.q[first * s.head_dim..], s.head_mat(rows)),
                Threads::One,
            );
        }
    }
}

/// `qkv` (B, N, 3 D) and the bias (3 D, or empty) that is added to it -> `out` (B, N, D).
pub(crate) fn forward<T: Real>(
    qkv: &[T],
    bias: &[f32],
    rotation: Option<&Rotation>,
    s: &Sizes,
    out: &mut [f32],
) {
    assert_eq!((qkv.len(), out.len()), (s.b * s.n * 3 * s.d, s.b * s.n * s.d));
    if panel::available() {
        return panel::forward((qkv, bias, rotation), s, out);
    }
    let heads = Heads(out.as_mut_ptr());
    let block = s.block_rows();
    (0..s.b * s.heads).into_par_iter().for_each_init(
        || Head::new(s, false),
        |scratch, task| {
            let (image, head) = (task / s.heads, task % s.heads);
            scratch.load((qkv, bias, rotation), s, image, head);
            for first in (0..s.n).step_by(block) {
                let rows = block.min(s.n - first);
                scratch.probabilities(s, first, rows);
                // SAFETY: `out` holds (B, N, D); this task alone writes the columns of (image,
                // head).
                unsafe { scratch.write(heads, s, (image, head), first, rows) };
            }
        },
    );
}

/// `qkv` (B, N, 3 D), its bias, `d_out` (B, N, D) -> `d_qkv` (B, N, 3 D).
///
/// With `P` computed again: `d_V = P^T d_O`, `d_P = d_O V^T`, `d_S = P (d_P - rowsum(d_P P))`,
/// `d_Q = scale d_S K`, `d_K = scale d_S^T Q`.
pub(crate) fn backward<T: Real>(
    qkv: &[T],
    bias: &[f32],
    rotation: Option<&Rotation>,
    d_out: &[f32],
    s: &Sizes,
    d_qkv: &mut [f32],
) {
    let lengths = (qkv.len(), d_out.len(), d_qkv.len());
    assert_eq!(lengths, (s.b * s.n * 3 * s.d, s.b * s.n * s.d, s.b * s.n * 3 * s.d));
    if panel::available() {
        return panel::backward((qkv, bias, rotation), d_out, s, d_qkv);
    }
    let heads = Heads(d_qkv.as_mut_ptr());
    let block = s.block_rows();
    (0..s.b * s.heads).into_par_iter().for_each_init(
        || Head::new(s, true),
        |scratch, task| {
            let (image, head) = (task / s.heads, task % s.heads);
            scratch.load((qkv, bias, rotation), s, image, head);
            for first in (0..s.n).step_by(block) {
                let rows = block.min(s.n - first);
                scratch.probabilities(s, first, rows);
                // SAFETY: `d_qkv` is as long as `qkv`; this task alone writes the columns of
                // (image, head) in its three parts.
                unsafe { scratch.back(heads, d_out, s, (image, head), first, rows) };
            }
            if let Some(rotation) = rotation {
                // SAFETY: as above.
                unsafe { turn_back(rotation, heads, s, image, head) };
            }
        },
    );
}
