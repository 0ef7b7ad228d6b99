//! Pictures of reconstructions and of patchwise scales.

use candle_core::{D, Tensor};
use pad::{
    ImageSize,
    data::{draw::Canvas, transform::Normalize},
    rng::Key,
    ssl::{Mae, Mask, unpatchify},
};

use super::Result;

const GAP: usize = 6;
const PAPER: [u8; 3] = [255; 3];
const REMOVED: [u8; 3] = [128; 3];

/// One row per image: input, input without the removed patches, reconstruction (kept patches as they are).
pub fn reconstructions(
    mae: &Mae,
    images: &Tensor,
    normalize: &Normalize,
    seed: u64,
) -> Result<Canvas> {
    let grid = mae.encoder().grid_of(images)?;
    let count = images.dim(0)?;
    let keys: Vec<Key> = (0..count as u64).map(|i| Key::new(seed).sample(i)).collect();
    let mask = Mask::random(&keys, grid.len(), mae.config().mask_ratio, images.device())?;
    let guess = mae.reconstruct(images, &mask)?;
    // The mask as an image: 1 where the reconstruction shows.
    let values = mae.config().encoder.patch_values();
    let shown = mask.removed.unsqueeze(D::Minus1)?.broadcast_as((count, grid.len(), values))?;
    let shown = unpatchify(&shown.contiguous()?, grid, mae.config().encoder.patch_size)?;
    let kept = (1.0 - &shown)?;
    let pasted = ((images * kept)? + (guess * &shown)?)?;
    let cells = ImageSize { height: grid.height, width: grid.width };
    let mut rows = Vec::new();
    for i in 0..count {
        let input = Canvas::from_tensor(&images.get(i)?, normalize)?;
        let removed: Vec<bool> =
            mask.removed.get(i)?.to_vec1::<f32>()?.iter().map(|&value| value > 0.5).collect();
        let mut masked = input.clone();
        masked.cover_patches(cells, &removed, REMOVED)?;
        rows.push(vec![input, masked, Canvas::from_tensor(&pasted.get(i)?, normalize)?]);
    }
    Ok(Canvas::tiled(&rows, GAP, PAPER))
}

/// One row per image: the image, then the patchwise scales of every block laid over it, on one colour range (returned
/// with the picture). None if the model has no patchwise scales.
pub fn scales(
    mae: &Mae,
    images: &Tensor,
    normalize: &Normalize,
) -> Result<Option<(Canvas, (f32, f32))>> {
    let (blocks, grid) = mae.encoder().scales(images)?;
    let blocks: Vec<Tensor> = blocks.into_iter().flatten().collect();
    if blocks.is_empty() {
        return Ok(None);
    }
    let cells = ImageSize { height: grid.height, width: grid.width };
    let patches: Vec<Vec<Vec<f32>>> = blocks
        .iter()
        .map(|scales| scales.narrow(1, 1, grid.len())?.to_vec2::<f32>())
        .collect::<candle_core::Result<_>>()?;
    let all = || patches.iter().flatten().flatten();
    let low = all().fold(f32::INFINITY, |low, &value| low.min(value));
    let high = all().fold(f32::NEG_INFINITY, |high, &value| high.max(value));
    // A fresh gate gives 0.5 everywhere: any range will do.
    let range = if high > low { (low, high) } else { (0.0, 1.0) };
    let mut rows = Vec::new();
    for i in 0..images.dim(0)? {
        let image = Canvas::from_tensor(&images.get(i)?, normalize)?;
        let mut row = vec![image.clone()];
        for block in &patches {
            let mut map = image.clone();
            map.overlay_heat(cells, &block[i], range, 0.6)?;
            row.push(map);
        }
        rows.push(row);
    }
    Ok(Some((Canvas::tiled(&rows, GAP, PAPER), range)))
}
