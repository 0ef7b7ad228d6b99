//! Matrix products in bf16: operands rounded to bf16, sums in `f32`, on AVX512-BF16
//! ([`has_instruction`]). Processors without it take [`without`]; the kernels here emulate the
//! instruction for tests.
//!
//! `out = a b (+ bias)` where `a` (m, k) and `b` (k, n) are `f32` or bf16, of either order in
//! memory. Both operands are packed ([`pack`]); `b` may be packed once and used again ([`Packed`]),
//! which is what frozen weights are for. Packed operands are multiplied in tiles of 12 x 32
//! ([`kernel`]).
//!
//! # What is guaranteed
//! Every sum runs over `k` in one fixed order, from zero, whatever the number of threads and the
//! shape of the rest of the product: the same bits for any number of threads, for a row alone and
//! for the row among others, for operands packed once or each time. Every processor gives the same
//! bits too, but for sums and values below 1.2e-38, which the AVX512-BF16 instruction takes for
//! zero.
#![allow(unsafe_code)]

mod kernel;
mod pack;
#[cfg(test)]
mod tests;
mod tile;
pub(crate) mod without;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::mem::MaybeUninit;

use half::bf16;
use rayon::prelude::*;

pub(crate) use self::pack::round;
use self::{
    kernel::tile,
    tile::{LANES, Lanes, Row, TILE_COLS, TILE_ROWS},
};
use super::{
    level::{Level, level, multiversioned},
    mat::{Into, Mat, Threads},
};

/// Pairs of `k` that are multiplied before the next tile: a strip of `b` of this many pairs takes
/// 48 KiB.
const BLOCK_PAIRS: usize = 384;

/// Strips of `a` in a task: with [`BLOCK_PAIRS`], 216 KiB of the second-level cache.
const TASK_STRIPS: usize = 12;

/// Strips of `b` in a task: few enough to share work evenly.
const TASK_PANELS: usize = 6;

/// Whether this processor multiplies pairs of bf16. If not, products of packed operands are an
/// emulation, and slow.
pub(crate) fn has_instruction() -> bool {
    level() == Level::Avx512Bf16
}

/// The values of an operand.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    /// Rounded while packing.
    F32(&'a [f32]),
    /// Taken as they are.
    Bf16(&'a [bf16]),
}

impl Values<'_> {
    fn len(self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::Bf16(values) => values.len(),
        }
    }

    fn pack(self, mat: Mat, rows: (usize, usize), width: usize, out: &mut [MaybeUninit<u32>]) {
        #[cfg(target_arch = "x86_64")]
        if level() == Level::Avx512Bf16 && mat.col_stride == 1 && mat.cols > 0 {
            // SAFETY: the level guarantees that the processor has the instructions.
            return unsafe {
                match self {
                    Values::F32(values) => x86::strips(values, mat, rows, width, out),
                    Values::Bf16(values) => x86::strips(values, mat, rows, width, out),
                }
            };
        }
        match self {
            Values::F32(values) => pack::strips_f32(values, mat, rows, width, out),
            Values::Bf16(values) => pack::strips_bf16(values, mat, rows, width, out),
        }
    }
}

/// A value that a product can be written as.
pub(crate) trait Element: Copy + Send + Sync {
    /// Writes `sums` (one row per row of `out`) plus `bias` over the first columns of `out`, or
    /// adds them to it.
    fn finish(sums: &[Row], bias: Option<&[f32]>, into: Into, out: &mut [&mut [MaybeUninit<Self>]]);
}

/// The right operand, packed: strips of 32 columns.
pub(crate) struct Packed {
    lanes: Vec<Lanes>,
    k: usize,
    n: usize,
}

