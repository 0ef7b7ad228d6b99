//! Operands in the order in which tiles read them.
//!
//! A *panel* holds 16 columns of the right operand: 16 values for each `k`. A *strip* holds 6 rows
//! of the left one: 6 values for each `k`. What lies beyond the last column or row is zero. Values
//! are those of the operand, or the nearest ones of bf16.
//!
//! In products of bf16 neighbouring `k` change places, odd before even: the order in which
//! AVX512-BF16 adds.

use half::bf16;

use super::{
    super::{
        bf16::round,
        mat::Mat,
        vector::{Eight, with_eight},
    },
    kernel::{COLS, ROWS},
};

/// The values of an operand.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    /// Taken as they are.
    F32(&'a [f32]),
    /// Rounded to bf16.
    Rounded(&'a [f32]),
    /// Widened.
    Bf16(&'a [bf16]),
}

impl Values<'_> {
    pub(super) fn len(self) -> usize {
        match self {
            Values::F32(values) | Values::Rounded(values) => values.len(),
            Values::Bf16(values) => values.len(),
        }
    }
}

/// A part of an operand that one call packs.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// First row of a strip or column of a panel, and their number.
    pub(super) lines: (usize, usize),
    /// First `k`, and their number.
    pub(super) run: (usize, usize),
    /// Whether neighbouring `k` change places.
    pub(super) pairs_swapped: bool,
}

impl Part {
    /// The place of the `p`th value of the run.
    #[inline(always)]
    fn place(self, p: usize) -> usize {
        let other = p ^ 1;
        if self.pairs_swapped && other < self.run.1 { other } else { p }
    }
}

/// How a value is read.
trait Source {
    type Value: Copy;

    /// Eight values.
    ///
    /// # Safety
    /// As [`Eight::load`].
    unsafe fn load<E: Eight>(from: *const Self::Value) -> E;

    /// One value.
    fn read(value: Self::Value) -> f32;
}

struct Exact;
struct Rounded;
struct Half;

impl Source for Exact {
    type Value = f32;

    #[inline(always)]
    unsafe fn load<E: Eight>(from: *const f32) -> E {
        // SAFETY: the caller's promise.
        unsafe { E::load(from) }
    }

    #[inline(always)]
    fn read(value: f32) -> f32 {
        value
    }
}

impl Source for Rounded {
    type Value = f32;

    #[inline(always)]
    unsafe fn load<E: Eight>(from: *const f32) -> E {
        // SAFETY: the caller's promise.
        unsafe { E::load(from).to_half() }
    }

    #[inline(always)]
    fn read(value: f32) -> f32 {
        f32::from_bits(round(value) << 16)
    }
}

impl Source for Half {
    type Value = bf16;

    #[inline(always)]
    unsafe fn load<E: Eight>(from: *const bf16) -> E {
        // SAFETY: the caller's promise.
        unsafe { E::load_half(from) }
    }

    #[inline(always)]
    fn read(value: bf16) -> f32 {
        value.to_f32()
    }
}

