//! Pictures of reconstructions and of patchwise scales.

use candle_core::{D, Tensor};
use pad::{
    ImageSize,
    data::{
        dataset::Dataset,
        draw::{Canvas, Color},
        roi::Roi,
        transform::Normalize,
        window::Window,
    },
    rng::Key,
    ssl::{Mae, Mask, unpatchify},
    vit::ViT,
};

use super::{Result, images::CropComparison};

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

/// Outlines of regions of interest, one colour after the other.
const OUTLINES: [Color; 6] =
    [[255, 80, 60], [255, 190, 0], [70, 220, 90], [0, 200, 255], [120, 130, 255], [255, 90, 220]];

/// Draws regions of interest on the image that they belong to.
pub fn outline_rois(canvas: &mut Canvas, rois: &[Roi]) {
    for (roi, &color) in rois.iter().zip(OUTLINES.iter().cycle()) {
        // `width` and `height` are last minus first pixel.
        let ends = [roi.x + roi.width + 1, roi.y + roi.height + 1];
        let corners = [roi.x, roi.y, ends[0], ends[1]].map(|value| value as f32);
        canvas.outline(corners, color, 1);
    }
}

/// One row per image, spread over those that have regions of interest: the image with its regions, `crops` plain
/// random crops, and as many around regions, drawn from the same random numbers.
pub fn crops(
    comparison: &CropComparison,
    normalize: &Normalize,
    window: &Window,
    (count, crops): (usize, usize),
    seed: u64,
) -> Result<Canvas> {
    const SIDE: usize = 112;
    let with_rois: Vec<usize> =
        (0..comparison.rois.len()).filter(|&index| !comparison.rois[index].is_empty()).collect();
    let mut rows = Vec::new();
    for i in 0..count.min(with_rois.len()) {
        let index = with_rois[i * with_rois.len() / count.min(with_rois.len())];
        let image = match comparison.with.image(index) {
            Ok(image) => image,
            Err(error) => {
                tracing::warn!("left out of the picture: {error}");
                continue;
            }
        };
        let mut canvas = Canvas::from_image(&image, Some(window))?;
        outline_rois(&mut canvas, &comparison.rois[index]);
        let width = SIDE * image.size().width / image.size().height.max(1);
        let mut row = vec![canvas.stretched(ImageSize::new(SIDE, width.max(1)))];
        for dataset in [&comparison.without, &comparison.with] {
            row.push(Canvas::new(ImageSize::new(SIDE, GAP), PAPER));
            for crop in 0..crops as u64 {
                let key = Key::new(seed).epoch(crop).sample(index as u64);
                let sample = dataset.get(index, key)?.into_tensor()?;
                let crop = Canvas::from_tensor(&sample, normalize)?;
                row.push(crop.stretched(ImageSize::square(SIDE)));
            }
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return Err("not one of the images for the picture of crops could be read".into());
    }
    Ok(Canvas::tiled(&rows, GAP / 2, PAPER))
}

/// One row per image: the image, then the patchwise scales of every block laid over it, on one colour range (returned
/// with the picture). None if the model has no patchwise scales.
pub fn scales(
    encoder: &ViT,
    images: &Tensor,
    normalize: &Normalize,
) -> Result<Option<(Canvas, (f32, f32))>> {
    let (blocks, grid) = encoder.scales(images)?;
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