impl Packed {
    /// Packs `b` (k, n).
    ///
    /// # Panics
    /// If `values` is shorter than its matrix; callers derive both from checked tensors.
    pub(crate) fn new((values, mat): (Values, Mat), threads: Threads) -> Self {
        assert!(values.len() >= mat.span(), "bf16: an operand is too short");
        let (k, n) = (mat.rows, mat.cols);
        let per_strip = k.div_ceil(2) * 2;
        let mut lanes: Vec<Lanes> = Vec::with_capacity(n.div_ceil(TILE_COLS) * per_strip);
        let count = lanes.capacity().min(n.div_ceil(TILE_COLS) * per_strip);
        let spare = &mut lanes.spare_capacity_mut()[..count];
        // SAFETY: `Lanes` is an array of `LANES` values without padding, and a pointer to one is
        // aligned for `u32`.
        let flat = unsafe {
            std::slice::from_raw_parts_mut(
                spare.as_mut_ptr().cast::<MaybeUninit<u32>>(),
                count * LANES,
            )
        };
        pack_all((values, mat.t()), TILE_COLS, threads, flat);
        // SAFETY: `pack_all` has written all of `flat`, which is the first `count` values.
        unsafe { lanes.set_len(count) };
        Self { lanes, k, n }
    }
}

/// Strips that one task packs: neighbours, because reading across rows fetches whole lines of
/// memory.
const PACK_STRIPS: usize = 8;

/// Packs all rows of `mat` (strip dimension x k) into `out`, which holds exactly their strips.
fn pack_all(
    (values, mat): (Values, Mat),
    width: usize,
    threads: Threads,
    out: &mut [MaybeUninit<u32>],
) {
    let group = PACK_STRIPS * width;
    let len = mat.cols.div_ceil(2) * group;
    if len == 0 {
        return;
    }
    let pack = |(index, out): (usize, &mut [MaybeUninit<u32>])| {
        let first = index * group;
        values.pack(mat, (first, group.min(mat.rows - first)), width, out);
    };
    match threads {
        Threads::One => out.chunks_mut(len).enumerate().for_each(pack),
        Threads::All => out.par_chunks_mut(len).enumerate().for_each(pack),
    }
}

/// `a b + bias`, dense and row major. `a` is (m, k), `bias` has n values.
///
/// # Panics
/// If the shapes do not chain or a slice is shorter than its matrix; callers derive both from
/// checked tensors.
pub(crate) fn product<T: Element>(
    (a, a_mat): (Values, Mat),
    b: &Packed,
    bias: Option<&[f32]>,
    threads: Threads,
) -> Vec<T> {
    let len = a_mat.rows * b.n;
    let mut out: Vec<T> = Vec::with_capacity(len);
    let mat = Mat::dense(a_mat.rows, b.n);
    let spare = &mut out.spare_capacity_mut()[..len];
    multiply(level(), (spare, mat), Into::Replace, (a, a_mat), b, bias, threads);
    // SAFETY: a product that replaces writes every value of its dense destination.
    unsafe { out.set_len(len) };
    out
}

/// `out = a b`. `out` has dense rows, which may lie apart.
///
/// # Panics
/// As [`product`].
pub(crate) fn replace<T: Element>(
    (out, out_mat): (&mut [T], Mat),
    (a, a_mat): (Values, Mat),
    b: &Packed,
    threads: Threads,
) {
    // SAFETY: `MaybeUninit<T>` is laid out as `T`, and `multiply` writes nothing but values.
    let out = unsafe {
        std::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<MaybeUninit<T>>(), out.len())
    };
    multiply(level(), (out, out_mat), Into::Replace, (a, a_mat), b, None, threads);
}

/// `out += a b`. `out` has dense rows, which may lie apart.
///
/// # Panics
/// As [`product`].
#[cfg_attr(not(test), expect(dead_code, reason = "for weights that are kept in bf16"))]
pub(crate) fn add(
    (out, out_mat): (&mut [f32], Mat),
    (a, a_mat): (Values, Mat),
    b: &Packed,
    threads: Threads,
) {
    // SAFETY: `MaybeUninit<f32>` is laid out as `f32`, and `multiply` writes nothing but values.
    let out = unsafe {
        std::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<MaybeUninit<f32>>(), out.len())
    };
    multiply(level(), (out, out_mat), Into::Add, (a, a_mat), b, None, threads);
}

