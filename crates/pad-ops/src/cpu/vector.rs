//! Registers of `f32` values, so that a kernel is written once for all of them.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use half::bf16;

use super::{
    bf16::round,
    level::{Level, level},
};

/// Eight values: a register of AVX2, two of NEON, or an array.
///
/// # Safety
/// Every function needs the instructions of its type ([`with_eight`] checks for them) and must be
/// inlined into a function that is compiled for them; pointers must be valid for what is read or
/// written.
pub(crate) trait Eight: Copy {
    /// Eight times `x`.
    unsafe fn splat(x: f32) -> Self;
    /// Reads eight values.
    unsafe fn load(from: *const f32) -> Self;
    /// Reads eight values of bf16.
    unsafe fn load_half(from: *const bf16) -> Self;
    /// Writes eight values.
    unsafe fn store(self, to: *mut f32);
    /// `self + a b`, rounded once where the processor can.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// The nearest values of bf16, ties to even.
    unsafe fn to_half(self) -> Self;
    /// Rows as columns.
    unsafe fn transpose(rows: [Self; 8]) -> [Self; 8];
}

/// Eight values without instructions of their own.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct Plain([f32; 8]);

impl Eight for Plain {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; an array needs no alignment beyond that of its values.
        Self(unsafe { *from.cast::<[f32; 8]>() })
    }

    #[inline(always)]
    unsafe fn load_half(from: *const bf16) -> Self {
        // SAFETY: as above.
        Self(unsafe { *from.cast::<[bf16; 8]>() }.map(bf16::to_f32))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above.
        unsafe { *to.cast::<[f32; 8]>() = self.0 }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // Two roundings: without an instruction for it, `mul_add` is a call.
        Self(std::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }

    #[inline(always)]
    unsafe fn to_half(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(round(x) << 16)))
    }

    #[inline(always)]
    unsafe fn transpose(rows: [Self; 8]) -> [Self; 8] {
        std::array::from_fn(|i| Self(std::array::from_fn(|j| rows[j].0[i])))
    }
}

#[cfg(target_arch = "x86_64")]
impl Eight for __m256 {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller's promise, here and below.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_half(from: *const bf16) -> Self {
        // SAFETY: as above; bf16 is laid out as its bits, the upper half of those of `f32`.
        unsafe {
            let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_fmadd_ps(a, b, self) }
    }

    #[inline(always)]
    unsafe fn to_half(self) -> Self {
        // As `round`, lane by lane.
        // SAFETY: as above.
        unsafe {
            let bits = _mm256_castps_si256(self);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let nearest = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let nan = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let unordered = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(self, self));
            let half = _mm256_blendv_epi8(nearest, nan, unordered);
            _mm256_castsi256_ps(_mm256_and_si256(half, _mm256_set1_epi32(0xffff_0000_u32 as i32)))
        }
    }

    #[inline(always)]
    unsafe fn transpose(r: [Self; 8]) -> [Self; 8] {
        // SAFETY: as above.
        unsafe {
            // Within lanes of 128 bits: 4 x 4 blocks of four rows each.
            let fours = |r: [Self; 4]| {
                let (a, b) = (_mm256_unpacklo_ps(r[0], r[1]), _mm256_unpackhi_ps(r[0], r[1]));
                let (c, d) = (_mm256_unpacklo_ps(r[2], r[3]), _mm256_unpackhi_ps(r[2], r[3]));
                [
                    _mm256_shuffle_ps::<0x44>(a, c),
                    _mm256_shuffle_ps::<0xee>(a, c),
                    _mm256_shuffle_ps::<0x44>(b, d),
                    _mm256_shuffle_ps::<0xee>(b, d),
                ]
            };
            let (low, high) = (fours([r[0], r[1], r[2], r[3]]), fours([r[4], r[5], r[6], r[7]]));
            [
                _mm256_permute2f128_ps::<0x20>(low[0], high[0]),
                _mm256_permute2f128_ps::<0x20>(low[1], high[1]),
                _mm256_permute2f128_ps::<0x20>(low[2], high[2]),
                _mm256_permute2f128_ps::<0x20>(low[3], high[3]),
                _mm256_permute2f128_ps::<0x31>(low[0], high[0]),
                _mm256_permute2f128_ps::<0x31>(low[1], high[1]),
                _mm256_permute2f128_ps::<0x31>(low[2], high[2]),
                _mm256_permute2f128_ps::<0x31>(low[3], high[3]),
            ]
        }
    }
}

/// Eight values in two registers of NEON.
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy)]
pub(crate) struct Neon(float32x4_t, float32x4_t);

