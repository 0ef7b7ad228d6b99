//! Attention by panels of 32 queries, which lie across the lanes of two AVX-512 registers.
//!
//! Everything of a panel is kept transposed, keys (or head channels) down and queries across:
//! `S^T = K Q^T`, `O^T = V^T P^T`. So the softmax runs down the columns without sums across lanes,
//! the probabilities are the next product's operand as they lie, and no N x N matrix exists: a
//! panel is N x 32, whatever N.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::layout::{Heads, Packed, Part, Sizes, load_rows, turn_back};
use crate::cpu::{level::multiversioned, real::Real, scratch::Scratch, special};

/// Queries of a panel.
const LANES: usize = 32;
/// Keys of a tile: 14 x 2 sums, two vectors and a broadcast value fill the 32 registers.
const TILE: usize = 14;
/// What loads of whole vectors may read beyond the last value.
const SLACK: usize = 32;

/// `c[i][..] = sum_p a[p * a_step + i] b[p][..]` for `i < M`, of which `rows` are stored; `b` and
/// `c` have rows of [`LANES`] values, of which the first 16 `V` are used.
///
/// # Safety
/// AVX-512F; `a` must be readable up to `(k - 1) * a_step + M`, `b` for `k` rows, `c` writable for
/// `rows` rows.
#[target_feature(enable = "avx512f")]
unsafe fn columns<const M: usize, const V: usize>(
    k: usize,
    a: *const f32,
    a_step: usize,
    b: *const f32,
    c: *mut f32,
    rows: usize,
) {
    let mut sums = [[_mm512_setzero_ps(); V]; M];
    // SAFETY: all offsets are within what the caller promises.
    unsafe {
        for p in 0..k {
            let (a, b) = (a.add(p * a_step), b.add(p * LANES));
            let b: [__m512; V] = std::array::from_fn(|v| _mm512_loadu_ps(b.add(16 * v)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*a.add(i));
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = _mm512_fmadd_ps(a, b, *sum);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate().take(rows) {
            for (v, sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(c.add(i * LANES + 16 * v), *sum);
            }
        }
    }
}

/// [`columns`] over `count` rows of the result, in tiles of equal height; `a` begins at the first
/// row and `a_step` values lead from one `p` to the next.
///
/// # Safety
/// As [`columns`] for each tile; `a` must be readable for [`SLACK`] values beyond its last.
#[target_feature(enable = "avx512f")]
unsafe fn wide_columns<const V: usize>(
    k: usize,
    a: *const f32,
    a_step: usize,
    b: *const f32,
    c: *mut f32,
    count: usize,
) {
    let tile = count.div_ceil(count.div_ceil(TILE));
    for first in (0..count).step_by(tile) {
        let rows = tile.min(count - first);
        // SAFETY: the caller's promise; a kernel of more rows than `rows` reads into the slack.
        unsafe {
            let (a, c) = (a.add(first), c.add(first * LANES));
            match tile {
                0..=4 => columns::<4, V>(k, a, a_step, b, c, rows),
                5..=8 => columns::<8, V>(k, a, a_step, b, c, rows),
                9..=11 => columns::<11, V>(k, a, a_step, b, c, rows),
                12 => columns::<12, V>(k, a, a_step, b, c, rows),
                13 => columns::<13, V>(k, a, a_step, b, c, rows),
                _ => columns::<14, V>(k, a, a_step, b, c, rows),
            }
        }
    }
}

/// `c[i][j] += sum_p a[i][p] b[p][j]` for `i < rows` of a tile and `j < width <= 32`; `a` has rows
/// of [`LANES`] values, `b` and `c` rows of `stride`.
///
/// # Safety
/// AVX-512F; `a` must be readable for [`TILE`] rows, `b` for `k` rows and [`SLACK`] values more,
/// `c` writable for `rows` rows of `width` values.
#[target_feature(enable = "avx512f")]
unsafe fn add_rows(
    k: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    stride: usize,
    rows: usize,
    width: usize,
) {
    let mask = |from: usize| (((1_u64 << width.min(32)) - 1) >> from) as __mmask16;
    let masks = [mask(0), mask(16)];
    let mut sums = [[_mm512_setzero_ps(); 2]; TILE];
    // SAFETY: all offsets are within what the caller promises; stores are masked to `width` values.
    unsafe {
        for p in 0..k {
            let b = b.add(p * stride);
            let b = [_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16))];
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*a.add(i * LANES + p));
                sums[0] = _mm512_fmadd_ps(a, b[0], sums[0]);
                sums[1] = _mm512_fmadd_ps(a, b[1], sums[1]);
            }
        }
        for (i, sums) in sums.iter().enumerate().take(rows) {
            for ((v, sum), mask) in sums.iter().enumerate().zip(masks) {
                let c = c.add(i * stride + 16 * v);
                let old = _mm512_maskz_loadu_ps(mask, c);
                _mm512_mask_storeu_ps(c, mask, _mm512_add_ps(old, *sum));
            }
        }
    }
}

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
    /// Dense rows of `width` values in tiles of [`TILE`] rows, each channel first; rows beyond the
    /// last are zero.
    fn pack_tiles(dense: &[f32], width: usize, packed: &mut [f32]) {
        let rows = dense.len() / width;
        for (tile, packed) in packed.chunks_exact_mut(TILE * width).enumerate() {
            for i in 0..TILE {
                let row = tile * TILE + i;
                if row < rows {
                    let dense = &dense[row * width..(row + 1) * width];
                    for (channel, &value) in dense.iter().enumerate() {
                        packed[channel * TILE + i] = value;
                    }
                } else {
                    for channel in 0..width {
                        packed[channel * TILE + i] = 0.0;
                    }
                }
            }
        }
    }
}