/// The product, at a given level. The destination's rows are dense; with [`Into::Replace`] all of
/// them are written, with [`Into::Add`] they must hold values.
fn multiply<T: Element>(
    level: Level,
    (out, out_mat): (&mut [MaybeUninit<T>], Mat),
    into: Into,
    (a, a_mat): (Values, Mat),
    b: &Packed,
    bias: Option<&[f32]>,
    threads: Threads,
) {
    let (m, n, k) = (out_mat.rows, out_mat.cols, a_mat.cols);
    assert!(
        a_mat.rows == m && b.k == k && b.n == n && bias.is_none_or(|bias| bias.len() == n),
        "bf16: {a_mat:?} times ({}, {}) into {out_mat:?}",
        b.k,
        b.n
    );
    assert!(a.len() >= a_mat.span(), "bf16: an operand is too short");
    assert!(out_mat.col_stride == 1 && out_mat.row_stride >= n, "bf16: {out_mat:?}");
    assert!(out.len() >= out_mat.span(), "bf16: the output is too short");
    if m == 0 || n == 0 {
        return;
    }
    // Strips of equal height: 50 rows are 5 x 10 rather than 4 x 12 and 2.
    let width = m.div_ceil(m.div_ceil(TILE_ROWS));
    let pairs = k.div_ceil(2);
    let count = m.div_ceil(width) * width * pairs;
    let mut packed: Vec<u32> = Vec::with_capacity(count);
    pack_all((a, a_mat), width, threads, &mut packed.spare_capacity_mut()[..count]);
    // SAFETY: `pack_all` has written all of them.
    unsafe { packed.set_len(count) };

    let job = Job { level, a: &packed, m, width, pairs, b, bias, into };
    let (row_tasks, strips) = even(m.div_ceil(width), TASK_STRIPS);
    let (col_tasks, panels) = even(n.div_ceil(TILE_COLS), TASK_PANELS);
    let out = Destination { start: out.as_mut_ptr(), row_stride: out_mat.row_stride };
    let task = |index: usize| {
        let (row_task, col_task) = (index / col_tasks, index % col_tasks);
        let strips = row_task * strips..((row_task + 1) * strips).min(m.div_ceil(width));
        let panels = col_task * panels..((col_task + 1) * panels).min(n.div_ceil(TILE_COLS));
        // SAFETY: `out` has m rows of n values (asserted above), and no two tasks share a strip and
        // a panel.
        unsafe { job.run(strips, panels, &out) };
    };
    match threads {
        Threads::One => (0..row_tasks * col_tasks).for_each(task),
        Threads::All => (0..row_tasks * col_tasks).into_par_iter().with_max_len(1).for_each(task),
    }
}

/// Splits `units` into tasks of nearly equal size, at most `max` units each:
/// `(tasks, units per task)`.
fn even(units: usize, max: usize) -> (usize, usize) {
    let size = units.div_ceil(units.div_ceil(max).max(1)).max(1);
    (units.div_ceil(size), size)
}

/// Where a product goes, shared by tasks that write different parts of it.
struct Destination<T> {
    start: *mut MaybeUninit<T>,
    row_stride: usize,
}

// SAFETY: the pointer is used only through `Job::run`, whose callers keep the parts disjoint.
unsafe impl<T: Send> Sync for Destination<T> {}

/// A product of packed operands.
struct Job<'a> {
    level: Level,
    a: &'a [u32],
    m: usize,
    width: usize,
    pairs: usize,
    b: &'a Packed,
    bias: Option<&'a [f32]>,
    into: Into,
}

