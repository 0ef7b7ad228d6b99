//! One tile of a product: up to 6 rows times 16 columns, over a run of `k`.

use super::super::{
    mat::Into,
    real::Real,
    vector::{Eight, with_eight},
};

/// Rows of a tile: with two registers of columns 12 sums, two of `b` and a broadcast value of `a`
/// fill the 16 registers.
pub(super) const ROWS: usize = 6;

/// Columns of a tile: two registers.
pub(super) const COLS: usize = 16;

/// The sums of a tile's row.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Row(pub(super) [f32; COLS]);

/// What becomes of the sums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finish {
    /// What happens to the values already in the destination.
    pub(crate) into: Into,
    /// What sums are multiplied by first.
    pub(crate) scale: f32,
}

/// Where the rows of a tile's left operand lie.
#[derive(Clone, Copy)]
pub(super) enum Strip {
    /// [`ROWS`] values for each `k`.
    Packed(*const f32),
    /// Each row on its own, the second number of values apart.
    InPlace(*const f32, usize),
}

/// `k` of one turn of a tile's loop.
const UNROLL: usize = 4;

/// Adds the products of one `k`: `a` gives a row's value.
#[inline(always)]
unsafe fn step<E: Eight, const M: usize, const W: usize>(
    sums: &mut [[E; W]; M],
    b: *const f32,
    a: impl Fn(usize) -> f32,
) {
    // SAFETY: `b` holds 8 W values (`tile`).
    unsafe {
        let b: [E; W] = std::array::from_fn(|w| E::load(b.add(8 * w)));
        for (i, sums) in sums.iter_mut().enumerate() {
            let a = E::splat(a(i));
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = sum.add_product(a, b);
            }
        }
    }
}

/// `sums += strip panel` for `M` rows and `8 W` columns.
#[inline(always)]
unsafe fn tile<E: Eight, const M: usize, const W: usize>(
    k: usize,
    strip: Strip,
    panel: *const f32,
    sums: &mut [Row; ROWS],
) {
    let at = |row: &Row, w: usize| row.0.as_ptr().wrapping_add(8 * w);
    // SAFETY: a row holds 8 W values; `panel` holds `k` rows of `COLS`, `strip` `k` values of `M`
    // rows (`tile_of`).
    unsafe {
        let mut sum: [[E; W]; M] =
            std::array::from_fn(|i| std::array::from_fn(|w| E::load(at(&sums[i], w))));
        let (mut panel, mut rest) = (panel, k);
        match strip {
            Strip::Packed(mut a) => {
                while rest >= UNROLL {
                    for u in 0..UNROLL {
                        step(&mut sum, panel.add(u * COLS), |i| *a.add(u * ROWS + i));
                    }
                    a = a.wrapping_add(UNROLL * ROWS);
                    panel = panel.wrapping_add(UNROLL * COLS);
                    rest -= UNROLL;
                }
                for u in 0..rest {
                    step(&mut sum, panel.add(u * COLS), |i| *a.add(u * ROWS + i));
                }
            }
            Strip::InPlace(a, apart) => {
                // Every third row: the others are reached by index, so that all addresses fit into
                // the registers.
                let mut rows = [a, a.wrapping_add(3 * apart)];
                while rest >= UNROLL {
                    for u in 0..UNROLL {
                        let at = |i: usize| *rows[i / 3].add(i % 3 * apart + u);
                        step(&mut sum, panel.add(u * COLS), at);
                    }
                    rows = rows.map(|row| row.wrapping_add(UNROLL));
                    panel = panel.wrapping_add(UNROLL * COLS);
                    rest -= UNROLL;
                }
                for u in 0..rest {
                    let at = |i: usize| *rows[i / 3].add(i % 3 * apart + u);
                    step(&mut sum, panel.add(u * COLS), at);
                }
            }
        }
        for (row, sum) in sums.iter_mut().zip(sum) {
            for (w, sum) in sum.into_iter().enumerate() {
                sum.store(row.0.as_mut_ptr().add(8 * w));
            }
        }
    }
}

