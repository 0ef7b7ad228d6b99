//! Fixed chunking over rows, and sums with a fixed order.
//!
//! How rows are cut depends on the shape alone, never on the number of threads, and partial results
//! are added in chunk order: the bits of a result are the same for 1 and for 64 threads.

#![allow(unsafe_code)]

use rayon::prelude::*;

use super::{level::multiversioned, real::Real};

/// Values that one task should hold: enough to pay for its start, few enough to share work evenly.
const CHUNK_VALUES: usize = 1 << 14;

/// Lanes of a running sum: two AVX-512 registers' worth of independent additions.
const LANES: usize = 32;

/// Rows of `width` values per task.
pub(crate) fn rows_per_chunk(width: usize) -> usize {
    (CHUNK_VALUES / width.max(1)).max(1)
}

/// Calls `work(first_row, out_rows)` for consecutive chunks of rows of `out`, in parallel.
pub(crate) fn for_rows<T: Send>(
    out: &mut [T],
    width: usize,
    work: impl Fn(usize, &mut [T]) + Send + Sync,
) {
    if width == 0 {
        return;
    }
    let rows = rows_per_chunk(width);
    out.par_chunks_mut(rows * width).enumerate().for_each(|(chunk, out)| work(chunk * rows, out));
}

/// A pointer that tasks share, each for its own rows.
#[derive(Clone, Copy)]
struct Rows(*mut f32);
// SAFETY: every task of `build` writes only its own chunk, and chunks are disjoint.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

impl Rows {
    fn at(self, offset: usize) -> *mut f32 {
        // A method, so that closures capture the whole (Sync) wrapper and not the bare pointer.
        self.0.wrapping_add(offset)
    }
}

/// A new array of rows: as [`for_rows`] on zeros, but each task sets its own rows to zero, while
/// they are in its cache, instead of one thread setting all.
pub(crate) fn build(
    len: usize,
    width: usize,
    work: impl Fn(usize, &mut [f32]) + Send + Sync,
) -> Vec<f32> {
    let mut out: Vec<f32> = Vec::with_capacity(len);
    let (rows, pointer) = (rows_per_chunk(width), Rows(out.as_mut_ptr()));
    let step = (rows * width).max(1);
    (0..len.div_ceil(step)).into_par_iter().for_each(|chunk| {
        let from = chunk * step;
        let count = step.min(len - from);
        // SAFETY: the capacity is `len`, so `from..from + count` is allocated; no other task has
        // this chunk; it is set to zero before a slice of it exists.
        let out = unsafe {
            std::ptr::write_bytes(pointer.at(from), 0, count);
            std::slice::from_raw_parts_mut(pointer.at(from), count)
        };
        work(chunk * rows, out);
    });
    // SAFETY: the chunks above cover all of `0..len`, and each was written.
    unsafe { out.set_len(len) };
    out
}

/// A vector of `partial_width` sums over rows: `work(rows, partial)` adds a range of rows onto its
/// own vector of zeros, and the vectors are added in order. Ranges are wider than chunks of
/// [`for_rows`]: each carries a vector.
pub(crate) fn reduce_rows(
    row_count: usize,
    width: usize,
    partial_width: usize,
    work: impl Fn(std::ops::Range<usize>, &mut [f32]) + Send + Sync,
) -> Vec<f32> {
    let rows = rows_per_chunk(width) * 4;
    let partials: Vec<Vec<f32>> = (0..row_count.div_ceil(rows))
        .into_par_iter()
        .map(|chunk| {
            let mut partial = vec![0.0; partial_width];
            work(chunk * rows..((chunk + 1) * rows).min(row_count), &mut partial);
            partial
        })
        .collect();
    add_up(partials, partial_width)
}

fn add_up(partials: Vec<Vec<f32>>, width: usize) -> Vec<f32> {
    let mut total = vec![0.0; width];
    for partial in partials {
        total.iter_mut().zip(&partial).for_each(|(total, value)| *total += value);
    }
    total
}

/// Calls `work(first_value, out)` for consecutive chunks of values, in parallel.
pub(crate) fn for_values(out: &mut [f32], work: impl Fn(usize, &mut [f32]) + Send + Sync) {
    out.par_chunks_mut(CHUNK_VALUES)
        .enumerate()
        .for_each(|(chunk, out)| work(chunk * CHUNK_VALUES, out));
}

