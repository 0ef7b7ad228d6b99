//! The tile with AVX512-BF16, where one instruction multiplies and adds 32 pairs, and the packing
//! of rows for it.
#![allow(unsafe_code)]

use std::{arch::x86_64::*, mem::MaybeUninit};

use half::bf16;

use super::tile::{Lanes, Row, TILE_ROWS};
use crate::cpu::{
    mat::Mat,
    transpose::{BLOCK, transpose},
};

/// A value that [`strips`] packs.
pub(super) trait Source: Copy {
    /// The first `count <= 32` values at `from` as bf16, the rest zero.
    ///
    /// # Safety
    /// AVX-512 F, BW and BF16; `count` values must be readable.
    unsafe fn load(from: *const Self, count: usize) -> __m512i;
}

/// The lowest `count` bits.
fn bits(count: usize) -> u32 {
    if count >= 32 { u32::MAX } else { (1 << count) - 1 }
}

impl Source for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn load(from: *const f32, count: usize) -> __m512i {
        let mask = bits(count);
        // SAFETY: masked lanes are not read; two vectors of 512 bits, and every pattern of bits is
        // a value of either.
        unsafe {
            let low = _mm512_maskz_loadu_ps(mask as u16, from);
            let high = _mm512_maskz_loadu_ps((mask >> 16) as u16, from.wrapping_add(16));
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        }
    }
}

impl Source for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn load(from: *const bf16, count: usize) -> __m512i {
        // SAFETY: masked lanes are not read; bf16 is laid out as its bits.
        unsafe { _mm512_maskz_loadu_epi16(bits(count), from.cast()) }
    }
}

/// Strips ([`super::pack`]) of `rows` rows of `mat` from `first` on, whose values lie side by side.
///
/// # Panics
/// If `values` or `out` is too short.
///
/// # Safety
/// AVX-512 F, BW and BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn strips<S: Source>(
    values: &[S],
    mat: Mat,
    (first, rows): (usize, usize),
    width: usize,
    out: &mut [MaybeUninit<u32>],
) {
    let pairs = mat.cols.div_ceil(2);
    assert!(mat.col_stride == 1 && first + rows <= mat.rows && values.len() >= mat.span());
    assert!(out.len() >= rows.div_ceil(width) * pairs * width);
    for (strip, out) in out.chunks_exact_mut(pairs * width).enumerate() {
        for from in (0..width).step_by(BLOCK) {
            let stored = bits(BLOCK.min(width - from)) as u16;
            let row = strip * width + from;
            for pair in (0..pairs).step_by(BLOCK) {
                let mut block = [_mm512_setzero_si512(); BLOCK];
                let count = (mat.cols - 2 * pair).min(2 * BLOCK);
                let present = rows.saturating_sub(row).min(width - from).min(BLOCK);
                for (i, block) in block.iter_mut().enumerate().take(present) {
                    // SAFETY: the row and its values exist in `mat`, which lies inside `values`
                    // (asserted).
                    unsafe {
                        let at = (first + row + i) * mat.row_stride + 2 * pair;
                        *block = S::load(values.as_ptr().add(at), count);
                    }
                }
                transpose(&mut block);
                for (i, block) in block.iter().enumerate().take(BLOCK.min(pairs - pair)) {
                    // SAFETY: pair and columns lie inside this strip's part of `out`.
                    unsafe {
                        let to = out.as_mut_ptr().add((pair + i) * width + from);
                        _mm512_mask_storeu_epi32(to.cast(), stored, *block);
                    }
                }
            }
        }
    }
}

/// [`super::kernel::tile`] where the level is [`Avx512Bf16`](crate::cpu::level::Level::Avx512Bf16).
pub(super) fn tile(a: &[u32], width: usize, b: &[Lanes], sums: &mut [Row]) {
    macro_rules! of_rows {
        ($($rows:literal)*) => {
            match sums.len() {
                // SAFETY: the caller's level guarantees that the processor has AVX-512 F and BF16.
                $($rows => unsafe { rows::<$rows>(a, width, b, sums) },)*
                _ => {}
            }
        };
    }
    const { assert!(TILE_ROWS == 12) };
    of_rows!(1 2 3 4 5 6 7 8 9 10 11 12);
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn rows<const R: usize>(a: &[u32], width: usize, b: &[Lanes], sums: &mut [Row]) {
    assert!(sums.len() == R && width >= R, "a tile of {} rows in a strip of {width}", sums.len());
    let mut sum: [[__m512; 2]; R] =
        std::array::from_fn(|r| [load_sum(&sums[r], 0), load_sum(&sums[r], 1)]);
    for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(2)) {
        let (b0, b1) = (load_pairs(&b[0]), load_pairs(&b[1]));
        for r in 0..R {
            let a = pairs(_mm512_set1_epi32(a[r].cast_signed()));
            sum[r][0] = _mm512_dpbf16_ps(sum[r][0], a, b0);
            sum[r][1] = _mm512_dpbf16_ps(sum[r][1], a, b1);
        }
    }
    for (sums, sum) in sums.iter_mut().zip(sum) {
        // SAFETY: a row holds 32 values and is aligned to 64 bytes.
        unsafe {
            _mm512_store_ps(sums.0.as_mut_ptr(), sum[0]);
            _mm512_store_ps(sums.0.as_mut_ptr().add(16), sum[1]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_sum(row: &Row, half: usize) -> __m512 {
    let (low, high) = row.0.split_at(16);
    let half = if half == 0 { low } else { high };
    // SAFETY: each half of a row holds 16 values and is aligned to 64 bytes.
    unsafe { _mm512_load_ps(half.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn load_pairs(lanes: &Lanes) -> __m512bh {
    // SAFETY: `Lanes` holds 16 values and is aligned to 64 bytes.
    pairs(unsafe { _mm512_load_si512(lanes.0.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(bits: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits, and every pattern of bits is a value of either.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) }
}
