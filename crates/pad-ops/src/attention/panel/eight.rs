//! Panels in halves of 16 queries, two registers of AVX2 (or what stands for them) each.
#![allow(unsafe_code)]

use super::kernel::{Kernel, LANES};
use crate::cpu::vector::{Eight, EightKind, with_eight};

/// Keys of a tile: 6 x 2 sums, two vectors and a broadcast value fill the 16 registers.
const TILE: usize = 6;

/// The best [`EightKind`].
pub(super) struct Eights;

impl Kernel for Eights {
    const TILE: usize = TILE;

    unsafe fn tile(count: usize, k: usize, a: *const f32, b: *const f32, c: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { rows_of(EightKind::best(), count, k, a, TILE, b, c, TILE) }
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
        unsafe { rows_of(EightKind::best(), count, k, a, a_step, b, c, rows) }
    }

    unsafe fn add_rows(
        k: usize,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        stride: usize,
        size: (usize, usize),
    ) {
        // SAFETY: the caller's promise.
        unsafe { add_to_rows(EightKind::best(), k, a, b, c, stride, size) }
    }
}

/// `c[i][..] = sum_p a[p * a_step + i] b[p][..]` for `i < M` and the first `8 W` columns.
#[inline(always)]
unsafe fn block<E: Eight, const M: usize, const W: usize>(
    k: usize,
    a: *const f32,
    a_step: usize,
    b: *const f32,
    c: *mut f32,
) {
    // SAFETY: the caller's promise (`Kernel`).
    unsafe {
        let mut sums = [[E::splat(0.0); W]; M];
        let (mut a, mut b) = (a, b);
        for _ in 0..k {
            let b_p: [E; W] = std::array::from_fn(|w| E::load(b.add(8 * w)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = E::splat(*a.add(i));
                for (sum, b) in sums.iter_mut().zip(b_p) {
                    *sum = sum.add_product(a, b);
                }
            }
            a = a.wrapping_add(a_step);
            b = b.wrapping_add(LANES);
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (w, sum) in sums.into_iter().enumerate() {
                sum.store(c.add(i * LANES + 8 * w));
            }
        }
    }
}

#[inline(always)]
unsafe fn blocks<E: Eight, const M: usize>(
    count: usize,
    k: usize,
    a: *const f32,
    a_step: usize,
    b: *const f32,
    c: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for first in (0..count).step_by(16) {
            let (b, c) = (b.add(first), c.add(first));
            if count - first > 8 {
                block::<E, M, 2>(k, a, a_step, b, c);
            } else {
                block::<E, M, 1>(k, a, a_step, b, c);
            }
        }
    }
}

#[inline(always)]
unsafe fn all_rows<E: Eight>(
    count: usize,
    k: usize,
    a: *const f32,
    a_step: usize,
    b: *const f32,
    c: *mut f32,
    rows: usize,
) {
    // Tiles of equal height: 8 rows are 4 and 4 rather than 6 and 2.
    let height = rows.div_ceil(rows.div_ceil(TILE).max(1)).max(1);
    for first in (0..rows).step_by(height) {
        // SAFETY: the caller's promise.
        unsafe {
            let (a, c) = (a.add(first), c.add(first * LANES));
            match height.min(rows - first) {
                1 => blocks::<E, 1>(count, k, a, a_step, b, c),
                2 => blocks::<E, 2>(count, k, a, a_step, b, c),
                3 => blocks::<E, 3>(count, k, a, a_step, b, c),
                4 => blocks::<E, 4>(count, k, a, a_step, b, c),
                5 => blocks::<E, 5>(count, k, a, a_step, b, c),
                _ => blocks::<E, 6>(count, k, a, a_step, b, c),
            }
        }
    }
}

with_eight! {
    /// See [`Kernel::columns`].
    ///
    /// # Safety
    /// As there.
    unsafe fn rows_of(
        count: usize,
        k: usize,
        a: *const f32,
        a_step: usize,
        b: *const f32,
        c: *mut f32,
        rows: usize,
    ) = all_rows
}

/// `c[i][j] += sum_p a[i][p] b[p][j]` for `i < M` and 16 columns, of which `width` are written.
#[inline(always)]
unsafe fn add_block<E: Eight, const M: usize>(
    k: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    stride: usize,
    width: usize,
) {
    // SAFETY: the caller's promise (`Kernel`).
    unsafe {
        let mut sums = [[E::splat(0.0); 2]; M];
        for p in 0..k {
            let b = b.add(p * stride);
            let b = [E::load(b), E::load(b.add(8))];
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = E::splat(*a.add(i * LANES + p));
                *sums = [sums[0].add_product(a, b[0]), sums[1].add_product(a, b[1])];
            }
        }
        let one = E::splat(1.0);
        for (i, sums) in sums.into_iter().enumerate() {
            let c = c.add(i * stride);
            if width >= 16 {
                for (w, sum) in sums.into_iter().enumerate() {
                    let c = c.add(8 * w);
                    E::load(c).add_product(one, sum).store(c);
                }
            } else {
                let mut row = [0.0_f32; 16];
                sums[0].store(row.as_mut_ptr());
                sums[1].store(row.as_mut_ptr().add(8));
                for (j, value) in row.iter().enumerate().take(width) {
                    *c.add(j) += value;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn add_blocks<E: Eight>(
    k: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    stride: usize,
    (rows, width): (usize, usize),
) {
    for first in (0..width).step_by(16) {
        // SAFETY: the caller's promise.
        unsafe {
            let (b, c, width) = (b.add(first), c.add(first), (width - first).min(16));
            match rows {
                1 => add_block::<E, 1>(k, a, b, c, stride, width),
                2 => add_block::<E, 2>(k, a, b, c, stride, width),
                3 => add_block::<E, 3>(k, a, b, c, stride, width),
                4 => add_block::<E, 4>(k, a, b, c, stride, width),
                5 => add_block::<E, 5>(k, a, b, c, stride, width),
                _ => add_block::<E, 6>(k, a, b, c, stride, width),
            }
        }
    }
}

with_eight! {
    /// See [`Kernel::add_rows`].
    ///
    /// # Safety
    /// As there.
    unsafe fn add_to_rows(
        k: usize,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        stride: usize,
        size: (usize, usize),
    ) = add_blocks
}