#[cfg(target_arch = "aarch64")]
impl Eight for Neon {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: every aarch64 has NEON; pointers are the caller's promise, here and below.
        unsafe { Self(vdupq_n_f32(x), vdupq_n_f32(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as above.
        unsafe { Self(vld1q_f32(from), vld1q_f32(from.add(4))) }
    }

    #[inline(always)]
    unsafe fn load_half(from: *const bf16) -> Self {
        // SAFETY: as above; bf16 is laid out as its bits, the upper half of those of `f32`.
        unsafe {
            let halves = vld1q_u16(from.cast());
            let (low, high) = (vget_low_u16(halves), vget_high_u16(halves));
            let wide = |half| vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(half)));
            Self(wide(low), wide(high))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above.
        unsafe {
            vst1q_f32(to, self.0);
            vst1q_f32(to.add(4), self.1);
        }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { Self(vfmaq_f32(self.0, a.0, b.0), vfmaq_f32(self.1, a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn to_half(self) -> Self {
        let mut values = [0.0; 8];
        // SAFETY: as above.
        unsafe {
            self.store(values.as_mut_ptr());
            Self::load(values.map(|x| f32::from_bits(round(x) << 16)).as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn transpose(rows: [Self; 8]) -> [Self; 8] {
        // SAFETY: as above.
        unsafe {
            let fours = |r: [float32x4_t; 4]| {
                let (a, b) = (vtrn1q_f32(r[0], r[1]), vtrn2q_f32(r[0], r[1]));
                let (c, d) = (vtrn1q_f32(r[2], r[3]), vtrn2q_f32(r[2], r[3]));
                let join = |low: float32x4_t, high: float32x4_t| {
                    let (low, high) = (vreinterpretq_f64_f32(low), vreinterpretq_f64_f32(high));
                    (
                        vreinterpretq_f32_f64(vtrn1q_f64(low, high)),
                        vreinterpretq_f32_f64(vtrn2q_f64(low, high)),
                    )
                };
                let ((first, third), (second, fourth)) = (join(a, c), join(b, d));
                [first, second, third, fourth]
            };
            let [a, b, c, d] = [
                fours(std::array::from_fn(|i| rows[i].0)),
                fours(std::array::from_fn(|i| rows[4 + i].0)),
                fours(std::array::from_fn(|i| rows[i].1)),
                fours(std::array::from_fn(|i| rows[4 + i].1)),
            ];
            std::array::from_fn(|i| match i < 4 {
                true => Self(a[i], b[i]),
                false => Self(c[i - 4], d[i - 4]),
            })
        }
    }
}

/// The registers of [`Eight`] that kernels run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EightKind {
    /// [`Plain`].
    Plain,
    /// Those of AVX2, or of NEON.
    Wide,
}

impl EightKind {
    /// Whether registers of eight values are the widest that this processor has.
    pub(crate) fn is_widest() -> bool {
        cfg!(target_arch = "x86_64") && level() == Level::Avx2
    }

    /// The best kind that this processor has.
    pub(crate) fn best() -> Self {
        let wide = cfg!(target_arch = "aarch64") || level() >= Level::Avx2;
        if wide { Self::Wide } else { Self::Plain }
    }
}

/// Defines `$name(kind, ..)`, which calls `$generic::<E>(..)` for the [`Eight`] of `kind`, compiled
/// for its instructions. `kind` must come from [`EightKind::best`] or be `Plain`.
macro_rules! with_eight {
    (
        $(#[$meta:meta])*
        $vis:vis unsafe fn $name:ident$(<$type:ident: $bound:path>)?($($arg:ident: $ty:ty),* $(,)?)
            = $generic:ident
    ) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name$(<$type: $bound>)?(
            kind: $crate::cpu::vector::EightKind,
            $($arg: $ty),*
        ) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn wide$(<$type: $bound>)?($($arg: $ty),*) {
                // SAFETY: the caller's promise.
                unsafe { $generic::<std::arch::x86_64::__m256 $(, $type)?>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn wide$(<$type: $bound>)?($($arg: $ty),*) {
                // SAFETY: the caller's promise.
                unsafe { $generic::<$crate::cpu::vector::Neon $(, $type)?>($($arg),*) }
            }
            match kind {
                // SAFETY: the processor has the instructions of its best kind; the rest is the
                // caller's promise.
                #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
                $crate::cpu::vector::EightKind::Wide => unsafe { wide($($arg),*) },
                // SAFETY: the caller's promise.
                _ => unsafe { $generic::<$crate::cpu::vector::Plain $(, $type)?>($($arg),*) },
            }
        }
    };
}
pub(crate) use with_eight;

/// Blocks of 8 x 8 transposed in registers, the rest value by value.
#[inline(always)]
unsafe fn transposed_blocks<E: Eight>(
    (from, from_stride): (*const f32, usize),
    (rows, cols): (usize, usize),
    (to, to_stride): (*mut f32, usize),
    scale: f32,
) {
    let (whole_rows, whole_cols) = (rows - rows % 8, cols - cols % 8);
    // SAFETY: the caller's promise (`copy_transposed`): all rows and columns lie inside both.
    unsafe {
        let (zero, factor) = (E::splat(0.0), E::splat(scale));
        for row in (0..whole_rows).step_by(8) {
            for col in (0..whole_cols).step_by(8) {
                let block: [E; 8] =
                    std::array::from_fn(|i| E::load(from.add((row + i) * from_stride + col)));
                for (j, column) in E::transpose(block).into_iter().enumerate() {
                    let column =
                        if scale == 1.0 { column } else { zero.add_product(column, factor) };
                    column.store(to.add((col + j) * to_stride + row));
                }
            }
        }
        for row in 0..rows {
            let first = if row < whole_rows { whole_cols } else { 0 };
            for col in first..cols {
                *to.add(col * to_stride + row) = *from.add(row * from_stride + col) * scale;
            }
        }
    }
}

with_eight! {
    /// `to[j][i] = scale from[i][j]` for `size` rows and columns of `from`; rows of both lie as far
    /// apart as the numbers beside them say.
    ///
    /// # Safety
    /// `from` must be valid for reads and `to` for writes of these values, and they must not
    /// overlap.
    pub(crate) unsafe fn copy_transposed(
        from: (*const f32, usize),
        size: (usize, usize),
        to: (*mut f32, usize),
        scale: f32,
    ) = transposed_blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(always)]
    unsafe fn moved<E: Eight>(from: &[f32; 64], to: &mut [f32; 64], halves: &mut [f32; 64]) {
        // SAFETY: all offsets lie inside the arrays.
        unsafe {
            let rows: [E; 8] = std::array::from_fn(|i| E::load(from.as_ptr().add(8 * i)));
            for (i, row) in rows.iter().enumerate() {
                row.to_half().store(halves.as_mut_ptr().add(8 * i));
            }
            for (i, row) in E::transpose(rows).into_iter().enumerate() {
                row.store(to.as_mut_ptr().add(8 * i));
            }
        }
    }

    with_eight! {
        unsafe fn moved_by(from: &[f32; 64], to: &mut [f32; 64], halves: &mut [f32; 64]) = moved
    }

    #[test]
    fn every_kind_transposes_and_rounds_alike() {
        let mut from: [f32; 64] = std::array::from_fn(|i| (i as f32 - 31.3) * 1.007_f32.powi(9));
        from[3] = f32::NAN;
        from[9] = f32::INFINITY;
        from[17] = f32::from_bits(0x7f80_0001);
        from[20] = f32::from_bits(0x3f80_8000);
        from[21] = f32::from_bits(0x3f81_8000);
        from[22] = f32::MAX;
        from[23] = 1e-40;
        for kind in [EightKind::Plain, EightKind::best()] {
            let (mut to, mut halves) = ([0.0; 64], [0.0; 64]);
            // SAFETY: arrays of their length.
            unsafe { moved_by(kind, &from, &mut to, &mut halves) };
            for (i, (to, half)) in to.iter().zip(&halves).enumerate() {
                assert_eq!(to.to_bits(), from[i % 8 * 8 + i / 8].to_bits(), "{kind:?} {i}");
                assert_eq!(half.to_bits(), round(from[i]) << 16, "{kind:?} {i}");
            }
        }
    }

    #[test]
    fn copies_of_every_size_are_transposed() {
        for (rows, cols) in [(1, 1), (8, 8), (7, 9), (32, 64), (19, 33), (5, 24)] {
            let (from_stride, to_stride) = (cols + 2, rows + 3);
            let from: Vec<f32> = (0..rows * from_stride).map(|i| i as f32 - 7.0).collect();
            for (kind, scale) in [(EightKind::Plain, 1.0), (EightKind::best(), 0.5)] {
                let mut to = vec![f32::NAN; cols * to_stride];
                // SAFETY: both arrays hold their rows.
                unsafe {
                    let (from, to) = ((from.as_ptr(), from_stride), (to.as_mut_ptr(), to_stride));
                    copy_transposed(kind, from, (rows, cols), to, scale);
                }
                for (j, column) in to.chunks_exact(to_stride).enumerate() {
                    for (i, value) in column.iter().enumerate() {
                        match from.get(i * from_stride + j).filter(|_| i < rows) {
                            Some(from) => assert_eq!(*value, from * scale, "{kind:?} ({i}, {j})"),
                            None => assert!(value.is_nan(), "{kind:?}: written beyond ({i}, {j})"),
                        }
                    }
                }
            }
        }
    }
}
