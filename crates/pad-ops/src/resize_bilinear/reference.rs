//! Bilinear resizing as two matrix products.

use candle_core::{Device, Tensor};

use super::cpu::axis;
use crate::{ImageSize, Result, planes};

/// [`resize_bilinear`](crate::resize_bilinear) in candle operations: any device and floating dtype.
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
/// let x = Tensor::new(&[[[[0_f64, 4.0]]]], &Device::Cpu)?;
/// let y = reference::resize_bilinear(&x, ImageSize::new(1, 4), false)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, [0.0, 1.0, 3.0, 4.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn resize_bilinear_reference(
    x: &Tensor,
    size: ImageSize,
    align_corners: bool,
) -> Result<Tensor> {
    let weights = |from: usize, to: usize| -> Result<Tensor> {
        let mut weights = vec![0.0_f64; to * from];
        let taps = axis(from, to, align_corners);
        for (tap, row) in taps.iter().zip(weights.chunks_exact_mut(from.max(1))) {
            row[tap.first] += 1.0 - f64::from(tap.weight);
            row[tap.second] += f64::from(tap.weight);
        }
        Ok(Tensor::from_vec(weights, (to, from), &Device::Cpu)?)
    };
    let (_, _, height, width) = x.dims4()?;
    planes::resample(x, &weights(height, size.height)?, &weights(width, size.width)?)
}
