//! Blocks transposed in AVX-512 registers.

use std::arch::x86_64::*;

/// Rows, and columns, of a block.
pub(crate) const BLOCK: usize = 16;

/// Transposes 16 x 16 values of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn transpose(rows: &mut [__m512i; BLOCK]) {
    // Within lanes of 128 bits: 4 x 4 blocks of four rows each.
    let mut fours = [_mm512_setzero_si512(); BLOCK];
    for (rows, fours) in rows.chunks_exact(4).zip(fours.chunks_exact_mut(4)) {
        let (a, b) =
            (_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[0], rows[1]));
        let (c, d) =
            (_mm512_unpacklo_epi32(rows[2], rows[3]), _mm512_unpackhi_epi32(rows[2], rows[3]));
        fours[0] = _mm512_unpacklo_epi64(a, c);
        fours[1] = _mm512_unpackhi_epi64(a, c);
        fours[2] = _mm512_unpacklo_epi64(b, d);
        fours[3] = _mm512_unpackhi_epi64(b, d);
    }
    // Across lanes: lane `l` of `fours[4 g + i]` is column 4 l + i of rows 4 g..4 g + 4.
    for i in 0..4 {
        let (a, b) = (fours[i], fours[4 + i]);
        let (c, d) = (fours[8 + i], fours[12 + i]);
        let (ab_low, ab_high) =
            (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
        let (cd_low, cd_high) =
            (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
        rows[i] = _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low);
        rows[4 + i] = _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low);
        rows[8 + i] = _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high);
        rows[12 + i] = _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high);
    }
}