multiversioned! {
    /// Up to [`LANES`] rows of `width` values, `stride` apart, as columns; columns beyond the last
    /// row are zero.
    fn load_columns(rows: &[f32], stride: usize, count: usize, width: usize, columns: &mut [f32]) {
        if count < LANES {
            columns[..width * LANES].fill(0.0);
        }
        for lane in 0..count {
            let row = &rows[lane * stride..lane * stride + width];
            for (channel, &value) in row.iter().enumerate() {
                columns[channel * LANES + lane] = value;
            }
        }
    }
}

/// The memory of one task.
struct Head {
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

impl Head {
    fn new(s: &Sizes, backward: bool) -> Self {
        let e = s.head_dim;
        let tiles = s.n.div_ceil(TILE) * TILE;
        let only = |len: usize| Scratch::new(if backward { len } else { 0 });
        Self {
            dense: std::array::from_fn(|_| Scratch::new(s.n * e + SLACK)),
            packed: [Scratch::new(tiles * e), only(tiles * e)],
            q: Scratch::new(e * LANES),
            o: Scratch::new((e + TILE) * LANES),
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
                pack_tiles(&dense[..s.n * e], e, packed);
            }
        }
    }

    /// `p = softmax(k q^T)` for `count` queries from `first` on.
    ///
    /// # Safety
    /// AVX-512F.
    #[target_feature(enable = "avx512f")]
    unsafe fn probabilities<const V: usize>(&mut self, s: &Sizes, first: usize, count: usize) {
        let e = s.head_dim;
        load_columns(&self.dense[0][first * e..], e, count, e, &mut self.q);
        // SAFETY: a tile of the packed keys has e * TILE values, `q` e rows, `p` a row for each row
        // of the tiles.
        unsafe { tiles::<V>(e, &self.packed[0], &self.q, &mut self.p, s.n) };
        softmax_columns(&mut self.p[..s.n * LANES]);
    }
}

/// `out = packed columns` for all tiles of `n` rows.
///
/// # Safety
/// AVX-512F; `packed` must hold the tiles of `n` rows, `out` one row of [`LANES`] for each row of
/// the tiles.
#[target_feature(enable = "avx512f")]
unsafe fn tiles<const V: usize>(e: usize, packed: &[f32], b: &[f32], out: &mut [f32], n: usize) {
    debug_assert!(packed.len() >= n.div_ceil(TILE) * TILE * e && b.len() >= e * LANES);
    debug_assert!(out.len() >= n.div_ceil(TILE) * TILE * LANES);
    for tile in 0..n.div_ceil(TILE) {
        // SAFETY: the caller's promise.
        unsafe {
            let a = packed.as_ptr().add(tile * TILE * e);
            let c = out.as_mut_ptr().add(tile * TILE * LANES);
            columns::<TILE, V>(e, a, TILE, b.as_ptr(), c, TILE);
        }
    }
}

/// Whether this processor runs these kernels.
pub(super) fn available() -> bool {
    use crate::cpu::level::{Level, level};
    level() >= Level::Avx512
}

/// Calls `$name` with the number of vectors that `count` queries need.
macro_rules! by_width {
    ($count:expr, $name:ident :: <V> ( $($arg:expr),* )) => {
        if $count > 16 { $name::<2>($($arg),*) } else { $name::<1>($($arg),*) }
    };
}

