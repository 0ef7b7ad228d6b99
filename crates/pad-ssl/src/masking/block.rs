//! Masks of connected patches: BEiT's rectangles, SimMIM's cells.

use pad_adapter::vit::PatchGrid;
use pad_ops::rng::Stream;

use super::order::kept_first;
use crate::{Error, Result};

/// Patches of the smallest rectangle (BEiT's default).
const SMALLEST: usize = 16;
/// Lowest aspect ratio; the highest is its inverse.
const ASPECT: f64 = 0.3;
/// Maximum number of draws per rectangle.
const ATTEMPTS: usize = 10;

/// Removes rectangles until `kept` patches are left.
pub(super) fn rectangles(grid: PatchGrid, kept: usize, stream: &mut Stream) -> Vec<u32> {
    let mut removed = vec![false; grid.len()];
    let mut left = grid.len() - kept;
    while left > 0 {
        let Some(patches) = (0..ATTEMPTS).find_map(|_| rectangle(grid, left, &removed, stream))
        else {
            break;
        };
        left -= patches.len();
        patches.into_iter().for_each(|patch| removed[patch] = true);
    }
    // Single patches once no rectangle fits.
    let mut others: Vec<usize> = (0..grid.len()).filter(|&patch| !removed[patch]).collect();
    stream.shuffle(&mut others);
    others.into_iter().take(left).for_each(|patch| removed[patch] = true);
    kept_first(&removed)
}

/// Draws a rectangle and returns its patches that are not removed yet; `None` if there are 0 or
/// more than `left`.
fn rectangle(
    grid: PatchGrid,
    left: usize,
    removed: &[bool],
    stream: &mut Stream,
) -> Option<Vec<usize>> {
    let area = stream.range_f64(SMALLEST.min(left) as f64, left as f64);
    let aspect = stream.range_f64(ASPECT.ln(), -ASPECT.ln()).exp();
    let height = (area * aspect).sqrt().round() as usize;
    let width = (area / aspect).sqrt().round() as usize;
    if height == 0 || width == 0 || height > grid.height || width > grid.width {
        return None;
    }
    let top = stream.below((grid.height - height + 1) as u64) as usize;
    let first = stream.below((grid.width - width + 1) as u64) as usize;
    let rows = top..top + height;
    let all = rows.flat_map(|row| (first..first + width).map(move |x| row * grid.width + x));
    let new: Vec<usize> = all.filter(|&patch| !removed[patch]).collect();
    (!new.is_empty() && new.len() <= left).then_some(new)
}

/// Returns the number of patches kept when whole cells are removed; the ratio is rounded up to
/// cells, as in SimMIM.
pub(super) fn kept_by_cells(grid: PatchGrid, side: usize, mask_ratio: f64) -> Result<usize> {
    let refuse = |fault: String| Err(Error::Config { what: "mask", faults: vec![fault] });
    if side == 0 || !grid.height.is_multiple_of(side) || !grid.width.is_multiple_of(side) {
        return refuse(format!(
            "cells of {side}x{side} patches, expected a side that divides the patch grid {grid}"
        ));
    }
    let cells = grid.len() / (side * side);
    // 1e-9: rounding must not make 49 cells of 0.6 x 80.
    let removed = (cells as f64 * mask_ratio - 1e-9).ceil() as usize;
    if removed == 0 || removed >= cells {
        return refuse(format!(
            "`mask_ratio` {mask_ratio} removes {removed} of {cells} cells, expected at least one kept and one removed"
        ));
    }
    Ok((cells - removed) * side * side)
}

/// Removes whole cells until `kept` patches are left.
pub(super) fn cells(grid: PatchGrid, side: usize, kept: usize, stream: &mut Stream) -> Vec<u32> {
    let across = grid.width / side;
    let mut order: Vec<usize> = (0..grid.len() / (side * side)).collect();
    stream.shuffle(&mut order);
    let mut cell_removed = vec![true; order.len()];
    order.iter().take(kept / (side * side)).for_each(|&cell| cell_removed[cell] = false);
    let cell_of = |patch: usize| patch / grid.width / side * across + patch % grid.width / side;
    let removed: Vec<bool> = (0..grid.len()).map(|patch| cell_removed[cell_of(patch)]).collect();
    kept_first(&removed)
}
