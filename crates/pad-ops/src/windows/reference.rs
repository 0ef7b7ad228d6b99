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
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{Windows, reference};
/// let x = Tensor::new(&[[[1_f64], [2.0], [3.0]]], &Device::Cpu)?;
/// let y = reference::window_partition(&x, Windows { height: 1, width: 3, side: 2 })?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, [1.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
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
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{Windows, reference};
/// let y = Tensor::new(&[[[5_f64], [6.0], [7.0], [8.0]]], &Device::Cpu)?;
/// let x = reference::window_unpartition(&y, Windows { height: 1, width: 1, side: 2 })?;
/// assert_eq!(x.to_vec3::<f64>()?, [[[5.0]]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
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
