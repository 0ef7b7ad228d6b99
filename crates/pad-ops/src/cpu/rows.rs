//! Fixed chunking over rows, and sums with a fixed order.
//!
//! How rows are cut depends on the shape alone, never on the number of threads, and partial results are added in
//! chunk order: the bits of a result are the same for 1 and for 64 threads.

use rayon::prelude::*;

/// Values that one task should hold: enough to pay for its start, few enough to share work evenly.
const CHUNK_VALUES: usize = 1 << 14;

/// Lanes of a running sum: two AVX-512 registers' worth of independent additions.
const LANES: usize = 32;

/// Rows of `width` values per task.
pub(crate) fn rows_per_chunk(width: usize) -> usize {
    (CHUNK_VALUES / width.max(1)).max(1)
}

/// Calls `work(first_row, out_rows)` for consecutive chunks of rows of `out`, in parallel.
pub(crate) fn for_rows(
    out: &mut [f32],
    width: usize,
    work: impl Fn(usize, &mut [f32]) + Send + Sync,
) {
    if width == 0 {
        return;
    }
    let rows = rows_per_chunk(width);
    out.par_chunks_mut(rows * width).enumerate().for_each(|(chunk, out)| work(chunk * rows, out));
}

/// A vector of `partial_width` sums over rows: `work(rows, partial)` adds a range of rows onto its own vector of
/// zeros, and the vectors are added in order. Ranges are wider than chunks of [`for_rows`]: each carries a vector.
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
