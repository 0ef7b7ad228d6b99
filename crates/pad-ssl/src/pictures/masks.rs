//! The masking strategies side by side.

use candle_core::Tensor;
use pad_adapter::vit::{PatchGrid, patches};
use pad_data::{draw::Canvas, transform::Normalize};
use pad_ops::{ImageSize, rng::Key};

use super::sheet::titled;
use crate::{Masking, Result, Teacher};

/// Colour of removed patches.
const REMOVED: [u8; 3] = [40, 60, 110];

/// How masks are drawn.
#[derive(Clone, Debug)]
pub struct MaskPicture {
    /// Side of a patch, pixels. Default 16.
    pub patch_size: usize,
    /// Fraction of patches removed. Default 0.6.
    pub mask_ratio: f64,
    /// Strategies, a column each. Default: all of them.
    pub maskings: Vec<Masking>,
    /// Seed of the masks.
    pub seed: u64,
}

impl Default for MaskPicture {
    fn default() -> Self {
        let maskings = vec![
            Masking::Random,
            Masking::Block,
            Masking::CELLS,
            Masking::Attention,
            Masking::Intensity,
        ];
        Self { patch_size: 16, mask_ratio: 0.6, maskings, seed: 0 }
    }
}

/// Draws each image and the masks that the strategies remove from it. Without a `teacher`,
/// attention is replaced by the standard deviation of each patch, and the column's title says
/// `local contrast`.
///
/// # Shapes
/// `images` (B, C, H, W), normalised by `normalize`.
///
/// # Errors
/// Images whose sides the patch does not divide; as [`Masking::draw`]; a teacher without attention
/// or of another grid.
pub fn masks(
    images: &Tensor,
    normalize: &Normalize,
    teacher: Option<&dyn Teacher>,
    picture: &MaskPicture,
) -> Result<Canvas> {
    let (count, _, height, width) = images.dims4()?;
    let grid = PatchGrid::of(ImageSize { height, width }, picture.patch_size)?;
    let cells = ImageSize { height: grid.height, width: grid.width };
    let importance = match teacher {
        Some(teacher) => {
            let tokens = teacher.tokens(images)?;
            tokens.expect_grid(grid)?;
            tokens.importance()?
        }
        None => Some(contrast(images, picture.patch_size)?),
    };
    let keys: Vec<Key> = (0..count as u64).map(|i| Key::new(picture.seed).sample(i)).collect();
    let mut titles = vec!["input".to_string()];
    let mut rows: Vec<Vec<Canvas>> = Vec::new();
    for i in 0..count {
        rows.push(vec![Canvas::from_tensor(&images.get(i)?, normalize)?]);
    }
    for &masking in &picture.maskings {
        titles.push(match masking {
            Masking::Attention if teacher.is_none() => "local contrast".into(),
            masking => masking.to_string(),
        });
        let mask = masking.draw(images, grid, picture.mask_ratio, importance.as_ref(), &keys)?;
        for (row, removed) in rows.iter_mut().zip(mask.removed.to_vec2::<f32>()?) {
            let removed: Vec<bool> = removed.iter().map(|&flag| flag > 0.5).collect();
            let mut masked = row[0].clone();
            masked.cover_patches(cells, &removed, REMOVED)?;
            row.push(masked);
        }
    }
    Ok(titled(&titles, rows))
}

/// Returns the standard deviation of each patch, (B, L).
fn contrast(images: &Tensor, patch_size: usize) -> Result<Tensor> {
    let patches = patches(images, patch_size)?;
    let centred = patches.broadcast_sub(&patches.mean_keepdim(2)?)?;
    Ok(centred.sqr()?.mean(2)?.sqrt()?)
}
