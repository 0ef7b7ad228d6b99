//! Images from one normalisation to another.

use candle_core::Tensor;
use pad_data::transform::Normalize;

use crate::Result;

/// Returns images (B, C, H, W) that were normalised with `from` as `to` would have normalised them:
/// `(x * from.std + from.mean - to.mean) / to.std` for each channel; of more than three the fourth has
/// the numbers of the first, and so on, as in [`Normalize`]. A single channel becomes `channels`
/// equal ones before `to`; any other number stays.
pub(crate) fn renormalize(
    images: &Tensor,
    from: &Normalize,
    to: &Normalize,
    channels: usize,
) -> Result<Tensor> {
    let (batch, given, height, width) = images.dims4()?;
    let grey = given == 1;
    let images = if grey && channels > 1 {
        images.broadcast_as((batch, channels, height, width))?.contiguous()?
    } else {
        images.clone()
    };
    let channels = images.dim(1)?;
    let source = |c: usize| if grey { 0 } else { c % 3 };
    let column = |value: &dyn Fn(usize) -> f32| -> Result<Tensor> {
        let values: Vec<f32> = (0..channels).map(value).collect();
        let column = Tensor::from_vec(values, (1, channels, 1, 1), images.device())?;
        Ok(column.to_dtype(images.dtype())?)
    };
    let factor = column(&|c| from.std[source(c)] / to.std[c % 3])?;
    let shift = column(&|c| (from.mean[source(c)] - to.mean[c % 3]) / to.std[c % 3])?;
    Ok(images.broadcast_mul(&factor)?.broadcast_add(&shift)?)
}
