//! Attention by panels of 32 queries, which lie across the lanes of two registers of AVX-512, or of
//! four of AVX2.
//!
//! Everything of a panel is kept transposed, keys (or head channels) down and queries across:
//! `S^T = K Q^T`, `O^T = V^T P^T`. So the softmax runs down the columns without sums across lanes,
//! the probabilities are the next product's operand as they lie, and no N x N matrix exists: a
//! panel is N x 32, whatever N.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx512;
mod eight;
mod kernel;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use rayon::prelude::*;

use self::{
    eight::Eights,
    kernel::{Kernel, LANES, SLACK},
};
use super::layout::{Heads, Packed, Part, Sizes, load_rows, turn_back};
use crate::cpu::{
    level::multiversioned,
    real::Real,
    scratch::Scratch,
    special,
    vector::{EightKind, copy_transposed},
};

multiversioned! {
    /// Replaces each column of `keys` rows by its softmax.
    fn softmax_columns(x: &mut [f32]) {
        let mut most = [f32::NEG_INFINITY; LANES];
        for row in x.chunks_exact(LANES) {
            for (most, &x) in most.iter_mut().zip(row) {
                *most = if x > *most { x } else { *most };
            }
        }
        let mut sum = [0.0_f32; LANES];
        for row in x.chunks_exact_mut(LANES) {
            for j in 0..LANES {
                let e = special::exp(row[j] - most[j]);
                row[j] = e;
                sum[j] += e;
            }
        }
        for sum in &mut sum {
            *sum = 1.0 / *sum;
        }
        for row in x.chunks_exact_mut(LANES) {
            for j in 0..LANES {
                row[j] *= sum[j];
            }
        }
    }
}

multiversioned! {
    /// Replaces the gradient to each column of probabilities `p` by the gradient to its logits:
    /// `p (d - sum(p d))`.
    fn softmax_columns_backward(p: &[f32], d: &mut [f32]) {
        let mut inner = [0.0_f32; LANES];
        for (p, d) in p.chunks_exact(LANES).zip(d.chunks_exact(LANES)) {
            for j in 0..LANES {
                inner[j] += p[j] * d[j];
            }
        }
        for (p, d) in p.chunks_exact(LANES).zip(d.chunks_exact_mut(LANES)) {
            for j in 0..LANES {
                d[j] = p[j] * (d[j] - inner[j]);
            }
        }
    }
}

multiversioned! {
    /// Dense rows of `width` values in tiles of `height` rows, each channel first; rows beyond the
    /// last are zero.
    fn pack_tiles(dense: &[f32], width: usize, height: usize, packed: &mut [f32]) {
        let rows = dense.len() / width;
        for (tile, packed) in packed.chunks_exact_mut(height * width).enumerate() {
            for i in 0..height {
                let row = tile * height + i;
                if row < rows {
                    let dense = &dense[row * width..(row + 1) * width];
                    for (channel, &value) in dense.iter().enumerate() {
                        packed[channel * height + i] = value;
                    }
                } else {
                    for channel in 0..width {
                        packed[channel * height + i] = 0.0;
                    }
                }
            }
        }
    }
}

/// Up to [`LANES`] rows of `width` values, `stride` apart, as columns; columns beyond the last row
/// are zero.
fn load_columns(rows: &[f32], stride: usize, count: usize, width: usize, columns: &mut [f32]) {
    let columns = &mut columns[..width * LANES];
    if count < LANES {
        columns.fill(0.0);
    }
    let rows = &rows[..(count - 1) * stride + width];
    // SAFETY: `rows` holds `count` rows of `width` values, `columns` `width` rows of `LANES`.
    unsafe {
        let to = (columns.as_mut_ptr(), LANES);
        copy_transposed(EightKind::best(), (rows.as_ptr(), stride), (count, width), to, 1.0);
    }
}

/// The memory of one task.
struct Head<K> {
    kernel: PhantomData<K>,
    /// (N, E) each, with slack; the queries times the scale.
    dense: [Scratch; 3],
    /// Keys and values in tiles.
    packed: [Scratch; 2],
    /// (E, 32): queries, the output or its gradient.
    q: Scratch,
    o: Scratch,
    /// (N rounded up to tiles, 32): probabilities, and the gradient to the logits.
    p: Scratch,
    d_s: Scratch,
    /// (N, E): gradients to keys and values.
    d: [Scratch; 2],
    /// (32, E): a panel's rows of the output's gradient, dense.
    d_o: Scratch,
}

impl<K: Kernel> Head<K> {
    fn new(s: &Sizes, backward: bool) -> Self {
        let e = s.head_dim;
        let tiles = s.n.div_ceil(K::TILE) * K::TILE;
        let only = |len: usize| Scratch::new(if backward { len } else { 0 });
        Self {
            kernel: PhantomData,
            dense: std::array::from_fn(|_| Scratch::new(s.n * e + SLACK)),
            packed: [Scratch::new(tiles * e), only(tiles * e)],
            q: Scratch::new(e * LANES),
            o: Scratch::new((e + K::TILE) * LANES),
            p: Scratch::new(tiles * LANES),
            d_s: only(tiles * LANES),
            d: std::array::from_fn(|_| only(s.n * e)),
            d_o: only(LANES * e + SLACK),
        }
    }

