//! Matrix products in tiles of 6 x 16: `f32` with AVX2, and bf16 wherever the processor has no
//! instruction for it.
//!
//! `out = scale a b` where `a` is (m, k) and `b` (k, n), of any strides. A task has some rows and
//! some columns of the result. Its part of `b` lies in *panels* of 16 columns, of as many `k` as
//! fit into the second-level cache; they are packed by the task itself, or once for all tasks where
//! several need them. `a` is read as it lies where its rows do (single values are broadcast), else
//! packed first, in *strips* of 6 rows. Where packing the other way round is less work, the
//! transposed product is computed.
//!
//! # What is guaranteed
//! Every sum runs over `k` in one fixed order, from zero, in one chain: its bits depend neither on
//! the number of threads nor on the rest of the product. In bf16 the order is that of AVX512-BF16,
//! and products of bf16 are exact in `f32`: the bits are those of that instruction, but for sums
//! and values below 1.2e-38, which it takes for zero.
#![allow(unsafe_code)]

mod kernel;
mod pack;
#[cfg(test)]
mod tests;

use std::ops::Range;

use rayon::prelude::*;

pub(crate) use self::{kernel::Finish, pack::Values};
use self::{
    kernel::{COLS, ROWS, Row, Strip, tile_of, write_tile},
    pack::Part,
};
use super::{
    mat::{Mat, Threads},
    real::Real,
    scratch::Scratch,
    vector::EightKind,
};

/// `k` of a block: what is multiplied before the next tile.
const BLOCK_K: usize = 512;

/// Values of the panels that a task goes through: half of the second-level cache of 512 KiB.
const PANEL_VALUES: usize = 64 << 10;

/// Minimum rows of a task: fewer do not repay packing its panels.
const TASK_ROWS: usize = 192;

/// Tasks for each thread, so that none waits long for another.
const TASKS: usize = 4;

/// Values that one call packs.
const PACK_VALUES: usize = 1 << 15;

