//! Operands of the bf16 product, rounded and put into the order in which the kernels read them.
//!
//! A *strip* holds `width` rows of an operand over the whole of `k`: for each pair `p` of
//! neighbouring `k`, one `u32` per row, with `k = 2p` in its low half and `k = 2p + 1` in its high
//! half. Rows and the last pair are filled up with zeros, which add nothing.

use std::mem::MaybeUninit;

use half::bf16;

use crate::cpu::{level::multiversioned, mat::Mat};

/// `x` rounded to the nearest bf16 (ties to even), as bits; NaN stays NaN. The same at every level,
/// denormals included.
#[inline(always)]
pub(crate) fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // Rounding could carry a NaN's bits over into an infinity: cut it instead, and keep it a NaN.
    let nan = (bits >> 16) | 0x40;
    if (bits & 0x7fff_ffff) > 0x7f80_0000 { nan } else { nearest }
}

/// A value that can be packed.
pub(super) trait Source: Copy + Send + Sync {
    /// The bits of the nearest bf16.
    fn half(self) -> u32;
}

impl Source for f32 {
    #[inline(always)]
    fn half(self) -> u32 {
        round(self)
    }
}

impl Source for bf16 {
    #[inline(always)]
    fn half(self) -> u32 {
        u32::from(self.to_bits())
    }
}

/// Packs `rows` of `mat` (strip dimension x k) into consecutive strips of `width`. `out` holds
/// `ceil(rows.len() / width) * ceil(k / 2) * width` values, and all of them are written.
#[inline(always)]
fn strips<S: Source>(
    values: &[S],
    mat: Mat,
    (first, rows): (usize, usize),
    width: usize,
    out: &mut [MaybeUninit<u32>],
) {
    let pairs = mat.cols.div_ceil(2);
    if pairs == 0 || rows == 0 {
        return;
    }
    if mat.row_stride == 1 && mat.col_stride != 1 {
        return interleave(values, mat, (first, rows), width, out);
    }
    for (strip, out) in out.chunks_exact_mut(pairs * width).enumerate() {
        let here = width.min(rows - strip * width);
        for i in 0..width {
            if i >= here {
                out.chunks_exact_mut(width).for_each(|pair| _ = pair[i].write(0));
                continue;
            }
            let row = &values[(first + strip * width + i) * mat.row_stride..];
            if mat.col_stride == 1 {
                let (twos, one) = row[..mat.cols].as_chunks::<2>();
                for (two, pair) in twos.iter().zip(out.chunks_exact_mut(width)) {
                    pair[i].write(two[0].half() | (two[1].half() << 16));
                }
                if let ([last], Some(pair)) = (one, out.chunks_exact_mut(width).last()) {
                    pair[i].write(last.half());
                }
            } else {
                for (p, pair) in out.chunks_exact_mut(width).enumerate() {
                    let low = row[2 * p * mat.col_stride].half();
                    let high = match 2 * p + 1 < mat.cols {
                        true => row[(2 * p + 1) * mat.col_stride].half(),
                        false => 0,
                    };
                    pair[i].write(low | (high << 16));
                }
            }
        }
    }
}

/// [`strips`] of an operand whose neighbouring rows are neighbours in memory. Pairs of `k` are the
/// outer loop, so that each line of memory is read once for all the strips.
#[inline(always)]
fn interleave<S: Source>(
    values: &[S],
    mat: Mat,
    (first, rows): (usize, usize),
    width: usize,
    out: &mut [MaybeUninit<u32>],
) {
    let pairs = mat.cols.div_ceil(2);
    for p in 0..pairs {
        let low = &values[2 * p * mat.col_stride + first..][..rows];
        let high = match 2 * p + 1 < mat.cols {
            true => &values[(2 * p + 1) * mat.col_stride + first..][..rows],
            false => &[][..],
        };
        for (strip, out) in out.chunks_exact_mut(pairs * width).enumerate() {
            let from = strip * width;
            let here = width.min(rows - from);
            let (pair, padding) = out[p * width..(p + 1) * width].split_at_mut(here);
            let low = &low[from..from + here];
            if high.is_empty() {
                for (pair, low) in pair.iter_mut().zip(low) {
                    pair.write(low.half());
                }
            } else {
                let high = &high[from..from + here];
                for i in 0..here {
                    pair[i].write(low[i].half() | (high[i].half() << 16));
                }
            }
            padding.iter_mut().for_each(|pair| _ = pair.write(0));
        }
    }
}

multiversioned! {
    /// [`strips`] of `f32`, rounded.
    pub(super) fn strips_f32(
        values: &[f32],
        mat: Mat,
        rows: (usize, usize),
        width: usize,
        out: &mut [MaybeUninit<u32>],
    ) {
        strips(values, mat, rows, width, out);
    }
}

multiversioned! {
    /// [`strips`] of bf16.
    pub(super) fn strips_bf16(
        values: &[bf16],
        mat: Mat,
        rows: (usize, usize),
        width: usize,
        out: &mut [MaybeUninit<u32>],
    ) {
        strips(values, mat, rows, width, out);
    }
}
