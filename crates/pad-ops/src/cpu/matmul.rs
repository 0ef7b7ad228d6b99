//! Checked matrix products over strided slices: the one place that calls the `gemm` crate, and our
//! own kernels where they are the better ones.
#![allow(unsafe_code)]

use gemm::Parallelism;

pub(crate) use super::mat::{Into, Mat, Threads};
#[cfg(target_arch = "x86_64")]
use super::unpacked;
use super::{
    tiled::{self, Finish, Values},
    vector::EightKind,
};

/// Multiplications that pay for the packing of tiles.
const TILED_WORK: usize = 1 << 16;

/// `out = scale * a b`, or `out += scale * a b`.
///
/// # Panics
/// If the shapes do not chain or a slice is shorter than its matrix; callers derive both from
/// checked tensors.
pub(crate) fn matmul(
    (out, out_mat): (&mut [f32], Mat),
    into: Into,
    scale: f32,
    (a, a_mat): (&[f32], Mat),
    (b, b_mat): (&[f32], Mat),
    threads: Threads,
) {
    assert!(out.len() >= out_mat.span(), "matmul: the output is too short");
    // SAFETY: the output slice was just checked and is borrowed mutably for the call.
    unsafe { matmul_raw((out.as_mut_ptr(), out_mat), into, scale, (a, a_mat), (b, b_mat), threads) }
}

/// `a b` as a new dense array, which is never filled with zeros first.
///
/// # Panics
/// As [`matmul`].
pub(crate) fn product((a, a_mat): (&[f32], Mat), (b, b_mat): (&[f32], Mat)) -> Vec<f32> {
    let (rows, cols) = (a_mat.rows, b_mat.cols);
    if a_mat.cols == 0 {
        return vec![0.0; rows * cols];
    }
    let mut out: Vec<f32> = Vec::with_capacity(rows * cols);
    let out_mat = Mat::dense(rows, cols);
    // SAFETY: the capacity holds every value of `out_mat`; `Into::Replace` writes each of them
    // without reading.
    unsafe {
        let operands = ((a, a_mat), (b, b_mat));
        let out_pointer = (out.as_mut_ptr(), out_mat);
        matmul_raw(out_pointer, Into::Replace, 1.0, operands.0, operands.1, Threads::All);
        out.set_len(rows * cols);
    }
    out
}

/// [`matmul`] into a block of a larger array that other threads write other blocks of.
///
/// # Safety
/// `out` must be valid for reads and writes of every value of `out_mat`, and no other thread may
/// touch these values during the call.
pub(crate) unsafe fn matmul_raw(
    (out, out_mat): (*mut f32, Mat),
    into: Into,
    scale: f32,
    (a, a_mat): (&[f32], Mat),
    (b, b_mat): (&[f32], Mat),
    threads: Threads,
) {
    let (m, n, k) = (out_mat.rows, out_mat.cols, a_mat.cols);
    assert!(
        a_mat.rows == m && b_mat.rows == k && b_mat.cols == n,
        "matmul: {a_mat:?} times {b_mat:?} into {out_mat:?}"
    );
    assert!(a.len() >= a_mat.span() && b.len() >= b_mat.span(), "matmul: an operand is too short");
    #[cfg(target_arch = "x86_64")]
    if matches!(threads, Threads::All)
        && into == Into::Replace
        && scale == 1.0
        && unpacked::takes(a_mat, b_mat, out_mat)
    {
        // SAFETY: the operands' lengths were checked above; the output is valid by this function's
        // contract.
        return unsafe { unpacked::multiply((out, out_mat), (a, a_mat), (b, b_mat)) };
    }
    if EightKind::is_widest() && m * n * k >= TILED_WORK {
        let (a, b) = ((Values::F32(a), a_mat), (Values::F32(b), b_mat));
        let finish = Finish { into, scale };
        // SAFETY: as above.
        return unsafe {
            tiled::multiply(EightKind::best(), (out, out_mat), finish, a, b, threads)
        };
    }
    // `gemm` counts the products per thread itself; small ones stay on one thread.
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: `a` and `b` hold every value of their matrices (checked above); `out` does by this
    // function's contract; strides come from `Mat` and are positive.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            out_mat.col_stride as isize,
            out_mat.row_stride as isize,
            into == Into::Add,
            a.as_ptr(),
            a_mat.col_stride as isize,
            a_mat.row_stride as isize,
            b.as_ptr(),
            b_mat.col_stride as isize,
            b_mat.row_stride as isize,
            1.0_f32,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
