//! Masking strategies: which patches of an image are removed. All of them draw from one key per
//! image.

mod block;
mod intensity;
mod order;
mod weighted;

use std::{fmt, str::FromStr};

use candle_core::Tensor;
use pad_adapter::vit::{PatchGrid, patches};
use pad_ops::rng::{Key, Purpose};
use serde::{Deserialize, Serialize};

use crate::{Error, Mask, Result, names};

/// How the removed patches are chosen. As a string: `random`, `block`, `cells` or `cells=PIXELS`,
/// `attention`, `intensity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Masking {
    /// Each patch independently (MAE).
    #[default]
    Random,
    /// Rectangles of at least 16 patches with an aspect ratio of 0.3 to 3.3 (BEiT, algorithm 1).
    /// Once no rectangle fits, single patches are removed, so that the ratio is exact.
    Block,
    /// Square cells, removed as a whole (SimMIM); the ratio is rounded up to whole cells.
    Cells {
        /// Side of a cell, pixels; at least one patch. SimMIM's is 32.
        pixels: usize,
    },
    /// Kept patches are drawn without replacement in proportion to the attention of a teacher's
    /// class token (MILAN).
    Attention,
    /// For infrared: patches are ranked by mean intensity and one of each of K equal ranges of
    /// ranks is kept, so that both cold background and hot objects are seen. InfMAE's
    /// information-aware masking keeps the first of each range; here the key draws it.
    Intensity,
}

impl Masking {
    /// SimMIM's cells of 32 x 32 pixels.
    pub const CELLS: Self = Self::Cells { pixels: 32 };

    /// The names of all strategies.
    pub const NAMES: [&str; 5] = ["random", "block", "cells", "attention", "intensity"];

    /// Draws the mask of a batch.
    ///
    /// # Shapes
    /// `images` (B, C, H, W) on `grid`; `importance` (B, L), any scale, for [`Masking::Attention`]
    /// only; one key per image.
    ///
    /// # Errors
    /// [`Error::Config`] for a ratio that keeps or removes nothing, for cells that do not divide
    /// the grid, and for an importance that is missing, misshapen, negative or not finite.
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
        let faults = Mask::ratio_faults(patches, mask_ratio);
        if !faults.is_empty() {
            return Err(Error::Config { what: "mask", faults });
        }
        let side = match self {
            Masking::Cells { pixels } => cell_side(pixels, images, grid)?,
            _ => 1,
        };
        let kept = match self {
            Masking::Cells { .. } => block::kept_by_cells(grid, side, mask_ratio)?,
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
                Masking::Cells { .. } => block::cells(grid, side, kept, &mut stream),
                Masking::Attention => weighted::without_replacement(row, &mut stream),
                Masking::Intensity => intensity::one_of_each_range(row, kept, &mut stream),
            });
        }
        Mask::from_order(&order, patches, kept, device)
    }
}

impl fmt::Display for Masking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::Random => "random",
            Self::Block => "block",
            Self::Cells { pixels } if *self != Self::CELLS => return write!(f, "cells={pixels}"),
            Self::Cells { .. } => "cells",
            Self::Attention => "attention",
            Self::Intensity => "intensity",
        };
        f.write_str(name)
    }
}

impl FromStr for Masking {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "random" => Self::Random,
            "block" => Self::Block,
            "cells" => Self::CELLS,
            "attention" => Self::Attention,
            "intensity" => Self::Intensity,
            _ => {
                let pixels = text.strip_prefix("cells=").and_then(|side| side.parse().ok());
                match pixels.filter(|&pixels| pixels > 0) {
                    Some(pixels) => Self::Cells { pixels },
                    None => return Err(names::unknown("masking", text, &Self::NAMES)),
                }
            }
        })
    }
}

impl From<Masking> for String {
    fn from(masking: Masking) -> Self {
        masking.to_string()
    }
}

impl TryFrom<String> for Masking {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// Returns the side of a cell of `pixels` pixels in patches, at least 1.
fn cell_side(pixels: usize, images: &Tensor, grid: PatchGrid) -> Result<usize> {
    let (_, _, height, _) = images.dims4()?;
    let patch_size = (height / grid.height.max(1)).max(1);
    Ok((pixels / patch_size).max(1))
}

/// Returns the mean of each patch over pixels and channels, one row per image.
fn intensities(images: &Tensor, grid: PatchGrid) -> Result<Vec<Vec<f32>>> {
    let (_, _, height, _) = images.dims4()?;
    let patches = patches(&images.detach(), height / grid.height.max(1))?;
    if patches.dim(1)? != grid.len() {
        return Err(Error::Mask { expected: patches.dim(1)?, found: grid.len() });
    }
    Ok(patches.mean(2)?.to_dtype(candle_core::DType::F32)?.to_vec2()?)
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
        Masking::Cells { pixels: 4 },
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
        let mask =
            Masking::Cells { pixels: 4 }.draw(&images(3), GRID, 0.6, None, &keys(3)).unwrap();
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
    fn names_round_trip() {
        for masking in ALL {
            assert_eq!(masking.to_string().parse::<Masking>().unwrap(), masking);
        }
        for name in Masking::NAMES {
            assert_eq!(name.parse::<Masking>().unwrap().to_string(), name);
        }
        let json = serde_json::to_string(&Masking::Cells { pixels: 64 }).unwrap();
        assert_eq!(json, "\"cells=64\"");
        assert_eq!(
            "blok".parse::<Masking>().unwrap_err().to_string(),
            "masking: expected random, block, cells, attention or intensity, found `blok` (did you mean \
             `block`?)"
        );
        assert!("cells=0".parse::<Masking>().is_err());
    }

    #[test]
    fn errors() {
        let draw = |masking: Masking, ratio, importance: Option<&Tensor>| {
            masking.draw(&images(1), GRID, ratio, importance, &keys(1)).unwrap_err().to_string()
        };
        assert_eq!(
            draw(Masking::Block, 1.0, None),
            "mask: `mask_ratio` is 1, which keeps 0 of 80 patches, expected at least one kept and one removed"
        );
        assert_eq!(
            draw(Masking::Cells { pixels: 6 }, 0.5, None),
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