/// Packs lines of `mat` (lines x k) into groups of `WIDTH`: strips of rows, panels of columns.
/// `out` holds `run.1 * WIDTH` values for each group, and all of them are written.
#[inline(always)]
unsafe fn pack_source<E: Eight, S: Source, const WIDTH: usize>(
    values: &[S::Value],
    mat: Mat,
    part: Part,
    out: &mut [f32],
) {
    let (first, lines) = part.lines;
    let (from, run) = part.run;
    debug_assert!(first + lines <= mat.rows && from + run <= mat.cols);
    debug_assert!(values.len() >= mat.span() && out.len() >= lines.div_ceil(WIDTH) * run * WIDTH);
    if run == 0 {
        return;
    }
    for (group, out) in out.chunks_exact_mut(run * WIDTH).enumerate() {
        let line = first + group * WIDTH;
        let present = WIDTH.min(first + lines - line);
        let at = |i: usize, p: usize| (line + i) * mat.row_stride + (from + p) * mat.col_stride;
        let whole = run - run % 8;
        let mut done = 0;
        if mat.col_stride == 1 {
            for half in 0..WIDTH.div_ceil(8) {
                let rows = present.saturating_sub(8 * half).min(8);
                // The last block of a strip is written value by value: a store of eight would go
                // beyond it.
                let end = if WIDTH.is_multiple_of(8) { whole } else { whole.saturating_sub(8) };
                for p in (0..end).step_by(8) {
                    // SAFETY: rows `line..line + present` hold `run` values from `from` on; eight
                    // values at `place * WIDTH` lie inside `out`.
                    unsafe {
                        let mut block = [E::splat(0.0); 8];
                        for (i, block) in block.iter_mut().enumerate().take(rows) {
                            *block = S::load(values.as_ptr().add(at(8 * half + i, p)));
                        }
                        let block = E::transpose(block);
                        // In the order of memory: where eight values overlap the next place, the
                        // next store overwrites them.
                        let to = out.as_mut_ptr().add(p * WIDTH + 8 * half);
                        if part.pairs_swapped {
                            (0..8).for_each(|i| block[i ^ 1].store(to.add(i * WIDTH)));
                        } else {
                            (0..8).for_each(|i| block[i].store(to.add(i * WIDTH)));
                        }
                    }
                }
                done = end;
            }
        } else if mat.row_stride == 1 && present == WIDTH {
            for p in 0..run {
                let place = part.place(p) * WIDTH;
                if WIDTH.is_multiple_of(8) {
                    for i in (0..WIDTH).step_by(8) {
                        // SAFETY: `WIDTH` values lie side by side; `out` holds as many at `place`.
                        unsafe {
                            S::load::<E>(values.as_ptr().add(at(i, p)))
                                .store(out.as_mut_ptr().add(place + i));
                        }
                    }
                } else {
                    let values = &values[at(0, p)..][..WIDTH];
                    let out = &mut out[place..place + WIDTH];
                    for (out, value) in out.iter_mut().zip(values) {
                        *out = S::read(*value);
                    }
                }
            }
            done = run;
        }
        for p in done..run {
            let out = &mut out[part.place(p) * WIDTH..][..WIDTH];
            for (i, out) in out.iter_mut().enumerate() {
                *out = if i < present { S::read(values[at(i, p)]) } else { 0.0 };
            }
        }
    }
}

#[inline(always)]
unsafe fn pack_width<E: Eight, const WIDTH: usize>(
    values: Values<'_>,
    mat: Mat,
    part: Part,
    out: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match values {
            Values::F32(values) => pack_source::<E, Exact, WIDTH>(values, mat, part, out),
            Values::Rounded(values) => pack_source::<E, Rounded, WIDTH>(values, mat, part, out),
            Values::Bf16(values) => pack_source::<E, Half, WIDTH>(values, mat, part, out),
        }
    }
}

#[inline(always)]
unsafe fn pack_strips<E: Eight>(values: Values<'_>, mat: Mat, part: Part, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { pack_width::<E, ROWS>(values, mat, part, out) }
}

#[inline(always)]
unsafe fn pack_panels<E: Eight>(values: Values<'_>, mat: Mat, part: Part, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { pack_width::<E, COLS>(values, mat, part, out) }
}

with_eight! {
    /// Packs rows of `mat` (m, k) into strips.
    ///
    /// # Safety
    /// `values` must hold `mat`, which must have the lines and the run of `part`; `out` must hold
    /// whole strips.
    pub(super) unsafe fn strips(values: Values<'_>, mat: Mat, part: Part, out: &mut [f32])
        = pack_strips
}

with_eight! {
    /// Packs rows of `mat` (n, k), the right operand transposed, into panels.
    ///
    /// # Safety
    /// As [`strips`].
    pub(super) unsafe fn panels(values: Values<'_>, mat: Mat, part: Part, out: &mut [f32])
        = pack_panels
}
