//! The averages as two matrix products.

use candle_core::{Device, Tensor};

use super::cpu::bins;
use crate::{ImageSize, Result, planes};

/// [`adaptive_avg_pool2d`](crate::adaptive_avg_pool2d) in candle operations: any device and
/// floating dtype.
///
/// # Shapes
/// `x` (B, C, H, W) -> (B, C, `size`).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{ImageSize, reference};
/// let x = Tensor::new(&[[[[1_f64, 2.0, 6.0]]]], &Device::Cpu)?;
/// let y = reference::adaptive_avg_pool2d(&x, ImageSize::new(1, 1))?;
/// assert!((y.flatten_all()?.to_vec1::<f64>()?[0] - 3.0).abs() < 1e-12);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn adaptive_avg_pool2d_reference(x: &Tensor, size: ImageSize) -> Result<Tensor> {
    let weights = |from: usize, to: usize| -> Result<Tensor> {
        let mut weights = vec![0.0_f64; to * from];
        for (range, row) in bins(from, to).iter().zip(weights.chunks_exact_mut(from.max(1))) {
            row[range.clone()].fill(1.0 / range.len() as f64);
        }
        Ok(Tensor::from_vec(weights, (to, from), &Device::Cpu)?)
    };
    let (_, _, height, width) = x.dims4()?;
    planes::resample(x, &weights(height, size.height)?, &weights(width, size.width)?)
}
