//! Strategies that choose which patches are removed. Every one draws from a key per image.

mod block;
mod intensity;
mod masked_by;
mod weighted;

use candle_core::Tensor;
use pad_adapter::vit::{PatchGrid, patches};
use pad_ops::rng::{Key, Purpose};
use serde::{Deserialize, Serialize};

pub use masked_by::MaskedBy;

use crate::{Error, Mask, Result};

/// How patches are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Masking {
    /// Each patch by itself (MAE).
    #[default]
    Random,
    /// Rectangles of at least 16 patches with an aspect ratio of 0.3 to 3.3 are removed until enough are (BEiT,
    /// algorithm 1); what no rectangle fits any more is removed patch by patch, so that the share is exact.
    Block,
    /// Square cells of so many patches a side are removed as a whole (SimMIM: 32 pixels; 2 at patch 16), rounded up to
    /// whole cells.
    Cells(usize),
    /// Kept patches are drawn without replacement in proportion to the attention that a teacher's class token pays
    /// them (MILAN).
    Attention,
    /// Infrared: patches are ranked by their mean intensity, and one of each of K equal ranges of ranks is kept, so
    /// that cold background and hot objects are both seen (InfMAE's information-aware masking; there always the first
    /// of each range, here drawn from the key).
    Intensity,
}

impl Masking {
    /// Draws the mask of a batch.
    ///
    /// # Shapes
    /// `images` (B, C, H, W) on `grid`; `importance` (B, L), any scale, only for [`Masking::Attention`]; a key each.
    ///
    /// # Errors
    /// [`Error::Config`] for a ratio that keeps or removes nothing, for cells that do not divide the grid, for an
    /// importance that is missing, misshapen, negative or no number.
    pub fn draw(
        self,
        images: &Tensor,
        grid: PatchGrid,
        mask_ratio: f64,
        importance: Option<&Tensor>,
        keys: &[Key],
    ) -> Result<Mask> {
        let (device, patches) = (images.device(), grid.len());
        if self == Masking::Random {
            return Mask::random(keys, patches, mask_ratio, device);
        }
        let faults = faults_of_ratio(patches, mask_ratio);
        if !faults.is_empty() {
            return Err(Error::Config { what: "mask", faults });
        }
        let kept = match self {
            Masking::Cells(side) => block::kept_by_cells(grid, side, mask_ratio)?,
            _ => Mask::kept(patches, mask_ratio),
        };
        let rows = match self {
            Masking::Attention => weighted::rows(importance, keys.len(), patches)?,
            Masking::Intensity => intensities(images, grid)?,
            _ => Vec::new(),
        };
        let mut order = Vec::with_capacity(keys.len() * patches);
        for (image, key) in keys.iter().enumerate() {
            let mut stream = key.purpose(Purpose::Mask).stream();
            let row = rows.get(image).map_or(&[][..], Vec::as_slice);
            order.extend(match self {
                Masking::Random => Vec::new(), // drawn above
                Masking::Block => block::rectangles(grid, kept, &mut stream),
                Masking::Cells(side) => block::cells(grid, side, kept, &mut stream),
                Masking::Attention => weighted::without_replacement(row, &mut stream),
                Masking::Intensity => intensity::one_of_each_range(row, kept, &mut stream),
            });
        }
        Mask::from_order(&order, patches, kept, device)
    }
}

/// What is wrong with a share of removed patches.
pub(crate) fn faults_of_ratio(patches: usize, mask_ratio: f64) -> Vec<String> {
    let kept = Mask::kept(patches, mask_ratio);
    if (0.0..1.0).contains(&mask_ratio) && kept > 0 && kept < patches {
        return Vec::new();
    }
    vec![format!(
        "`mask_ratio` is {mask_ratio}, which keeps {kept} of {patches} patches, expected at least one kept and one \
         removed"
    )]
}

/// Mean of each patch over pixels and channels, a row an image.
fn intensities(images: &Tensor, grid: PatchGrid) -> Result<Vec<Vec<f32>>> {
    let (_, _, height, _) = images.dims4()?;
    let patches = patches(&images.detach(), height / grid.height.max(1))?;
    if patches.dim(1)? != grid.len() {
        return Err(Error::Mask { expected: patches.dim(1)?, found: grid.len() });
    }
    Ok(patches.mean(2)?.to_dtype(candle_core::DType::F32)?.to_vec2()?)
}