    fn load<T: Real>(
        &mut self,
        (qkv, bias, rotation): Packed<'_, T>,
        s: &Sizes,
        image: usize,
        head: usize,
    ) {
        let e = s.head_dim;
        let parts = [(Part::Queries, s.scale()), (Part::Keys, 1.0), (Part::Values, 1.0)];
        for ((part, scale), dense) in parts.into_iter().zip(&mut self.dense) {
            let from = part as usize * s.d + head * e;
            let bias = bias.get(from..from + e).unwrap_or(&[]);
            let rows = &qkv[s.packed(image, part, head)..];
            load_rows(rows, 3 * s.d, bias, scale, e, &mut dense[..s.n * e]);
        }
        if let Some(rotation) = rotation {
            for dense in &mut self.dense[..2] {
                rotation.rotate_rows(image, &mut dense[..s.n * e], e);
            }
        }
        for (dense, packed) in self.dense[1..].iter().zip(&mut self.packed) {
            if !packed.is_empty() {
                pack_tiles(&dense[..s.n * e], e, K::TILE, packed);
            }
        }
    }

    /// `p = softmax(k q^T)` for `count` queries from `first` on.
    ///
    /// # Safety
    /// The instructions of `K`.
    unsafe fn probabilities(&mut self, s: &Sizes, first: usize, count: usize) {
        let e = s.head_dim;
        load_columns(&self.dense[0][first * e..], e, count, e, &mut self.q);
        // SAFETY: a tile of the packed keys has e rows of its height, `q` e rows, `p` a row for each row
        // of the tiles.
        unsafe { tiles::<K>(count, e, &self.packed[0], &self.q, &mut self.p, s.n) };
        softmax_columns(&mut self.p[..s.n * LANES]);
    }
}

/// `out = packed columns` for all tiles of `n` rows, of which `count` columns are used.
///
/// # Safety
/// The instructions of `K`; `packed` must hold the tiles of `n` rows, `out` one row of [`LANES`] for
/// each row of the tiles.
unsafe fn tiles<K: Kernel>(
    count: usize,
    e: usize,
    packed: &[f32],
    b: &[f32],
    out: &mut [f32],
    n: usize,
) {
    debug_assert!(packed.len() >= n.div_ceil(K::TILE) * K::TILE * e && b.len() >= e * LANES);
    debug_assert!(out.len() >= n.div_ceil(K::TILE) * K::TILE * LANES);
    for tile in 0..n.div_ceil(K::TILE) {
        // SAFETY: the caller's promise.
        unsafe {
            let a = packed.as_ptr().add(tile * K::TILE * e);
            let c = out.as_mut_ptr().add(tile * K::TILE * LANES);
            K::tile(count, e, a, b.as_ptr(), c);
        }
    }
}

/// Whether this processor runs these kernels.
pub(super) fn available() -> bool {
    EightKind::best() == EightKind::Wide
}

/// Calls a function of this module with the widest kernel.
macro_rules! with_widest {
    ($name:ident($($arg:expr),*)) => {{
        #[cfg(target_arch = "x86_64")]
        if $crate::cpu::level::level() >= $crate::cpu::level::Level::Avx512 {
            return $name::<avx512::Avx512, _>($($arg),*);
        }
        $name::<Eights, _>($($arg),*)
    }};
}

/// The kernel of the same name in `cpu`, by panels; the caller has checked [`available`].
pub(super) fn forward<T: Real>(packed: Packed<'_, T>, s: &Sizes, out: &mut [f32]) {
    with_widest!(forward_by(packed, s, out))
}

/// The kernel of the same name in `cpu`, by panels; the caller has checked [`available`].
pub(super) fn backward<T: Real>(
    packed: Packed<'_, T>,
    d_out: &[f32],
    s: &Sizes,
    d_qkv: &mut [f32],
) {
    with_widest!(backward_by(packed, d_out, s, d_qkv))
}

fn forward_by<K: Kernel, T: Real>(packed: Packed<'_, T>, s: &Sizes, out: &mut [f32]) {
    let heads = Heads(out.as_mut_ptr());
    (0..s.b * s.heads).into_par_iter().for_each_init(
        || Head::<K>::new(s, false),
        |scratch, task| {
            let (image, head) = (task / s.heads, task % s.heads);
            scratch.load(packed, s, image, head);
            for first in (0..s.n).step_by(LANES) {
                let count = LANES.min(s.n - first);
                let to = heads.at((image * s.n + first) * s.d + head * s.head_dim);
                // SAFETY: the caller has checked `available`; the rows from `first` on exist in (B,
                // N, D), and this task alone writes the columns of (image, head).
                unsafe {
                    panel_forward(scratch, s, first, count);
                    let o = (scratch.o.as_ptr(), LANES);
                    copy_transposed(EightKind::best(), o, (s.head_dim, count), (to, s.d), 1.0);
                }
            }
        },
    );
}

