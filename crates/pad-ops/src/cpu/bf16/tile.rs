//! The sizes of a tile, and its parts: what packing, kernels and products agree on.

/// Values of a register of 512 bits.
pub(super) const LANES: usize = 16;

/// Maximum number of rows of a tile: with two registers of columns 24 sums, 2 of `b` and the
/// broadcast `a` fill the 32 registers and keep both multipliers busy.
pub(super) const TILE_ROWS: usize = 12;

/// Columns of a tile.
pub(super) const TILE_COLS: usize = 2 * LANES;

/// The sums of a tile's row.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Row(pub(super) [f32; TILE_COLS]);

/// A register of pairs.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Lanes(pub(super) [u32; LANES]);
