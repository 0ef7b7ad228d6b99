//! The tile with AVX512-BF16: one instruction multiplies and adds 32 pairs.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_load_ps, _mm512_load_si512,
    _mm512_set1_epi32, _mm512_store_ps,
};

use super::{
    Lanes,
    kernel::{Row, TILE_ROWS},
};

/// [`super::kernel::tile`] where the level is [`Avx512Bf16`](crate::cpu::level::Level::Avx512Bf16).
pub(super) fn tile(a: &[u32], width: usize, b: &[Lanes], sums: &mut [Row]) {
    macro_rules! of_rows {
        ($($rows:literal)*) => {
            match sums.len() {
                // SAFETY: the caller's level says that the processor has AVX-512 F and BF16.
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
