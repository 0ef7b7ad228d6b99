//! Relative position tables on other grids: BEiT's, as the original's segmentation interpolates
//! them, and the decomposed ones of its detection.

use candle_core::{DType, Device, Tensor};

use super::{PatchGrid, RelativeResize, TableResize, axes};
use crate::{Error, Result};

/// Rows of BEiT's table behind the offsets: class to patch, patch to class, class to itself.
const CLASS_ROWS: usize = 3;

/// Offsets between two patches along a side.
const fn offsets(side: usize) -> usize {
    side.saturating_mul(2).saturating_sub(1)
}

fn refuse(fault: String) -> Error {
    Error::Config { what: "relative position table", faults: vec![fault] }
}

/// A table `relative_position_bias_table` on another grid, as the original's segmentation does it
/// (`checkpoint.py`).
///
/// The offsets of `from` are laid out in a geometric progression that reaches as far as those of
/// `to`, so that near patches keep their biases; a bicubic spline through them (not-a-knot, as
/// FITPACK's) is read at whole offsets. The class token's three rows stay. The original takes
/// square grids only; here each axis has its own progression, which is the same on squares.
///
/// # Shapes
/// `table` ((2 h - 1)(2 w - 1) + 3, H) of `from` -> the same of `to`.
///
/// # Errors
/// [`Error::Config`] if `table` does not belong to `from`, or for a side of less than 3 patches in
/// `from` (no cubic goes through fewer than 4 offsets) or none in `to`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_adapter::vit::{PatchGrid, interpolate_relative_table, relative_table_rows};
/// // A bias that is the same everywhere stays it.
/// let (from, to) = (PatchGrid::new(3, 3), PatchGrid::new(5, 5));
/// let table = Tensor::full(0.5_f32, (relative_table_rows(from), 1), &Device::Cpu)?;
/// let larger = interpolate_relative_table(&table, from, to)?;
/// assert_eq!(larger.dims(), [9 * 9 + 3, 1]);
/// let values = larger.flatten_all()?.to_vec1::<f32>()?;
/// assert!(values.iter().all(|value| (value - 0.5).abs() < 1e-6));
/// # Ok::<(), pad_adapter::Error>(())
/// ```
pub fn interpolate_relative_table(
    table: &Tensor,
    from: PatchGrid,
    to: PatchGrid,
) -> Result<Tensor> {
    RelativeResize::Cubic.table(table, from, to)
}

impl RelativeResize {
    /// A table `relative_position_bias_table` on another grid. A matrix product an axis, so it is
    /// differentiable.
    ///
    /// # Shapes
    /// `table` ((2 h - 1)(2 w - 1) + 3, H) of `from` -> the same of `to`.
    ///
    /// # Errors
    /// As [`interpolate_relative_table`]; straight lines take sides of 2 patches in `from`, too.
    pub fn table(self, table: &Tensor, from: PatchGrid, to: PatchGrid) -> Result<Tensor> {
        let bilinear = |from, to| {
            let weights = axes::weights(TableResize::Bilinear, offsets(from), offsets(to));
            weights.into_iter().map(f64::from).collect()
        };
        match self {
            Self::Cubic => resize(table, from, to, 3, spline_weights),
            Self::Linear => resize(table, from, to, 2, line_weights),
            Self::Bilinear => resize(table, from, to, 1, bilinear),
        }
    }
}

/// Rows of the table of a grid: `(2 h - 1)(2 w - 1) + 3`.
///
/// ```
/// use pad_adapter::vit::{PatchGrid, relative_table_rows};
/// assert_eq!(relative_table_rows(PatchGrid::new(14, 14)), 27 * 27 + 3);
/// ```
pub fn relative_table_rows(grid: PatchGrid) -> usize {
    offsets(grid.height).saturating_mul(offsets(grid.width)).saturating_add(CLASS_ROWS)
}