/// `out = scale a b`, or `out += scale a b`.
///
/// # Safety
/// `out` must be valid for writes (for [`Into::Add`](super::mat::Into::Add) also for reads) of every
/// value of `out_mat`, and no other thread may access them meanwhile.
///
/// # Panics
/// If the shapes do not chain or an operand is shorter than its matrix; callers derive both from
/// checked tensors.
pub(crate) unsafe fn multiply<T: Real>(
    kind: EightKind,
    (out, out_mat): (*mut T, Mat),
    finish: Finish,
    (a, a_mat): (Values<'_>, Mat),
    (b, b_mat): (Values<'_>, Mat),
    threads: Threads,
) {
    let (m, n, k) = (out_mat.rows, out_mat.cols, a_mat.cols);
    assert!(
        a_mat.rows == m && b_mat.rows == k && b_mat.cols == n,
        "tiled: {a_mat:?} times {b_mat:?} into {out_mat:?}"
    );
    assert!(a.len() >= a_mat.span() && b.len() >= b_mat.span(), "tiled: an operand is too short");
    if m == 0 || n == 0 {
        return;
    }
    // What is packed, and stores across rows: measured, these cost ten times as much a value.
    let work = |left: (Values<'_>, Mat), right: Mat, out: Mat| {
        let strips = if is_in_place(left.0, left.1) { 0 } else { 3 * left.1.rows * k };
        let across = if out.col_stride == 1 { 0 } else { 20 * m * n };
        strips + 2 * right.cols * k + across
    };
    let transposed =
        work((b, b_mat.t()), a_mat.t(), out_mat.t()) < work((a, a_mat), b_mat, out_mat);
    let job = |out_mat, a: (Values<'_>, Mat), b: (Values<'_>, Mat)| {
        // SAFETY: the caller's promise, of the same values under either view.
        unsafe { run(kind, (out, out_mat), finish, a, b, threads) }
    };
    match transposed {
        true => job(out_mat.t(), (b, b_mat.t()), (a, a_mat.t())),
        false => job(out_mat, (a, a_mat), (b, b_mat)),
    }
}

/// Whether tiles read the rows of a left operand as they lie.
fn is_in_place(values: Values<'_>, mat: Mat) -> bool {
    matches!(values, Values::F32(_)) && mat.col_stride == 1
}

/// How a product is cut.
struct Plan {
    /// `k` of a block.
    block: usize,
    /// Tasks side by side, and one below the other.
    tasks: (usize, usize),
}

impl Plan {
    fn new(m: usize, n: usize, k: usize, threads: usize) -> Self {
        // Pairs stay together.
        let block = k.div_ceil(k.div_ceil(BLOCK_K).max(1)).next_multiple_of(2).max(2);
        let panels = n.div_ceil(COLS);
        let group = (PANEL_VALUES / (block * COLS)).max(1);
        let mut across = panels.div_ceil(group);
        let down = (TASKS * threads).div_ceil(across).min(m.div_ceil(TASK_ROWS)).max(1);
        if down == 1 {
            across = across.next_multiple_of(threads).max(threads).min(panels);
        }
        Self { block, tasks: (across, down) }
    }

    /// Part `index` of `count` of `0..units`, as even as it can be.
    fn part(units: usize, count: usize, index: usize) -> Range<usize> {
        units * index / count..units * (index + 1) / count
    }
}

/// Memory that begins with a line of the cache.
struct Aligned {
    values: Scratch<f32>,
    first: usize,
    len: usize,
}

impl Aligned {
    const LINE: usize = 16;

    fn new(len: usize) -> Self {
        let values = Scratch::<f32>::new(len + Self::LINE);
        let first = values.as_ptr().align_offset(64).min(Self::LINE);
        Self { values, first, len }
    }

    fn get(&self) -> &[f32] {
        &self.values[self.first..self.first + self.len]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.first..self.first + self.len]
    }
}

/// Calls `work` for each index, on one thread or on all.
fn for_each(count: usize, threads: Threads, work: impl Fn(usize) + Sync + Send) {
    match threads {
        Threads::One => (0..count).for_each(work),
        Threads::All => (0..count).into_par_iter().with_max_len(1).for_each(work),
    }
}

/// [`multiply`], of checked operands, with strips of `a` and panels of `b`.
///
/// # Safety
/// As [`multiply`].
unsafe fn run<T: Real>(
    kind: EightKind,
    (out, out_mat): (*mut T, Mat),
    finish: Finish,
    (a, a_mat): (Values<'_>, Mat),
    (b, b_mat): (Values<'_>, Mat),
    threads: Threads,
) {
    let (m, n, k) = (out_mat.rows, out_mat.cols, a_mat.cols);
    let pool = match threads {
        Threads::One => 1,
        Threads::All => rayon::current_num_threads(),
    };
    let plan = Plan::new(m, n, k, pool);
    let pairs_swapped = !matches!((a, b), (Values::F32(_), Values::F32(_)));
    let strips = (!is_in_place(a, a_mat) || pairs_swapped).then(|| {
        let mut strips = Aligned::new(m.next_multiple_of(ROWS) * k);
        pack_strips(kind, (a, a_mat), pairs_swapped, threads, strips.get_mut());
        strips
    });
    let shared = (plan.tasks.1 > 1).then(|| {
        let mut panels = Aligned::new(n.next_multiple_of(COLS) * k);
        pack_panels(kind, (b, b_mat), &plan, pairs_swapped, threads, panels.get_mut());
        panels
    });
    let left = match (&strips, a) {
        (Some(strips), _) => Left::Packed(strips.get()),
        (None, Values::F32(a)) => Left::InPlace(a, a_mat.row_stride),
        (None, _) => Left::Packed(&[]), // every other kind has been packed
    };
    let job = Job {
        kind,
        left,
        right: (b, b_mat),
        shared: shared.as_ref().map(Aligned::get),
        plan: &plan,
        pairs_swapped,
        finish,
        out: Destination { start: out, mat: out_mat },
    };
    for_each(plan.tasks.0 * plan.tasks.1, threads, |task| {
        let strips = Plan::part(m.div_ceil(ROWS), plan.tasks.1, task % plan.tasks.1);
        let panels = Plan::part(n.div_ceil(COLS), plan.tasks.0, task / plan.tasks.1);
        // SAFETY: the caller's promise; no two tasks share a row and a column.
        unsafe { job.run(strips, panels) };
    });
}

/// All strips of `a`, one after the other, each over the whole of `k`.
fn pack_strips(
    kind: EightKind,
    (a, mat): (Values<'_>, Mat),
    pairs_swapped: bool,
    threads: Threads,
    out: &mut [f32],
) {
    let k = mat.cols;
    // Neighbours together: reading across rows fetches whole lines of memory.
    // At least a group: a long `k` alone is more than a call packs.
    let group = (PACK_VALUES / (k * ROWS).max(1)).max(1).next_multiple_of(8) * ROWS;
    let count = (group * k).max(1);
    let pack = |(index, out): (usize, &mut [f32])| {
        let lines = (index * group, group.min(mat.rows - index * group));
        // SAFETY: `multiply` has checked that the values are there; `out` holds whole strips.
        unsafe { pack::strips(kind, a, mat, Part { lines, run: (0, k), pairs_swapped }, out) };
    };
    match threads {
        Threads::One => out.chunks_mut(count).enumerate().for_each(pack),
        Threads::All => out.par_chunks_mut(count).enumerate().for_each(pack),
    }
}

/// All panels of `b`, block after block.
fn pack_panels(
    kind: EightKind,
    (b, mat): (Values<'_>, Mat),
    plan: &Plan,
    pairs_swapped: bool,
    threads: Threads,
    out: &mut [f32],
) {
    let (k, n) = (mat.rows, mat.cols);
    let width = n.next_multiple_of(COLS);
    let mut rest = out;
    let mut parts = Vec::new();
    for from in (0..k).step_by(plan.block) {
        let run = plan.block.min(k - from);
        let group = (PACK_VALUES / (run * COLS)).max(1) * COLS;
        for first in (0..width).step_by(group) {
            let lines = group.min(width - first);
            let (part, after) = rest.split_at_mut(lines * run);
            rest = after;
            parts.push((
                Part { lines: (first, lines.min(n - first)), run: (from, run), pairs_swapped },
                part,
            ));
        }
    }
    let pack = |(part, out): (Part, &mut [f32])| {
        // SAFETY: `multiply` has checked that the values are there; `out` holds whole panels.
        unsafe { pack::panels(kind, b, mat.t(), part, out) };
    };
    match threads {
        Threads::One => parts.into_iter().for_each(pack),
        Threads::All => parts.into_par_iter().for_each(pack),
    }
}

/// The left operand as tiles read it.
#[derive(Clone, Copy)]
enum Left<'a> {
    /// Strips.
    Packed(&'a [f32]),
    /// Rows, and how far they lie apart.
    InPlace(&'a [f32], usize),
}

/// Where a product goes, shared by tasks that write different parts of it.
struct Destination<T> {
    start: *mut T,
    mat: Mat,
}

// SAFETY: the pointer is used only through `Job::run`, whose callers keep the parts disjoint.
unsafe impl<T: Send> Send for Destination<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Destination<T> {}

/// A product whose operands are where tasks find them.
struct Job<'a, T> {
    kind: EightKind,
    left: Left<'a>,
    right: (Values<'a>, Mat),
    /// All panels, if tasks share them.
    shared: Option<&'a [f32]>,
    plan: &'a Plan,
    pairs_swapped: bool,
    finish: Finish,
    out: Destination<T>,
}

impl<T: Real> Job<'_, T> {
    /// The part of the product that some strips and some panels make.
    ///
    /// # Safety
    /// The destination must be valid for the rows and columns of the strips and panels, and no
    /// other thread may access them.
    unsafe fn run(&self, strips: Range<usize>, panels: Range<usize>) {
        let (m, n, k) = (self.out.mat.rows, self.out.mat.cols, self.right.1.rows);
        let block = self.plan.block;
        let blocks = k.div_ceil(block);
        let mut own = match self.shared {
            Some(_) => Aligned::new(0),
            None => Aligned::new(panels.len() * COLS * block.min(k)),
        };
        // Sums wait here between blocks of `k`.
        let mut waiting = match blocks {
            0 | 1 => Aligned::new(0),
            _ => Aligned::new(strips.len() * panels.len() * ROWS * COLS),
        };
        for index in 0..blocks.max(1) {
            let from = index * block;
            let run = block.min(k - from);
            let right = match self.shared {
                Some(shared) => &shared[n.next_multiple_of(COLS) * from..],
                None => {
                    let first = panels.start * COLS;
                    let lines = (first, (panels.end * COLS).min(n) - first);
                    let part = Part { lines, run: (from, run), pairs_swapped: self.pairs_swapped };
                    let own = &mut own.get_mut()[..panels.len() * COLS * run];
                    let (b, mat) = self.right;
                    // SAFETY: `multiply` has checked that the values are there; `own` holds whole
                    // panels.
                    unsafe { pack::panels(self.kind, b, mat.t(), part, own) };
                    &*own
                }
            };
            let first = if self.shared.is_some() { 0 } else { panels.start };
            let mut tiles = waiting.get_mut().chunks_exact_mut(ROWS * COLS);
            for strip in strips.clone() {
                let rows = ROWS.min(m - strip * ROWS);
                let left = match self.left {
                    Left::Packed(a) => {
                        let a = &a[strip * ROWS * k + from * ROWS..][..run * ROWS];
                        Strip::Packed(a.as_ptr())
                    }
                    Left::InPlace(a, step) => {
                        let a = &a[strip * ROWS * step + from..];
                        debug_assert!(a.len() >= (rows - 1) * step + run);
                        Strip::InPlace(a.as_ptr(), step)
                    }
                };
                for panel in panels.clone() {
                    let right = &right[(panel - first) * COLS * run..][..COLS * run];
                    let cols = COLS.min(n - panel * COLS);
                    let mut fresh = [Row([0.0; COLS]); ROWS];
                    let tile = tiles.next();
                    let sums = match tile {
                        // SAFETY: a chunk holds the values of `ROWS` rows and begins with a line of
                        // the cache, as a row must.
                        Some(tile) => unsafe { &mut *tile.as_mut_ptr().cast::<[Row; ROWS]>() },
                        None => &mut fresh,
                    };
                    if index == 0 {
                        *sums = [Row([0.0; COLS]); ROWS];
                    }
                    // SAFETY: the strip and the panel hold `run` values of their rows and columns.
                    unsafe { tile_of(self.kind, run, left, right.as_ptr(), (rows, cols), sums) };
                    if index + 1 >= blocks {
                        // SAFETY: the caller's promise, for these rows and columns.
                        unsafe { self.write(strip, panel, (rows, cols), sums) };
                    }
                }
            }
        }
    }

    /// # Safety
    /// As [`Job::run`].
    unsafe fn write(
        &self,
        strip: usize,
        panel: usize,
        (rows, cols): (usize, usize),
        sums: &[Row; ROWS],
    ) {
        let Mat { row_stride, col_stride, .. } = self.out.mat;
        let to = self.out.start.wrapping_add(strip * ROWS * row_stride + panel * COLS * col_stride);
        // SAFETY: the rows' and columns' values exist and belong to this call alone.
        unsafe {
            write_tile(self.kind, sums, (rows, cols), self.finish, to, (row_stride, col_stride))
        };
    }
}
