//! `y = x w^T` in `f32` with AVX-512, `w` read as it lies in memory.
//!
//! A product's usual first step is to copy both operands into the order of its kernel. For the
//! weights of a linear layer that copy is a large part of the work where tokens are few, and it is
//! made again for every batch. Here only `x` is copied, 32 of its rows (tokens) across the lanes of
//! two registers, and `w` is the operand of which single values are broadcast: 14 rows (outputs) at
//! a time, read from left to right. A tile of 14 outputs of 32 tokens is transposed in registers on
//! its way out. Every sum runs over `k` in order, from zero, in one chain: its bits depend on
//! nothing else.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::{
    level::{Level, level},
    mat::Mat,
    scratch::Scratch,
    transpose::{BLOCK, transpose},
};

/// Tokens of a panel: two registers.
const LANES: usize = 2 * BLOCK;
/// Outputs of a tile: 14 x 2 sums, two vectors of tokens and a broadcast weight fill the 32
/// registers.
const TILE: usize = 14;
/// Tiles of a task.
const TASK_TILES: usize = 8;
/// Values of the panels that a task goes through: they stay in the second-level cache while the
/// weights stream by.
const BLOCK_VALUES: usize = 160 << 10;

/// Whether the product of `x` (m, k) and `w^T` (k, n) is one for these kernels: rows side by side
/// in both, and a shape at which they win over packing `w`: few tokens, or long rows.
pub(super) fn takes(x: Mat, w_t: Mat, y: Mat) -> bool {
    let (m, k, n) = (x.rows, x.cols, w_t.cols);
    let rows = x.col_stride == 1 && w_t.row_stride == 1 && y.col_stride == 1;
    rows && n >= TILE
        && m >= BLOCK / 2
        && k >= 32
        && (m < 512 || k >= 768)
        && m * n * k >= 1 << 20
        && level() >= Level::Avx512
}

/// Where tasks write, each its own tokens and outputs.
#[derive(Clone, Copy)]
struct Out(*mut f32);
// SAFETY: tasks write disjoint parts (see `multiply`).
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

impl Out {
    fn at(self, offset: usize) -> *mut f32 {
        // A method, so that closures capture the whole (Sync) wrapper and not the bare pointer.
        self.0.wrapping_add(offset)
    }
}

/// `y = x w^T` for operands that [`takes`] has accepted, on all threads; every value of `y` (m, n)
/// is written and none is read.
///
/// # Safety
/// `y` must be valid for writes of every value of its matrix and no other thread may access it
/// meanwhile. `x` and `w` must hold all values of their matrices.
pub(super) unsafe fn multiply(
    (y, y_mat): (*mut f32, Mat),
    (x, x_mat): (&[f32], Mat),
    (w, w_t_mat): (&[f32], Mat),
) {
    let (m, n, k) = (x_mat.rows, w_t_mat.cols, x_mat.cols);
    debug_assert!(takes(x_mat, w_t_mat, y_mat));
    debug_assert!(x.len() >= x_mat.span() && w.len() >= w_t_mat.span());
    let panels = m.div_ceil(LANES);
    let mut packed = Scratch::<f32>::new(panels * k * LANES);
    packed.par_chunks_mut(k * LANES).enumerate().for_each(|(panel, packed)| {
        let first = panel * LANES;
        // SAFETY: `takes` has checked for the instructions; the slice holds the rows that are
        // named.
        unsafe {
            pack(&x[first * x_mat.row_stride..], x_mat.row_stride, LANES.min(m - first), k, packed)
        };
    });
    let (packed, y) = (&packed[..], Out(y));
    let together = (BLOCK_VALUES / (k * LANES)).clamp(1, panels);
    let tiles = n.div_ceil(TILE);
    let groups = tiles.div_ceil(TASK_TILES);
    (0..panels.div_ceil(together) * groups).into_par_iter().with_max_len(1).for_each(|task| {
        let (block, group) = (task / groups, task % groups);
        for tile in group * TASK_TILES..((group + 1) * TASK_TILES).min(tiles) {
            // The last tile begins early enough to be whole; what the one before has written is
            // masked out.
            let first = (tile * TILE).min(n - TILE);
            let weights = &w[first * w_t_mat.col_stride..];
            for panel in block * together..((block + 1) * together).min(panels) {
                let tokens = &packed[panel * k * LANES..(panel + 1) * k * LANES];
                let tile = Tile {
                    to: y.at(panel * LANES * y_mat.row_stride + first),
                    stride: y_mat.row_stride,
                    count: LANES.min(m - panel * LANES),
                    fresh: tile * TILE - first,
                };
                // SAFETY: the instructions are there; `weights` begins a run of `TILE` rows of `k`
                // values; the outputs from `fresh` on of `count` tokens exist and belong to this
                // task alone.
                unsafe {
                    if tile.count > BLOCK {
                        tile_of::<2>(k, (weights, w_t_mat.col_stride), tokens, tile);
                    } else {
                        tile_of::<1>(k, (weights, w_t_mat.col_stride), tokens, tile);
                    }
                }
            }
        }
    });
}

