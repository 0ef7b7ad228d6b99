//! Relative position biases as in BEiT: a table of one row per offset between two patches, and
//! three rows for the class token.

use candle_core::{Device, Tensor};
use pad_adapter::vit::{PatchGrid, relative_index, relative_table_rows};

use crate::error::{Error, Result};

/// Returns the number of rows of the table of a grid: `(2 h - 1)(2 w - 1) + 3`.
///
/// ```
/// use pad_adapter::vit::PatchGrid;
/// use pad_heads::backbone::relative_bias_rows;
/// assert_eq!(relative_bias_rows(PatchGrid { height: 14, width: 14 }), 27 * 27 + 3);
/// ```
pub fn relative_bias_rows(grid: PatchGrid) -> usize {
    relative_table_rows(grid)
}

/// Returns the row of the table of grid `table` for each pair of tokens of an image of grid
/// `image`, class token first: query row minus key row, then columns; the last three rows are class
/// to patch, patch to class, class to itself.
///
/// The offsets of a smaller grid are among those of a larger one, so smaller images need no other
/// table.
///
/// # Shapes
/// (N * N), `u32`, `N = 1 + L` of `image`, queries first.
///
/// # Errors
/// [`Error::Grid`] if `image` is larger than `table` on a side.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::vit::PatchGrid;
/// use pad_heads::backbone::relative_positions;
/// let grid = PatchGrid { height: 1, width: 2 };
/// let index = relative_positions(grid, grid, &Device::Cpu)?.to_vec1::<u32>()?;
/// // Class token first; a patch to itself is offset 1 of three.
/// assert_eq!(index, [5, 3, 3, 4, 1, 0, 4, 2, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn relative_positions(table: PatchGrid, image: PatchGrid, device: &Device) -> Result<Tensor> {
    if image.height > table.height || image.width > table.width || image.is_empty() {
        return Err(Error::Grid { expected: table, found: image });
    }
    Ok(relative_index(table, image, true, device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(table: PatchGrid, image: PatchGrid) -> Vec<u32> {
        relative_positions(table, image, &Device::Cpu).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn rows_of_a_small_grid() {
        // 1 x 2 patches: offsets -1, 0, 1, then the three rows of the class token.
        let grid = PatchGrid::new(1, 2);
        assert_eq!(relative_bias_rows(grid), 6);
        assert_eq!(index(grid, grid), [5, 3, 3, 4, 1, 0, 4, 2, 1]);
        // The same image under a larger table: offsets of rows in steps of 2 * 3 - 1.
        let large = PatchGrid::new(2, 3);
        assert_eq!(index(large, grid), [17, 15, 15, 16, 7, 6, 16, 8, 7]);
    }

    #[test]
    fn a_larger_image_needs_another_table() {
        let refused = relative_positions(PatchGrid::new(2, 3), PatchGrid::new(3, 2), &Device::Cpu);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "patch grid 3x2, expected at most 2x3, the grid of the relative position tables (interpolate the \
             checkpoint's tables for larger images)"
        );
    }
}