/// The patches that `removed` says, after those that it does not: both in the order of the grid.
fn kept_first(removed: &[bool]) -> Vec<u32> {
    let pick = |wanted: bool| {
        let chosen = removed.iter().enumerate().filter(move |&(_, &removed)| removed == wanted);
        chosen.map(|(patch, _)| patch as u32)
    };
    pick(false).chain(pick(true)).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    const GRID: PatchGrid = PatchGrid::new(8, 10);

    /// 16 x 20 pixels, patches of 2, brightness = number of the patch.
    fn images(count: usize) -> Tensor {
        let mut values = Vec::new();
        for _ in 0..count {
            let pixel = |i: usize| ((i / 20 / 2) * 10 + (i % 20) / 2) as f32;
            values.extend((0..320).map(pixel));
        }
        Tensor::from_vec(values, (count, 1, 16, 20), &Device::Cpu).unwrap()
    }

    fn keys(count: u64) -> Vec<Key> {
        (0..count).map(|i| Key::new(3).sample(i)).collect()
    }

    fn removed(mask: &Mask) -> Vec<Vec<f32>> {
        mask.removed.to_vec2().unwrap()
    }

    const ALL: [Masking; 5] = [
        Masking::Random,
        Masking::Block,
        Masking::Cells(2),
        Masking::Attention,
        Masking::Intensity,
    ];

    #[test]
    fn exact_share_keyed_per_image_and_a_permutation() {
        let importance = Tensor::ones((4, 80), DType::F32, &Device::Cpu).unwrap();
        for masking in ALL {
            let draw = |images: &Tensor, importance: &Tensor, keys: &[Key]| {
                masking.draw(images, GRID, 0.6, Some(importance), keys).unwrap()
            };
            let all = draw(&images(4), &importance, &keys(4));
            for row in removed(&all) {
                assert_eq!(row.iter().sum::<f32>(), 48.0, "{masking:?}");
            }
            let one = draw(&images(1), &importance.narrow(0, 0, 1).unwrap(), &keys(4)[2..3]);
            assert_eq!(removed(&all)[2], removed(&one)[0], "{masking:?}: depends on the batch");
            assert_ne!(removed(&all)[0], removed(&all)[1], "{masking:?}: the key has no effect");
        }
    }

    #[test]
    fn cells_fall_as_a_whole() {
        let mask = Masking::Cells(2).draw(&images(3), GRID, 0.6, None, &keys(3)).unwrap();
        for row in removed(&mask) {
            for patch in 0..80 {
                let corner = (patch / 10 / 2 * 2) * 10 + (patch % 10) / 2 * 2;
                assert_eq!(row[patch], row[corner]);
            }
        }
    }

    #[test]
    fn blocks_are_more_connected_than_random_masks() {
        // Removed right-hand neighbours of removed patches.
        let pairs = |masking: Masking| -> f32 {
            let mask = masking.draw(&images(20), GRID, 0.4, None, &keys(20)).unwrap();
            let row_pairs = |row: &Vec<f32>| -> f32 {
                (0..80).filter(|i| i % 10 < 9).map(|i| row[i] * row[i + 1]).sum()
            };
            removed(&mask).iter().map(row_pairs).sum()
        };
        assert!(pairs(Masking::Block) > 1.5 * pairs(Masking::Random));
    }

    #[test]
    fn attention_keeps_in_proportion() {
        // Patch 7 weighs as much as all others together, patch 9 nothing.
        let mut weights = vec![1.0_f32; 80];
        (weights[7], weights[9]) = (78.0, 0.0);
        let count = 4000;
        let importance =
            Tensor::from_vec(weights.repeat(count), (count, 80), &Device::Cpu).unwrap();
        let images = Tensor::zeros((count, 1, 16, 20), DType::F32, &Device::Cpu).unwrap();
        let keys = keys(count as u64);
        let mask = Masking::Attention.draw(&images, GRID, 0.98, Some(&importance), &keys).unwrap();
        let rows = removed(&mask);
        let kept = |patch: usize| {
            rows.iter().filter(|row| row[patch] == 0.0).count() as f64 / count as f64
        };
        assert_eq!(mask.ids_keep.dims(), [count, 1]);
        assert!((kept(7) - 0.5).abs() < 0.03, "{}", kept(7));
        assert_eq!(kept(9), 0.0);
        let others: f64 = (0..80).filter(|i| *i != 7).map(kept).sum();
        assert!((others - 0.5).abs() < 0.03);
    }

    #[test]
    fn intensity_keeps_one_of_each_range() {
        let mask = Masking::Intensity.draw(&images(5), GRID, 0.75, None, &keys(5)).unwrap();
        for row in removed(&mask) {
            for range in row.chunks(4) {
                assert_eq!(range.iter().sum::<f32>(), 3.0);
            }
        }
    }

    #[test]
    fn refusals() {
        let draw = |masking: Masking, ratio, importance: Option<&Tensor>| {
            masking.draw(&images(1), GRID, ratio, importance, &keys(1)).unwrap_err().to_string()
        };
        assert_eq!(
            draw(Masking::Block, 1.0, None),
            "mask: `mask_ratio` is 1, which keeps 0 of 80 patches, expected at least one kept and one removed"
        );
        assert_eq!(
            draw(Masking::Cells(3), 0.5, None),
            "mask: cells of 3x3 patches, expected a side that divides the patch grid 8x10"
        );
        assert_eq!(
            draw(Masking::Attention, 0.5, None),
            "mask: attention masking without a teacher's attention, expected one that gives it (CLIP)"
        );
        let nan = Tensor::full(f32::NAN, (1, 80), &Device::Cpu).unwrap();
        assert_eq!(
            draw(Masking::Attention, 0.5, Some(&nan)),
            "mask: importance of patch 0 of image 0 is NaN, expected 0 or more"
        );
        let short = Tensor::ones((1, 79), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(
            draw(Masking::Attention, 0.5, Some(&short)),
            "mask: importance of shape [1, 79], expected [1, 80]"
        );
    }
}