/// `o = v^T p` for one panel.
///
/// # Safety
/// The instructions of `K`.
unsafe fn panel_forward<K: Kernel>(scratch: &mut Head<K>, s: &Sizes, first: usize, count: usize) {
    let e = s.head_dim;
    // SAFETY: the dense values have slack; `p` has a row for each of `n` keys, `o` for each of `e`
    // channels.
    unsafe {
        scratch.probabilities(s, first, count);
        let (v, p) = (scratch.dense[2].as_ptr(), scratch.p.as_ptr());
        K::columns(count, s.n, (v, e), p, scratch.o.as_mut_ptr(), e);
    }
}

fn backward_by<K: Kernel, T: Real>(
    packed: Packed<'_, T>,
    d_out: &[f32],
    s: &Sizes,
    d_qkv: &mut [f32],
) {
    let (e, scale) = (s.head_dim, s.scale());
    let heads = Heads(d_qkv.as_mut_ptr());
    (0..s.b * s.heads).into_par_iter().for_each_init(
        || Head::<K>::new(s, true),
        |scratch, task| {
            let (image, head) = (task / s.heads, task % s.heads);
            scratch.load(packed, s, image, head);
            scratch.d.iter_mut().for_each(|d| d.fill(0.0));
            let rows = &d_out[image * s.n * s.d + head * e..];
            for first in (0..s.n).step_by(LANES) {
                let count = LANES.min(s.n - first);
                let rows = &rows[first * s.d..];
                load_rows(rows, s.d, &[], 1.0, e, &mut scratch.d_o[..count * e]);
                let to = heads.at(s.packed(image, Part::Queries, head) + first * 3 * s.d);
                // SAFETY: the caller has checked `available`; `d_qkv` is as long as `qkv`, and this
                // task alone writes the columns of (image, head).
                unsafe {
                    panel_backward(scratch, s, first, count);
                    let (q, to) = ((scratch.q.as_ptr(), LANES), (to, 3 * s.d));
                    copy_transposed(EightKind::best(), q, (e, count), to, scale);
                }
            }
            for (part, d) in [Part::Keys, Part::Values].into_iter().zip(&scratch.d) {
                for (row, d) in d.chunks_exact(e).enumerate() {
                    let to = heads.at(s.packed(image, part, head) + row * 3 * s.d);
                    // SAFETY: as above; a head's row has `e` values, and `d` lies elsewhere.
                    unsafe { std::ptr::copy_nonoverlapping(d.as_ptr(), to, e) };
                }
            }
            if let Some(rotation) = packed.2 {
                // SAFETY: as above.
                unsafe { turn_back(rotation, heads, s, image, head) };
            }
        },
    );
}

/// Adds one panel's part to the gradients of keys and values; leaves `d_q^T` (without the scale) in
/// `q`.
///
/// # Safety
/// The instructions of `K`.
unsafe fn panel_backward<K: Kernel>(scratch: &mut Head<K>, s: &Sizes, first: usize, count: usize) {
    let (e, n) = (s.head_dim, s.n);
    // SAFETY: `p` and `d_s` have a row for each row of the tiles of `n` keys, `q` and `o` for each
    // channel and a tile more; the dense arrays, `d_o` among them, have slack beyond their last
    // value; `d` holds (N, E).
    unsafe {
        scratch.probabilities(s, first, count);
        load_columns(&scratch.d_o, e, count, e, &mut scratch.o);
        tiles::<K>(count, e, &scratch.packed[1], &scratch.o, &mut scratch.d_s, n);
        softmax_columns_backward(&scratch.p[..n * LANES], &mut scratch.d_s[..n * LANES]);
        let q = scratch.dense[0].as_ptr().add(first * e);
        let [d_k, d_v] = &mut scratch.d;
        for (a, b, d) in [
            (scratch.d_s.as_ptr(), q, d_k.as_mut_ptr()),
            (scratch.p.as_ptr(), scratch.d_o.as_ptr(), d_v.as_mut_ptr()),
        ] {
            for key in (0..n).step_by(K::TILE) {
                for channel in (0..e).step_by(LANES) {
                    let size = (K::TILE.min(n - key), LANES.min(e - channel));
                    let (a, b) = (a.add(key * LANES), b.add(channel));
                    K::add_rows(count, a, b, d.add(key * e + channel), e, size);
                }
            }
        }
        let (k, d_s) = (scratch.dense[1].as_ptr(), scratch.d_s.as_ptr());
        K::columns(count, n, (k, e), d_s, scratch.o.as_mut_ptr(), e);
        std::mem::swap(&mut scratch.q, &mut scratch.o);
    }
}
