//! Images from one normalisation to another.

use candle_core::Tensor;
use pad_data::transform::Normalize;

use crate::Result;

/// Returns images (B, C, H, W) that were normalised with `from` as `to` would have normalised them:
/// `(x * from.std + from.mean - to.mean) / to.std` for each channel; of more than three the fourth has
/// the numbers of the first, and so on, as in [`Normalize`].
pub(crate) fn renormalize(images: &Tensor, from: &Normalize, to: &Normalize) -> Result<Tensor> {
    let channels = images.dim(1)?;
    let column = |value: &dyn Fn(usize) -> f32| -> Result<Tensor> {
        let values: Vec<f32> = (0..channels).map(value).collect();
        let column = Tensor::from_vec(values, (1, channels, 1, 1), images.device())?;
        Ok(column.to_dtype(images.dtype())?)
    };
    let factor = column(&|c| from.std[c % 3] / to.std[c % 3])?;
    let shift = column(&|c| (from.mean[c % 3] - to.mean[c % 3]) / to.std[c % 3])?;
    Ok(images.broadcast_mul(&factor)?.broadcast_add(&shift)?)
}