/// The kernel of the same name in `cpu`, by panels; the caller has checked [`available`].
pub(super) fn forward<T: Real>(packed: Packed<'_, T>, s: &Sizes, out: &mut [f32]) {
    let heads = Heads(out.as_mut_ptr());
    (0..s.b * s.heads).into_par_iter().for_each_init(
        || Head::new(s, false),
        |scratch, task| {
            let (image, head) = (task / s.heads, task % s.heads);
            scratch.load(packed, s, image, head);
            for first in (0..s.n).step_by(LANES) {
                let count = LANES.min(s.n - first);
                // SAFETY: the caller has checked `available`; this task alone writes the columns of
                // (image, head).
                unsafe { by_width!(count, panel_forward::<V>(scratch, s, first, count)) };
                for lane in 0..count {
                    let to = heads.at((image * s.n + first + lane) * s.d + head * s.head_dim);
                    for channel in 0..s.head_dim {
                        // SAFETY: row `first + lane` of the image exists in (B, N, D), and so do
                        // the head's columns.
                        unsafe { *to.add(channel) = scratch.o[channel * LANES + lane] };
                    }
                }
            }
        },
    );
}

/// `o = v^T p` for one panel.
///
/// # Safety
/// AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn panel_forward<const V: usize>(scratch: &mut Head, s: &Sizes, first: usize, count: usize) {
    let e = s.head_dim;
    // SAFETY: the dense values have slack; `p` has a row for each of `n` keys, `o` for each of `e`
    // channels.
    unsafe {
        scratch.probabilities::<V>(s, first, count);
        let (v, p) = (scratch.dense[2].as_ptr(), scratch.p.as_ptr());
        wide_columns::<V>(s.n, v, e, p, scratch.o.as_mut_ptr(), e);
    }
}

/// The kernel of the same name in `cpu`, by panels; the caller has checked [`available`].
pub(super) fn backward<T: Real>(
    packed: Packed<'_, T>,
    d_out: &[f32],
    s: &Sizes,
    d_qkv: &mut [f32],
) {
    let (e, scale) = (s.head_dim, s.scale());
    let heads = Heads(d_qkv.as_mut_ptr());
    (0..s.b * s.heads).into_par_iter().for_each_init(
        || Head::new(s, true),
        |scratch, task| {
            let (image, head) = (task / s.heads, task % s.heads);
            scratch.load(packed, s, image, head);
            scratch.d.iter_mut().for_each(|d| d.fill(0.0));
            let rows = &d_out[image * s.n * s.d + head * e..];
            for first in (0..s.n).step_by(LANES) {
                let count = LANES.min(s.n - first);
                let rows = &rows[first * s.d..];
                load_rows(rows, s.d, &[], 1.0, e, &mut scratch.d_o[..count * e]);
                // SAFETY: the caller has checked `available`; the function touches the scratch
                // alone.
                unsafe { by_width!(count, panel_backward::<V>(scratch, s, first, count)) };
                let to = heads.at(s.packed(image, Part::Queries, head) + first * 3 * s.d);
                for lane in 0..count {
                    for channel in 0..e {
                        let value = scratch.q[channel * LANES + lane] * scale;
                        // SAFETY: `d_qkv` is as long as `qkv`; this task alone writes the columns
                        // of (image, head).
                        unsafe { *to.add(lane * 3 * s.d + channel) = value };
                    }
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
/// AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn panel_backward<const V: usize>(
    scratch: &mut Head,
    s: &Sizes,
    first: usize,
    count: usize,
) {
    let (e, n) = (s.head_dim, s.n);
    // SAFETY: `p` and `d_s` have a row for each row of the tiles of `n` keys, `q` and `o` for each
    // channel and a tile more; the dense arrays, `d_o` among them, have slack beyond their last
    // value; `d` holds (N, E).
    unsafe {
        scratch.probabilities::<V>(s, first, count);
        load_columns(&scratch.d_o, e, count, e, &mut scratch.o);
        tiles::<V>(e, &scratch.packed[1], &scratch.o, &mut scratch.d_s, n);
        softmax_columns_backward(&scratch.p[..n * LANES], &mut scratch.d_s[..n * LANES]);
        let q = scratch.dense[0].as_ptr().add(first * e);
        let [d_k, d_v] = &mut scratch.d;
        for (a, b, d) in [
            (scratch.d_s.as_ptr(), q, d_k.as_mut_ptr()),
            (scratch.p.as_ptr(), scratch.d_o.as_ptr(), d_v.as_mut_ptr()),
        ] {
            for key in (0..n).step_by(TILE) {
                for channel in (0..e).step_by(LANES) {
                    let (rows, width) = (TILE.min(n - key), LANES.min(e - channel));
                    let (a, b) = (a.add(key * LANES), b.add(channel));
                    add_rows(count, a, b, d.add(key * e + channel), e, rows, width);
                }
            }
        }
        let (k, d_s) = (scratch.dense[1].as_ptr(), scratch.d_s.as_ptr());
        wide_columns::<V>(n, k, e, d_s, scratch.o.as_mut_ptr(), e);
        std::mem::swap(&mut scratch.q, &mut scratch.o);
    }
}