/// The row of the table of grid `table` for each pair of tokens of an image of grid `image`, class
/// token first if there is one: query row minus key row, then columns; the last three rows are
/// class to patch, patch to class, class to itself.
///
/// The offsets of a smaller grid are among those of a larger one.
///
/// # Shapes
/// (N * N), `u32`, `N` the tokens of `image`, queries first.
///
/// # Errors
/// [`Error::Config`] if `image` is larger than `table` on a side.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::vit::{PatchGrid, relative_index};
/// // 1 x 2 patches: offsets -1, 0, 1 are rows 0, 1, 2; the class token has rows 3, 4, 5.
/// let grid = PatchGrid::new(1, 2);
/// let index = relative_index(grid, grid, true, &Device::Cpu)?.to_vec1::<u32>()?;
/// assert_eq!(index, [5, 3, 3, 4, 1, 0, 4, 2, 1]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
pub fn relative_index(
    table: PatchGrid,
    image: PatchGrid,
    class_token: bool,
    device: &Device,
) -> Result<Tensor> {
    if image.height > table.height || image.width > table.width || image.is_empty() {
        return Err(refuse(format!("the grid {image}, expected at most {table}")));
    }
    let rows = relative_table_rows(table);
    let columns = offsets(table.width);
    let class = usize::from(class_token);
    let tokens = class + image.len();
    let mut index = Vec::with_capacity(tokens * tokens);
    for query in 0..tokens {
        for key in 0..tokens {
            index.push(match (query.checked_sub(class), key.checked_sub(class)) {
                (Some(query), Some(key)) => {
                    let row = query / image.width + table.height - 1 - key / image.width;
                    let column = query % image.width + table.width - 1 - key % image.width;
                    (row * columns + column) as u32
                }
                (None, Some(_)) => (rows - 3) as u32,
                (Some(_), None) => (rows - 2) as u32,
                (None, None) => (rows - 1) as u32,
            });
        }
    }
    Ok(Tensor::from_vec(index, tokens * tokens, device)?)
}

/// The bias of every head.
///
/// # Shapes
/// `table` (rows, H); `index` (N * N) from [`relative_index`] -> (H, N, N).
///
/// # Errors
/// An index beyond the table.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_adapter::vit::{PatchGrid, relative_bias, relative_index};
/// let grid = PatchGrid::new(1, 2);
/// let index = relative_index(grid, grid, false, &Device::Cpu)?;
/// let table = Tensor::new(&[[-1_f32], [0.0], [1.0], [0.0], [0.0], [0.0]], &Device::Cpu)?;
/// let bias = relative_bias(&table, &index)?; // one head; queries are rows
/// assert_eq!(bias.to_vec3::<f32>()?, [[[0.0, -1.0], [1.0, 0.0]]]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
pub fn relative_bias(table: &Tensor, index: &Tensor) -> Result<Tensor> {
    let tokens = index.elem_count().isqrt();
    let heads = table.dim(1)?;
    // Head first, so that the result is laid out as attention reads it.
    let table = table.t()?.contiguous()?;
    Ok(table.index_select(index, 1)?.reshape((heads, tokens, tokens))?)
}

fn resize(
    table: &Tensor,
    from: PatchGrid,
    to: PatchGrid,
    least: usize,
    weights: fn(usize, usize) -> Vec<f64>,
) -> Result<Tensor> {
    let (rows, heads) = table.dims2()?;
    let (height, width) = (offsets(from.height), offsets(from.width));
    if rows != height * width + CLASS_ROWS {
        return Err(refuse(format!(
            "{rows} rows, expected {} for the grid {from}",
            height * width + CLASS_ROWS
        )));
    }
    if from == to {
        return Ok(table.clone());
    }
    if from.height < least || from.width < least || to.is_empty() {
        return Err(refuse(format!(
            "from the grid {from} to {to}, expected at least {least}x{least} to start from and 1x1 \
             to end in"
        )));
    }
    let dtype = table.dtype();
    let places = table.narrow(0, 0, rows - CLASS_ROWS)?.to_dtype(DType::F64)?;
    let weights = |from: usize, to: usize| -> Result<Tensor> {
        let weights = weights(from, to);
        Ok(Tensor::from_vec(weights, (offsets(to), offsets(from)), table.device())?)
    };
    let (tall, wide) = (offsets(to.height), offsets(to.width));
    // (h', h) (h, w H) -> (h', w, H), then the same along columns.
    let places = places.reshape((height, width * heads))?;
    let places = weights(from.height, to.height)?.matmul(&places)?;
    let places = places.reshape((tall, width, heads))?.transpose(0, 1)?.contiguous()?;
    let places = places.reshape((width, tall * heads))?;
    let places = weights(from.width, to.width)?.matmul(&places)?;
    let places = places.reshape((wide, tall, heads))?.transpose(0, 1)?.contiguous()?;
    let places = places.reshape((tall * wide, heads))?.to_dtype(dtype)?;
    Ok(Tensor::cat(&[&places, &table.narrow(0, rows - CLASS_ROWS, CLASS_ROWS)?], 0)?)
}