/// Sum of `term(i)` for `i` in `0..n`, in an order that vectorises and never changes.
#[inline(always)]
pub(crate) fn sum_by(n: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let whole = n - n % LANES;
    let mut i = 0;
    while i < whole {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(i + lane);
        }
        i += LANES;
    }
    let mut total = 0.0;
    for i in whole..n {
        total += term(i);
    }
    let mut step = LANES / 2;
    while step > 0 {
        for lane in 0..step {
            lanes[lane] += lanes[lane + step];
        }
        step /= 2;
    }
    total + lanes[0]
}

/// Sum of `x`.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    sum_by(x.len(), |i| x[i])
}

/// Inner product of two rows of equal length.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    sum_by(n, |i| a[i] * b[i])
}

/// Largest value of `x`; NaN if one is in it, minus infinity for an empty row.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    let pick = |best: f32, value: f32| if value > best || value.is_nan() { value } else { best };
    for chunk in chunks {
        for (best, &value) in lanes.iter_mut().zip(chunk) {
            *best = pick(*best, value);
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |best, &value| {
        if best.is_nan() { best } else { pick(best, value) }
    })
}

/// The sum of all rows of `width` values.
pub(crate) fn sum_rows<T: Real>(values: &[T], width: usize) -> Vec<f32> {
    reduce_rows(values.len() / width.max(1), width, width, |range, partial| {
        add_rows(&values[range.start * width..range.end * width], partial);
    })
}

multiversioned! {
    /// Adds each row of `values` onto `sum`.
    fn add_rows<T: Real>(values: &[T], sum: &mut [f32]) {
        let width = sum.len();
        for row in values.chunks_exact(width) {
            for i in 0..width {
                sum[i] += row[i].to_f32();
            }
        }
    }
}

/// `a + b + c`, value by value.
pub(crate) fn sum_of_three(a: &[f32], b: &[f32], c: &[f32]) -> Vec<f32> {
    build(a.len(), 1, |first, out| {
        for (((out, a), b), c) in out.iter_mut().zip(&a[first..]).zip(&b[first..]).zip(&c[first..])
        {
            *out = a + b + c;
        }
    })
}

/// A copy of `a`.
pub(crate) fn copied(a: &[f32]) -> Vec<f32> {
    build(a.len(), 1, |first, out| out.copy_from_slice(&a[first..first + out.len()]))
}

/// `out += row`, for each row of `out`; an empty `row` adds nothing.
pub(crate) fn add_to_rows(out: &mut [f32], row: &[f32]) {
    if row.is_empty() {
        return;
    }
    for_rows(out, row.len(), |_, out| {
        for out in out.chunks_exact_mut(row.len()) {
            for (out, value) in out.iter_mut().zip(row) {
                *out += value;
            }
        }
    });
}

/// `out = a + (out + row)`, for each row of `out`; an empty `row` adds nothing.
pub(crate) fn add_to(out: &mut [f32], a: &[f32], row: &[f32]) {
    if row.is_empty() {
        for_values(out, |first, out| {
            out.iter_mut().zip(&a[first..]).for_each(|(out, a)| *out += a);
        });
        return;
    }
    for_rows(out, row.len(), |first, out| {
        let a = a[first * row.len()..].chunks_exact(row.len());
        for (out, a) in out.chunks_exact_mut(row.len()).zip(a) {
            for ((out, a), value) in out.iter_mut().zip(a).zip(row) {
                *out = a + (*out + value);
            }
        }
    });
}

/// `factor * a`.
pub(crate) fn scaled(a: &[f32], factor: f32) -> Vec<f32> {
    build(a.len(), 1, |first, out| {
        out.iter_mut().zip(&a[first..]).for_each(|(out, a)| *out = factor * a);
    })
}

/// The inner product of two arrays of rows of `width` values, summed row by row.
pub(crate) fn inner(a: &[f32], b: &[f32], width: usize) -> f32 {
    let sum = reduce_rows(a.len() / width.max(1), width, 1, |range, partial| {
        for row in range {
            let row = row * width..(row + 1) * width;
            partial[0] += dot(&a[row.clone()], &b[row]);
        }
    });
    sum.first().copied().unwrap_or(0.0)
}