impl Job<'_> {
    /// The part of the product that a range of strips of `a` and of `b` make.
    ///
    /// # Safety
    /// `out` must be valid for the rows and columns of the strips, and no other thread may touch
    /// them.
    unsafe fn run<T: Element>(
        &self,
        strips: std::ops::Range<usize>,
        panels: std::ops::Range<usize>,
        out: &Destination<T>,
    ) {
        let blocks = self.pairs.div_ceil(BLOCK_PAIRS).max(1);
        // Sums wait here between blocks of k.
        let mut waiting = match blocks {
            1 => Vec::new(),
            _ => vec![Row([0.0; TILE_COLS]); strips.len() * panels.len() * self.width],
        };
        for block in 0..blocks {
            let from = block * BLOCK_PAIRS;
            let to = (from + BLOCK_PAIRS).min(self.pairs);
            let mut tiles = waiting.chunks_exact_mut(self.width);
            for panel in panels.clone() {
                let b = &self.b.lanes[(panel * self.pairs + from) * 2..][..(to - from) * 2];
                for strip in strips.clone() {
                    let rows = self.width.min(self.m - strip * self.width);
                    let a = &self.a[(strip * self.pairs + from) * self.width..]
                        [..(to - from) * self.width];
                    let mut fresh = [Row([0.0; TILE_COLS]); TILE_ROWS];
                    let sums = match tiles.next() {
                        Some(waiting) => &mut waiting[..rows],
                        None => &mut fresh[..rows],
                    };
                    tile(self.level, a, self.width, b, sums);
                    if block + 1 == blocks {
                        // SAFETY: the caller's promise, for these rows and columns.
                        unsafe { self.write(strip, panel, sums, out) };
                    }
                }
            }
        }
    }

    /// # Safety
    /// As [`Job::run`].
    unsafe fn write<T: Element>(
        &self,
        strip: usize,
        panel: usize,
        sums: &[Row],
        out: &Destination<T>,
    ) {
        let column = panel * TILE_COLS;
        let columns = TILE_COLS.min(self.b.n - column);
        let mut rows: [&mut [MaybeUninit<T>]; TILE_ROWS] = Default::default();
        for (r, row) in rows.iter_mut().enumerate().take(sums.len()) {
            let at = (strip * self.width + r) * out.row_stride + column;
            // SAFETY: row and columns lie inside the destination and belong to this call alone.
            *row = unsafe { std::slice::from_raw_parts_mut(out.start.add(at), columns) };
        }
        let bias = self.bias.map(|bias| &bias[column..column + columns]);
        T::finish(sums, bias, self.into, &mut rows[..sums.len()]);
    }
}

/// The body of [`Element::finish`]; `read` and `write` convert.
#[inline(always)]
fn finish_rows<T: Copy>(
    sums: &[Row],
    bias: Option<&[f32]>,
    into: Into,
    out: &mut [&mut [MaybeUninit<T>]],
    read: impl Fn(T) -> f32 + Copy,
    write: impl Fn(f32) -> T + Copy,
) {
    const NONE: [f32; TILE_COLS] = [0.0; TILE_COLS];
    for (sums, out) in sums.iter().zip(out) {
        let sums = &sums.0[..out.len()];
        let bias = match bias {
            Some(bias) => bias,
            None => &NONE[..],
        };
        let bias = &bias[..out.len()];
        if into == Into::Add {
            for j in 0..out.len() {
                // SAFETY: a destination that is added to holds values.
                let before = read(unsafe { out[j].assume_init() });
                out[j].write(write(before + (sums[j] + bias[j])));
            }
        } else {
            for j in 0..out.len() {
                out[j].write(write(sums[j] + bias[j]));
            }
        }
    }
}

multiversioned! {
    fn finish_f32(
        sums: &[Row],
        bias: Option<&[f32]>,
        into: Into,
        out: &mut [&mut [MaybeUninit<f32>]],
    ) {
        finish_rows(sums, bias, into, out, |x| x, |x| x);
    }
}

multiversioned! {
    fn finish_bf16(
        sums: &[Row],
        bias: Option<&[f32]>,
        into: Into,
        out: &mut [&mut [MaybeUninit<bf16>]],
    ) {
        finish_rows(sums, bias, into, out, bf16::to_f32, |x| bf16::from_bits(pack::round(x) as u16));
    }
}

impl Element for f32 {
    fn finish(sums: &[Row], bias: Option<&[f32]>, into: Into, out: &mut [&mut [MaybeUninit<f32>]]) {
        finish_f32(sums, bias, into, out);
    }
}

impl Element for bf16 {
    fn finish(
        sums: &[Row],
        bias: Option<&[f32]>,
        into: Into,
        out: &mut [&mut [MaybeUninit<bf16>]],
    ) {
        finish_bf16(sums, bias, into, out);
    }
}