/// A table `rel_pos_h` or `rel_pos_w` for another number of patches along its side, as the
/// original's detection (detectron2's `get_rel_pos`) does it: linearly, as PyTorch's
/// `interpolate(mode="linear")` (half-pixel centres, edges repeated). A matrix product, so it is
/// differentiable.
///
/// # Shapes
/// `table` (2 s - 1, D) -> (2 `to` - 1, D).
///
/// # Errors
/// [`Error::Config`] for an empty table or `to` = 0.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_adapter::vit::interpolate_decomposed_table;
/// // Offsets -1, 0, 1 of two patches; one patch has the offset 0 alone.
/// let table = Tensor::new(&[[1_f32], [2.0], [3.0]], &Device::Cpu)?;
/// assert_eq!(interpolate_decomposed_table(&table, 1)?.to_vec2::<f32>()?, [[2.0]]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
pub fn interpolate_decomposed_table(table: &Tensor, to: usize) -> Result<Tensor> {
    let (rows, _) = table.dims2()?;
    let wanted = offsets(to);
    if rows == wanted {
        return Ok(table.clone());
    }
    if rows == 0 || to == 0 {
        return Err(refuse(format!("{rows} rows for {to} patches, expected at least 1 of both")));
    }
    let mut weights = vec![0.0_f32; wanted * rows];
    for (i, row) in weights.chunks_exact_mut(rows).enumerate() {
        let place = ((i as f64 + 0.5) * rows as f64 / wanted as f64 - 0.5).max(0.0);
        let first = (place as usize).min(rows - 1);
        let share = (place - first as f64) as f32;
        row[first] += 1.0 - share;
        row[(first + 1).min(rows - 1)] += share;
    }
    let weights = Tensor::from_vec(weights, (wanted, rows), table.device())?;
    let dtype = table.dtype();
    Ok(weights.matmul(&table.to_dtype(DType::F32)?)?.to_dtype(dtype)?)
}

/// Row `i`: the weights of the offsets of `from` in offset `i` of `to`. Row major.
fn spline_weights(from: usize, to: usize) -> Vec<f64> {
    let axis = geometric_axis(from, to);
    let count = axis.len();
    // B-spline coefficients of the interpolating spline are `inverse * values`.
    let mut matrix: Vec<Vec<f64>> = axis.iter().map(|&x| basis(&axis, x)).collect();
    let inverse = inverse(&mut matrix);
    let reach = to.saturating_sub(1) as f64;
    let mut weights = Vec::with_capacity(offsets(to) * count);
    for i in 0..offsets(to) {
        let row = basis(&axis, i as f64 - reach);
        for column in 0..count {
            weights.push(row.iter().zip(&inverse).map(|(b, line)| b * line[column]).sum());
        }
    }
    weights
}

/// Row `i`: the weights of the two offsets of `from` around offset `i` of `to`; beyond the ends,
/// the last one. Row major.
fn line_weights(from: usize, to: usize) -> Vec<f64> {
    let axis = geometric_axis(from, to);
    let reach = to.saturating_sub(1) as f64;
    let mut weights = vec![0.0; offsets(to) * axis.len()];
    for (i, row) in weights.chunks_exact_mut(axis.len()).enumerate() {
        let x = i as f64 - reach;
        let right = axis.iter().position(|&place| place >= x).unwrap_or(axis.len() - 1);
        let left = right.saturating_sub(1);
        let gap = axis[right] - axis[left];
        let share = if gap > 0.0 { ((x - axis[left]) / gap).clamp(0.0, 1.0) } else { 1.0 };
        row[left] += 1.0 - share;
        row[right] += share;
    }
    weights
}

/// The places of the offsets of `from`: 0, and to either side 1, 1 + q, 1 + q + q^2, .. with the
/// `q` between 1.01 and 1.5 for which the last is the largest offset of `to`, by bisection down to
/// 1e-6.
fn geometric_axis(from: usize, to: usize) -> Vec<f64> {
    let steps = from.saturating_sub(1);
    let reach = to.saturating_sub(1) as f64;
    let sum = |q: f64| (1.0 - q.powi(steps as i32)) / (1.0 - q);
    let (mut low, mut high, mut q) = (1.01, 1.5, 1.01);
    while high - low > 1e-6 {
        q = (low + high) / 2.0;
        if sum(q) > reach {
            high = q;
        } else {
            low = q;
        }
    }
    let mut side = Vec::with_capacity(steps);
    let mut place = 1.0;
    for i in 0..steps {
        side.push(place);
        place += q.powi(i as i32 + 1);
    }
    side.iter().rev().map(|place| -place).chain([0.0]).chain(side.iter().copied()).collect()
}

