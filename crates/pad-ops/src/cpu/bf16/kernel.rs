//! One tile of the product: a few rows times 32 columns over a run of pairs of `k`, at every level.
//!
//! Every level adds to an `f32` sum first the product of the pair's high half (odd `k`), then of
//! its low half (even `k`), pair after pair. A product of two bf16 is exact in `f32`, so whether a
//! level multiplies and adds in one instruction or in two, the sum's bits are the same, as long as
//! nothing falls below the smallest normal `f32` (1.2e-38), which the AVX512-BF16 instruction takes
//! and returns as zero.

use super::tile::{LANES, Lanes, Row, TILE_ROWS};
use crate::cpu::level::{Level, multiversioned};

/// Adds to `sums` (one row per row of the tile) the product of a strip `a`, `width` rows wide, and
/// a strip `b`, 32 columns wide. Both hold the same pairs.
///
/// # Panics
/// If `sums` has more rows than `width` or [`TILE_ROWS`].
pub(super) fn tile(level: Level, a: &[u32], width: usize, b: &[Lanes], sums: &mut [Row]) {
    assert!(sums.len() <= width && sums.len() <= TILE_ROWS, "a tile of {} rows", sums.len());
    #[cfg(target_arch = "x86_64")]
    if level == Level::Avx512Bf16 {
        return super::x86::tile(a, width, b, sums);
    }
    if level == Level::Portable {
        return portable_tile(a, width, b, sums);
    }
    wide_tile(a, width, b, sums);
}

multiversioned! {
    /// [`portable_tile`] compiled for the widest vectors.
    fn wide_tile(a: &[u32], width: usize, b: &[Lanes], sums: &mut [Row]) {
        portable_tile(a, width, b, sums);
    }
}

/// Rows by rows: 4 rows times 16 columns of sums fit the registers of AVX2.
#[inline(always)]
fn portable_tile(a: &[u32], width: usize, b: &[Lanes], sums: &mut [Row]) {
    let mut row = 0;
    while row + 4 <= sums.len() {
        block::<4>(a, width, b, row, sums);
        row += 4;
    }
    while row < sums.len() {
        block::<1>(a, width, b, row, sums);
        row += 1;
    }
}

#[inline(always)]
fn block<const R: usize>(a: &[u32], width: usize, b: &[Lanes], first: usize, sums: &mut [Row]) {
    for half in 0..2 {
        let columns = half * LANES..(half + 1) * LANES;
        let mut sum = [[0.0_f32; LANES]; R];
        for (r, sum) in sum.iter_mut().enumerate() {
            sum.copy_from_slice(&sums[first + r].0[columns.clone()]);
        }
        for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(2)) {
            let b = &b[half].0;
            let a: &[u32] = &a[first..first + R];
            for r in 0..R {
                let (low, high) = halves(a[r]);
                for j in 0..LANES {
                    let (b_low, b_high) = halves(b[j]);
                    sum[r][j] += high * b_high;
                    sum[r][j] += low * b_low;
                }
            }
        }
        for (r, sum) in sum.iter().enumerate() {
            sums[first + r].0[columns.clone()].copy_from_slice(sum);
        }
    }
}

/// The two values of a pair: even `k`, odd `k`.
#[inline(always)]
fn halves(pair: u32) -> (f32, f32) {
    (f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000))
}