/// Where a tile goes.
#[derive(Clone, Copy)]
struct Tile {
    to: *mut f32,
    /// From a token to the next.
    stride: usize,
    /// Tokens.
    count: usize,
    /// First output that is stored.
    fresh: usize,
}

/// Up to [`LANES`] rows of `k` values, as columns; columns beyond the last row are zero.
///
/// # Safety
/// AVX-512F; `x` must hold `count` rows, `stride` apart, and `packed` `k` rows of [`LANES`].
#[target_feature(enable = "avx512f")]
unsafe fn pack(x: &[f32], stride: usize, count: usize, k: usize, packed: &mut [f32]) {
    debug_assert!(x.len() >= (count - 1) * stride + k && packed.len() >= k * LANES);
    for half in 0..2 {
        let present = count.saturating_sub(half * BLOCK).min(BLOCK);
        for p in (0..k).step_by(BLOCK) {
            let values = BLOCK.min(k - p);
            let mask = ((1_u32 << values) - 1) as u16;
            let mut block = [_mm512_setzero_si512(); BLOCK];
            for (row, block) in block.iter_mut().enumerate().take(present) {
                // SAFETY: the row exists, and masked lanes are not read.
                unsafe {
                    let from = x.as_ptr().add((half * BLOCK + row) * stride + p);
                    *block = _mm512_maskz_loadu_epi32(mask, from.cast());
                }
            }
            transpose(&mut block);
            for (i, column) in block.iter().enumerate().take(values) {
                // SAFETY: row `p + i < k` of `packed` holds `LANES` values.
                unsafe {
                    let to = packed.as_mut_ptr().add((p + i) * LANES + half * BLOCK);
                    _mm512_storeu_si512(to.cast(), *column);
                }
            }
        }
    }
}

/// The body once for every row of a tile, its number a constant: the compiler does not unroll a
/// loop of fourteen, and keeps its sums in memory then.
macro_rules! each_row {
    ($row:ident, $body:block) => { each_row!($row, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13) };
    ($row:ident, $body:block, $($number:literal)+) => {
        $({
            const $row: usize = $number;
            $body
        })+
    };
}

