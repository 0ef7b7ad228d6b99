//! Padding, reshaping and permuting.

use candle_core::Tensor;

use super::Windows;
use crate::Result;

/// [`window_partition`](crate::window_partition) in candle operations: any device and dtype.
///
/// # Shapes
/// `x` (B, `height` * `width`, D) -> (B * `count`, `side`^2, D).
///
/// # Errors
/// Any error of candle.
pub fn window_partition_reference(x: &Tensor, windows: Windows) -> Result<Tensor> {
    let Windows { height, width, side } = windows;
    let (batch, _, dim) = x.dims3()?;
    let (rows, columns) = (windows.rows(), windows.columns());
    let x = x.reshape((batch, height, width, dim))?;
    let x = x.pad_with_zeros(1, 0, rows * side - height)?;
    let x = x.pad_with_zeros(2, 0, columns * side - width)?;
    let x = x.reshape(vec![batch, rows, side, columns, side, dim])?;
    let x = x.permute(vec![0, 1, 3, 2, 4, 5])?.contiguous()?;
    Ok(x.reshape((batch * windows.count(), windows.tokens(), dim))?)
}

/// [`window_unpartition`](crate::window_unpartition) in candle operations: any device and dtype.
///
/// # Shapes
/// `y` (B * `count`, `side`^2, D) -> (B, `height` * `width`, D).
///
/// # Errors
/// Any error of candle.
pub fn window_unpartition_reference(y: &Tensor, windows: Windows) -> Result<Tensor> {
    let Windows { height, width, side } = windows;
    let (all, _, dim) = y.dims3()?;
    let batch = all / windows.count();
    let (rows, columns) = (windows.rows(), windows.columns());
    let y = y.reshape(vec![batch, rows, columns, side, side, dim])?;
    let y = y.permute(vec![0, 1, 3, 2, 4, 5])?.contiguous()?;
    let y = y.reshape((batch, rows * side, columns * side, dim))?;
    let y = y.narrow(1, 0, height)?.narrow(2, 0, width)?.contiguous()?;
    Ok(y.reshape((batch, height * width, dim))?)
}
