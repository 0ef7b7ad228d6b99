//! Panels in two registers of AVX-512.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::kernel::{Kernel, LANES};

/// Keys of a tile: 14 x 2 sums, two vectors and a broadcast value fill the 32 registers.
const TILE: usize = 14;

/// AVX-512F.
pub(super) struct Avx512;

impl Kernel for Avx512 {
    const TILE: usize = TILE;

    unsafe fn tile(count: usize, k: usize, a: *const f32, b: *const f32, c: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            if count > 16 {
                columns::<TILE, 2>(k, a, TILE, b, c, TILE);
            } else {
                columns::<TILE, 1>(k, a, TILE, b, c, TILE);
            }
        }
    }

    unsafe fn columns(
        count: usize,
        k: usize,
        (a, a_step): (*const f32, usize),
        b: *const f32,
        c: *mut f32,
        rows: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            if count > 16 {
                wide_columns::<2>(k, a, a_step, b, c, rows);
            } else {
                wide_columns::<1>(k, a, a_step, b, c, rows);
            }
        }
    }

    unsafe fn add_rows(
        k: usize,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        stride: usize,
        (rows, width): (usize, usize),
    ) {
        // SAFETY: the caller's promise.
        unsafe { add_rows(k, a, b, c, stride, rows, width) }
    }
}

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
/// As [`columns`] for each tile; `a` must be readable for [`SLACK`](super::kernel::SLACK) values beyond its last.
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
/// AVX-512F; `a` must be readable for [`TILE`] rows, `b` for `k` rows and [`SLACK`](super::kernel::SLACK) values more,
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