/// The cubic B-splines over `axis` at `x`, clamped to its ends: as many as it has points, at least
/// 4. The second and the last but one point are no knots, which makes the spline through all points
/// unique.
fn basis(axis: &[f64], x: f64) -> Vec<f64> {
    let count = axis.len();
    let (first, last) = (axis[0], axis[count - 1]);
    let knot = |i: usize| match i {
        0..4 => first,
        i if i >= count => last,
        i => axis[i - 2],
    };
    let x = x.clamp(first, last);
    let span = (3..count).rev().find(|&i| knot(i) <= x).unwrap_or(3);
    // Cox and de Boor's recursion: the four splines that live on the span.
    let mut values = [1.0, 0.0, 0.0, 0.0];
    for degree in 1..=3 {
        let mut carried = 0.0;
        for (i, value) in values.iter_mut().enumerate().take(degree) {
            let (right, left) = (knot(span + i + 1), knot(span + i + 1 - degree));
            let share = *value / (right - left);
            *value = carried + (right - x) * share;
            carried = (x - left) * share;
        }
        values[degree] = carried;
    }
    let mut row = vec![0.0; count];
    row[span - 3..=span].copy_from_slice(&values);
    row
}

/// The inverse of a square matrix that has one, by elimination with the largest pivot. `matrix` is
/// used up.
fn inverse(matrix: &mut [Vec<f64>]) -> Vec<Vec<f64>> {
    let count = matrix.len();
    let unit = |i: usize| (0..count).map(|j| f64::from(u8::from(i == j))).collect::<Vec<_>>();
    let mut result: Vec<Vec<f64>> = (0..count).map(unit).collect();
    for column in 0..count {
        let size = |row: &usize| matrix[*row][column].abs();
        let pivot = (column..count).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap_or(column);
        matrix.swap(column, pivot);
        result.swap(column, pivot);
        let (pivot, solved) = (matrix[column].clone(), result[column].clone());
        for row in 0..count {
            if row == column {
                continue;
            }
            let factor = matrix[row][column] / pivot[column];
            for j in 0..count {
                matrix[row][j] -= factor * pivot[j];
                result[row][j] -= factor * solved[j];
            }
        }
        result[column].iter_mut().for_each(|value| *value /= pivot[column]);
        matrix[column].iter_mut().for_each(|value| *value /= pivot[column]);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_small_grid() {
        // 1 x 2 patches: offsets -1, 0, 1, then the three rows of the class token.
        let grid = PatchGrid::new(1, 2);
        assert_eq!(relative_table_rows(grid), 6);
        let index = |class| {
            let index = relative_index(grid, grid, class, &Device::Cpu).unwrap();
            index.to_vec1::<u32>().unwrap()
        };
        assert_eq!(index(true), [5, 3, 3, 4, 1, 0, 4, 2, 1]);
        assert_eq!(index(false), [1, 0, 2, 1]);
        let error = relative_index(grid, PatchGrid::new(2, 2), true, &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("the grid 2x2, expected at most 1x2"), "{error}");
    }

    /// The spline gives every cubic back, wherever the offsets are laid.
    #[test]
    fn cubics_are_exact() {
        let cubic = |x: f64| 0.3 - 0.2 * x + 0.05 * x * x - 0.004 * x * x * x;
        for (from, to) in [(3, 4), (5, 9), (7, 7), (14, 32), (14, 20), (9, 4), (6, 1)] {
            let axis = geometric_axis(from, to);
            assert_eq!(axis.len(), offsets(from));
            let weights = spline_weights(from, to);
            for (i, row) in weights.chunks_exact(axis.len()).enumerate() {
                let got: f64 = row.iter().zip(&axis).map(|(w, &x)| w * cubic(x)).sum();
                let x = (i as f64 - (to - 1) as f64).clamp(axis[0], axis[axis.len() - 1]);
                let scale = cubic(x).abs().max(1.0);
                assert!((got - cubic(x)).abs() < 1e-9 * scale, "{from} to {to}, {x}: {got}");
            }
        }
    }
}
