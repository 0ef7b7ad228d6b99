//! Products in bf16 on processors without an instruction for them: operands rounded to bf16 (or kept
//! in it), multiplied and summed in `f32`, at the speed of `f32`.
//!
//! With AVX2, NEON and without vector instructions the operands are rounded while they are packed
//! ([`tiled`]); the bits are those of AVX512-BF16 (see there). AVX-512 without its bf16 rounds
//! copies and multiplies them as `f32`: the same numbers but for the order of the sums.
#![allow(unsafe_code)]

use half::bf16;

use super::{Values, round};
use crate::cpu::{
    level::{Level, level, multiversioned},
    matmul::{Into, Mat, Threads, matmul_raw},
    real::Real,
    rows,
    scratch::Scratch,
    tiled::{self, Finish},
    vector::EightKind,
};

/// `a b`, dense and row major.
///
/// # Panics
/// If the shapes do not chain or a slice is shorter than its matrix; callers derive both from
/// checked tensors.
pub(crate) fn product<T: Real>(a: (Values<'_>, Mat), b: (Values<'_>, Mat)) -> Vec<T> {
    let mat = Mat::dense(a.1.rows, b.1.cols);
    let len = mat.rows * mat.cols;
    let mut out: Vec<T> = Vec::with_capacity(len);
    // SAFETY: the capacity holds every value of `mat`, and each of them is written.
    unsafe {
        write((out.as_mut_ptr(), mat), a, b);
        out.set_len(len);
    }
    out
}

/// `out = a b`.
///
/// # Panics
/// As [`product`].
pub(crate) fn replace<T: Real>(
    (out, out_mat): (&mut [T], Mat),
    a: (Values<'_>, Mat),
    b: (Values<'_>, Mat),
) {
    assert!(out.len() >= out_mat.span(), "bf16: the output is too short");
    // SAFETY: the slice was just checked and is borrowed mutably for the call.
    unsafe { write((out.as_mut_ptr(), out_mat), a, b) }
}

/// # Safety
/// `out` must be valid for writes of every value of its matrix, and no other thread may access them
/// meanwhile.
unsafe fn write<T: Real>(out: (*mut T, Mat), a: (Values<'_>, Mat), b: (Values<'_>, Mat)) {
    if cfg!(target_arch = "x86_64") && level() >= Level::Avx512 {
        // SAFETY: the caller's promise.
        return unsafe { by_copies(out, a, b) };
    }
    let finish = Finish { into: Into::Replace, scale: 1.0 };
    let of = |(values, mat): (_, Mat)| match values {
        Values::F32(values) => (tiled::Values::Rounded(values), mat),
        Values::Bf16(values) => (tiled::Values::Bf16(values), mat),
    };
    // SAFETY: the caller's promise.
    unsafe { tiled::multiply(EightKind::best(), out, finish, of(a), of(b), Threads::All) }
}

multiversioned! {
    /// The nearest values of bf16.
    fn rounded_rows(from: &[f32], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f32::from_bits(round(*from) << 16);
        }
    }
}

multiversioned! {
    /// The same values.
    fn widened_rows(from: &[bf16], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.to_f32();
        }
    }
}

/// An operand as numbers of bf16 in `f32`.
fn copied(values: Values<'_>) -> Scratch {
    let mut copy = Scratch::new(values.len());
    rows::for_values(&mut copy, |first, to| match values {
        Values::F32(from) => rounded_rows(&from[first..], to),
        Values::Bf16(from) => widened_rows(&from[first..], to),
    });
    copy
}

/// # Safety
/// As [`write`].
unsafe fn by_copies<T: Real>(
    (out, out_mat): (*mut T, Mat),
    (a, a_mat): (Values<'_>, Mat),
    (b, b_mat): (Values<'_>, Mat),
) {
    let (a, b) = (copied(a), copied(b));
    let dense = Mat::dense(out_mat.rows, out_mat.cols);
    let mut sums = Scratch::<f32>::new(dense.span());
    if a_mat.cols == 0 {
        sums.fill(0.0);
    } else {
        let to = (sums.as_mut_ptr(), dense);
        // SAFETY: `sums` holds the dense matrix.
        unsafe {
            matmul_raw(to, Into::Replace, 1.0, (&a, a_mat), (&b, b_mat), Threads::All);
        }
    }
    for (i, sums) in sums.chunks_exact(dense.cols.max(1)).enumerate() {
        for (j, sum) in sums.iter().enumerate() {
            let at = i * out_mat.row_stride + j * out_mat.col_stride;
            // SAFETY: the caller's promise.
            unsafe { out.wrapping_add(at).write(T::from_f32(*sum)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::bf16::{Packed, product as by_instruction};

    /// Both ways give the numbers of the emulated instruction: tiles its bits, copies its sums in
    /// another order.
    #[test]
    fn products_are_those_of_the_instruction() {
        for (m, k, n) in [(1, 1, 1), (5, 7, 9), (50, 65, 97), (149, 770, 40), (7, 3, 300)] {
            let value = |i: usize| ((i * 7919 + 13) % 257) as f32 / 101.0 - 1.27;
            let a: Vec<f32> = (0..m * k).map(value).collect();
            let b: Vec<f32> = (0..k * n).map(|i| value(5 * i + 3)).collect();
            let a16: Vec<bf16> = a.iter().map(|&x| bf16::from_f32(x)).collect();
            let (a_mat, b_mat) = (Mat::dense(m, k), Mat::dense(n, k).t());
            let packed = Packed::new((Values::F32(&b), b_mat), Threads::One);
            let want: Vec<f32> =
                by_instruction((Values::F32(&a), a_mat), &packed, None, Threads::One);
            let half: Vec<bf16> = want.iter().map(|&x| bf16::from_f32(x)).collect();
            for a in [Values::F32(&a), Values::Bf16(&a16)] {
                let (a, b) = ((a, a_mat), (Values::F32(&b), b_mat));
                if level() < Level::Avx512 {
                    assert_eq!(product::<f32>(a, b), want, "{m}x{k}x{n}");
                    assert_eq!(product::<bf16>(a, b), half, "{m}x{k}x{n}");
                }
                let mut sums = vec![f32::NAN; m * n];
                // SAFETY: the array holds the matrix.
                unsafe { by_copies((sums.as_mut_ptr(), Mat::dense(m, n)), a, b) };
                for (got, want) in sums.iter().zip(&want) {
                    assert!((got - want).abs() <= 1e-5 * k as f32, "{got} {want}");
                }
                let mut gap = vec![f32::NAN; m * (n + 2)];
                replace((&mut gap, Mat::strided(m, n, n + 2)), a, b);
                for (row, want) in gap.chunks_exact(n + 2).zip(want.chunks_exact(n)) {
                    assert!(row[n..].iter().all(|x| x.is_nan()));
                    let close = |(got, want): (&f32, &f32)| (got - want).abs() <= 1e-5 * k as f32;
                    assert!(row.iter().zip(want).all(close), "{m}x{k}x{n}");
                }
            }
        }
        assert_eq!(
            product::<f32>(
                (Values::F32(&[]), Mat::dense(2, 0)),
                (Values::F32(&[]), Mat::dense(0, 3))
            ),
            [0.0; 6]
        );
    }
}
