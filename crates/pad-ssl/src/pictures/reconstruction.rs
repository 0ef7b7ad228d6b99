//! What an autoencoder makes of removed patches.

use candle_core::{D, Tensor};
use pad_adapter::vit::unpatchify;
use pad_data::{draw::Canvas, transform::Normalize};
use pad_ops::{ImageSize, rng::Key};

use super::sheet::titled;
use crate::{Mae, Mask, Result};

/// Colour of removed patches.
const REMOVED: [u8; 3] = [128; 3];

/// Draws reconstructions, one row per image, in four columns: the image; the image without the removed
/// patches; the decoder's prediction of these; and the prediction in the image.
///
/// Under `norm_pix_loss` the decoder predicts patches of mean 0 and variance 1. The third column shows
/// them with the mean and variance of the whole image, so that what was not learnt is noise or a flat
/// grey. In the fourth, each removed patch gets its true mean and variance back, as in the reference's
/// pictures, and the title says so: the outlines of a scene are visible there even for an untrained
/// decoder.
///
/// # Shapes
/// `images` (B, C, H, W), normalised by `normalize`.
///
/// # Errors
/// Images that do not fit the model.
pub fn reconstructions(
    mae: &Mae,
    images: &Tensor,
    normalize: &Normalize,
    seed: u64,
) -> Result<Canvas> {
    let grid = mae.encoder().grid_of(images)?;
    let (count, _, _, _) = images.dims4()?;
    let keys: Vec<Key> = (0..count as u64).map(|i| Key::new(seed).sample(i)).collect();
    let mask = Mask::random(&keys, grid.len(), mae.config().mask_ratio, images.device())?;
    let patch_size = mae.config().encoder.patch_size;
    // The mask as an image: 1 where patches are removed.
    let values = mae.config().encoder.patch_values();
    let removed = mask.removed.unsqueeze(D::Minus1)?.broadcast_as((count, grid.len(), values))?;
    let removed = unpatchify(&removed.contiguous()?, grid, patch_size)?;
    let kept = (images * (1.0 - &removed)?)?;
    let predicted = unpatchify(&mae.predict(images, &mask)?, grid, patch_size)?;
    let pasted = (&kept + (mae.reconstruct(images, &mask)? * &removed)?)?;

    let normalized = mae.config().norm_pix_loss;
    let cells = ImageSize { height: grid.height, width: grid.width };
    let mut rows = Vec::new();
    for (i, flags) in mask.removed.to_vec2::<f32>()?.into_iter().enumerate() {
        let flags: Vec<bool> = flags.into_iter().map(|flag| flag > 0.5).collect();
        let image = images.get(i)?;
        let input = Canvas::from_tensor(&image, normalize)?;
        let mut masked = input.clone();
        masked.cover_patches(cells, &flags, REMOVED)?;
        let mut guess = predicted.get(i)?;
        if normalized {
            let (mean, std) = statistics(&image)?;
            guess = ((guess * std)? + mean)?;
        }
        let mut guess = Canvas::from_tensor(&guess, normalize)?;
        let others: Vec<bool> = flags.iter().map(|removed| !removed).collect();
        guess.cover_patches(cells, &others, REMOVED)?;
        rows.push(vec![input, masked, guess, Canvas::from_tensor(&pasted.get(i)?, normalize)?]);
    }
    let titles = match normalized {
        true => ["input", "kept", "predicted", "pasted: true mean and variance per patch"],
        false => ["input", "kept", "predicted", "pasted"],
    };
    Ok(titled(&titles.map(String::from), rows))
}

/// Returns the mean and the standard deviation of a tensor's values.
fn statistics(values: &Tensor) -> Result<(f64, f64)> {
    let mean = f64::from(values.mean_all()?.to_scalar::<f32>()?);
    let variance = (values - mean)?.sqr()?.mean_all()?.to_scalar::<f32>()?;
    Ok((mean, f64::from(variance).sqrt()))
}