/// One tile: [`TILE`] outputs of `count <= 16 V` tokens, stored from output `fresh` on.
///
/// # Safety
/// AVX-512F; `w` must hold [`TILE`] rows of `k` values, `ld` apart, and `tokens` `k` rows of
/// [`LANES`]; `tile.to` must be valid for writes of outputs `fresh..TILE` of `count` tokens.
#[target_feature(enable = "avx512f")]
unsafe fn tile_of<const V: usize>(k: usize, (w, ld): (&[f32], usize), tokens: &[f32], tile: Tile) {
    debug_assert!(w.len() >= (TILE - 1) * ld + k && tokens.len() >= k * LANES);
    let mut sums = [[_mm512_setzero_ps(); V]; TILE];
    // SAFETY: all offsets lie within what the caller promises.
    unsafe {
        // Every third row: the two after it are reached by index, so that all addresses fit into
        // the registers.
        let mut rows: [*const f32; 5] = std::array::from_fn(|i| w.as_ptr().add(3 * i * ld));
        let mut x = tokens.as_ptr();
        for _ in 0..k {
            let x_p: [__m512; V] = std::array::from_fn(|v| _mm512_loadu_ps(x.add(BLOCK * v)));
            each_row!(I, {
                let weight = _mm512_set1_ps(*rows[I / 3].add(I % 3 * ld));
                for (sum, x) in sums[I].iter_mut().zip(x_p) {
                    *sum = _mm512_fmadd_ps(weight, x, *sum);
                }
            });
            for row in &mut rows {
                *row = row.wrapping_add(1);
            }
            x = x.wrapping_add(LANES);
        }
        let stored = (((1_u32 << TILE) - 1) as u16) & (u16::MAX << tile.fresh);
        for v in 0..V {
            let mut block = [_mm512_setzero_si512(); BLOCK];
            for (block, sums) in block.iter_mut().zip(&sums) {
                *block = _mm512_castps_si512(sums[v]);
            }
            transpose(&mut block);
            let present = tile.count.saturating_sub(BLOCK * v);
            for (token, outputs) in block.iter().enumerate().take(present) {
                let to = tile.to.wrapping_add((BLOCK * v + token) * tile.stride);
                _mm512_mask_storeu_epi32(to.cast(), stored, *outputs);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odd shapes, rows further apart than they are long: sums as in f64, nothing written between
    /// the rows, the same bits from one thread and from several.
    #[test]
    fn products_of_odd_shapes() {
        let sizes = [
            (8, 33, 4001),
            (33, 1000, 32),
            (48, 1600, 14),
            (49, 800, 27),
            (64, 100, 1651),
            (197, 384, 15),
            (300, 32, 113),
        ];
        if !crate::cpu::level::can_test(Level::Avx512) {
            return;
        }
        for (m, k, n) in sizes {
            let value = |i: usize| ((i * 7919 + 13) % 257) as f32 / 128.0 - 1.0;
            let (x_mat, w_mat) = (Mat::strided(m, k, k + 5), Mat::strided(n, k, k + 2));
            let x: Vec<f32> = (0..x_mat.span()).map(value).collect();
            let w: Vec<f32> = (0..w_mat.span()).map(|i| value(3 * i + 1)).collect();
            let y_mat = Mat::strided(m, n, n + 3);
            assert!(takes(x_mat, w_mat.t(), y_mat), "{m} {k} {n}");
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let mut y = vec![f32::NAN; m * (n + 3)];
                let to = Out(y.as_mut_ptr());
                // SAFETY: all slices hold their matrices.
                pool.unwrap().install(|| unsafe {
                    multiply((to.at(0), y_mat), (&x, x_mat), (&w, w_mat.t()))
                });
                y
            };
            let y = run(1);
            let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&y), bits(&run(3)), "{m} {k} {n}: threads");
            for (i, row) in y.chunks(n + 3).enumerate() {
                assert!(row[n..].iter().all(|y| y.is_nan()), "{m} {k} {n}: written beyond row {i}");
                for (j, y) in row[..n].iter().enumerate() {
                    let terms =
                        (0..k).map(|p| (x[i * (k + 5) + p] as f64, w[j * (k + 2) + p] as f64));
                    let want: f64 = terms.map(|(x, w)| x * w).sum();
                    let off = (*y as f64 - want).abs();
                    assert!(off <= 1e-6 * k as f64, "{m} {k} {n}: ({i}, {j}) is {y}, want {want}");
                }
            }
        }
    }
}