#[inline(always)]
unsafe fn tile_of_size<E: Eight>(
    k: usize,
    strip: Strip,
    panel: *const f32,
    (rows, cols): (usize, usize),
    sums: &mut [Row; ROWS],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match (rows, cols > 8) {
            (1, false) => tile::<E, 1, 1>(k, strip, panel, sums),
            (2, false) => tile::<E, 2, 1>(k, strip, panel, sums),
            (3, false) => tile::<E, 3, 1>(k, strip, panel, sums),
            (4, false) => tile::<E, 4, 1>(k, strip, panel, sums),
            (5, false) => tile::<E, 5, 1>(k, strip, panel, sums),
            (_, false) => tile::<E, 6, 1>(k, strip, panel, sums),
            (1, true) => tile::<E, 1, 2>(k, strip, panel, sums),
            (2, true) => tile::<E, 2, 2>(k, strip, panel, sums),
            (3, true) => tile::<E, 3, 2>(k, strip, panel, sums),
            (4, true) => tile::<E, 4, 2>(k, strip, panel, sums),
            (5, true) => tile::<E, 5, 2>(k, strip, panel, sums),
            (_, true) => tile::<E, 6, 2>(k, strip, panel, sums),
        }
    }
}

with_eight! {
    /// Adds `strip panel` to the first `size.0` rows and `size.1` columns of `sums`, `k` after `k`.
    ///
    /// # Safety
    /// `strip` must hold `k` values of each of `size.0 <= ROWS` rows, `panel` `k` rows of [`COLS`]
    /// values.
    pub(super) unsafe fn tile_of(
        k: usize,
        strip: Strip,
        panel: *const f32,
        size: (usize, usize),
        sums: &mut [Row; ROWS],
    ) = tile_of_size
}

/// Writes `sums` side by side.
#[inline(always)]
unsafe fn write_values<T: Real>(sums: &[f32], finish: Finish, to: *mut T) {
    for (i, sum) in sums.iter().enumerate() {
        let value = finish.scale * sum;
        // SAFETY: the caller's promise (`write_tile`).
        unsafe {
            let to = to.add(i);
            match finish.into {
                Into::Replace => to.write(T::from_f32(value)),
                Into::Add => to.write(T::from_f32(to.read().to_f32() + value)),
            }
        }
    }
}

#[inline(always)]
unsafe fn write_sums<E: Eight, T: Real>(
    sums: &[Row; ROWS],
    (rows, cols): (usize, usize),
    finish: Finish,
    to: *mut T,
    (row_stride, col_stride): (usize, usize),
) {
    if col_stride == 1 {
        for (i, sums) in sums.iter().enumerate().take(rows) {
            let to = to.wrapping_add(i * row_stride);
            // SAFETY: the caller's promise; whole rows apart, so that their length is a constant.
            unsafe {
                match cols {
                    COLS => write_values(&sums.0, finish, to),
                    _ => write_values(&sums.0[..cols], finish, to),
                }
            }
        }
        return;
    }
    for half in 0..cols.div_ceil(8) {
        let mut block = [[0.0_f32; 8]; 8];
        // SAFETY: a row holds 16 values.
        unsafe {
            let rows = std::array::from_fn(|i| match sums.get(i) {
                Some(row) => E::load(row.0.as_ptr().add(8 * half)),
                None => E::splat(0.0),
            });
            for (block, column) in block.iter_mut().zip(E::transpose(rows)) {
                column.store(block.as_mut_ptr());
            }
        }
        for (j, column) in block.iter().enumerate().take(cols - 8 * half) {
            let to = to.wrapping_add((8 * half + j) * col_stride);
            // SAFETY: the caller's promise.
            unsafe {
                match (row_stride, rows) {
                    (1, ROWS) => write_values(&column[..ROWS], finish, to),
                    (1, _) => write_values(&column[..rows], finish, to),
                    _ => {
                        for (i, value) in column[..rows].iter().enumerate() {
                            write_values(&[*value], finish, to.wrapping_add(i * row_stride));
                        }
                    }
                }
            }
        }
    }
}

with_eight! {
    /// Writes the first `size.0` rows and `size.1` columns of `sums` to `to`, rows and columns
    /// `strides` apart.
    ///
    /// # Safety
    /// `to` must be valid for writes of these values, and for reads if they are added to.
    pub(super) unsafe fn write_tile<T: Real>(
        sums: &[Row; ROWS],
        size: (usize, usize),
        finish: Finish,
        to: *mut T,
        strides: (usize, usize),
    ) = write_sums
}
