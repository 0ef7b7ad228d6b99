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
