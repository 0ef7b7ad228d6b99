//! Which patches are removed. A mask is drawn outside the network, so that tests and resumed runs
//! can fix it.

use candle_core::{Device, Tensor};
use pad_ops::rng::{Key, Purpose};

use crate::{Error, Result};

/// A choice of kept patches for each image of a batch.
#[derive(Clone, Debug)]
pub struct Mask {
    /// Kept patches, (B, K) `u32`, in the order of the encoder's tokens.
    pub ids_keep: Tensor,
    /// Removed patches, (B, L - K) `u32`, in the order of the shuffle.
    pub ids_removed: Tensor,
    /// Position of each patch in "kept, then removed", (B, L) `u32`: undoes the shuffle.
    pub ids_restore: Tensor,
    /// 1 = removed, 0 = kept, (B, L) `f32`.
    pub removed: Tensor,
}

impl Mask {
    /// Returns the number of patches kept of `patches`: `int(L (1 - ratio))`, as in the reference.
    pub fn kept(patches: usize, mask_ratio: f64) -> usize {
        (patches as f64 * (1.0 - mask_ratio)) as usize
    }

    /// Creates a mask from noise: the patches with the smallest values are kept, in ascending
    /// order.
    ///
    /// # Shapes
    /// `noise`: (B, L), flat, row major.
    ///
    /// # Errors
    /// [`Error::Config`] unless at least one patch is kept and one removed, or for noise of another
    /// length.
    pub fn from_noise(
        noise: &[f32],
        patches: usize,
        mask_ratio: f64,
        device: &Device,
    ) -> Result<Self> {
        let keep = Self::kept(patches, mask_ratio);
        let mut faults = Vec::new();
        if keep == 0 || keep >= patches {
            faults.push(format!(
                "`mask_ratio` {mask_ratio} keeps {keep} of {patches} patches, expected at least one kept and one \
                 removed"
            ));
        }
        if patches == 0 || !noise.len().is_multiple_of(patches.max(1)) {
            faults.push(format!("{} noise values, expected a multiple of {patches}", noise.len()));
        }
        if !faults.is_empty() {
            return Err(Error::Config { what: "mask", faults });
        }
        let batch = noise.len() / patches;
        let mut ids_keep = Vec::with_capacity(batch * keep);
        let mut ids_removed = Vec::with_capacity(noise.len() - batch * keep);
        let mut ids_restore = vec![0_u32; noise.len()];
        let mut removed = vec![1.0_f32; noise.len()];
        for (image, noise) in noise.chunks_exact(patches).enumerate() {
            let mut order: Vec<usize> = (0..patches).collect();
            order.sort_by(|&a, &b| noise[a].total_cmp(&noise[b])); // stable
            for (place, &patch) in order.iter().enumerate() {
                ids_restore[image * patches + patch] = place as u32;
                if place < keep {
                    ids_keep.push(patch as u32);
                    removed[image * patches + patch] = 0.0;
                } else {
                    ids_removed.push(patch as u32);
                }
            }
        }
        Ok(Self {
            ids_keep: Tensor::from_vec(ids_keep, (batch, keep), device)?,
            ids_removed: Tensor::from_vec(ids_removed, (batch, patches - keep), device)?,
            ids_restore: Tensor::from_vec(ids_restore, (batch, patches), device)?,
            removed: Tensor::from_vec(removed, (batch, patches), device)?,
        })
    }

    /// Draws uniformly random masks, one key per image (section 3 of the MAE paper).
    ///
    /// # Errors
    /// As [`Mask::from_noise`].
    pub fn random(keys: &[Key], patches: usize, mask_ratio: f64, device: &Device) -> Result<Self> {
        let mut noise = vec![0.0_f32; keys.len() * patches];
        for (key, noise) in keys.iter().zip(noise.chunks_exact_mut(patches.max(1))) {
            key.purpose(Purpose::Mask).stream().fill_uniform(noise);
        }
        Self::from_noise(&noise, patches, mask_ratio, device)
    }

    /// Creates a mask from an order of the patches (`ids_shuffle` of the reference codes): the
    /// first `kept` are kept, in that order.
    ///
    /// # Shapes
    /// `order`: (B, L), flat, row major; every row holds each of 0 to L - 1 once.
    ///
    /// # Errors
    /// [`Error::Config`] for rows that are not a permutation, or unless at least one patch is kept
    /// and one removed.
    pub fn from_order(order: &[u32], patches: usize, kept: usize, device: &Device) -> Result<Self> {
        let refuse = |fault: String| Err(Error::Config { what: "mask", faults: vec![fault] });
        if kept == 0 || kept >= patches || !order.len().is_multiple_of(patches) {
            return refuse(format!(
                "{kept} kept of {patches} patches in {} numbers, expected some kept, some removed, and whole rows",
                order.len()
            ));
        }
        let batch = order.len() / patches;
        let (mut ids_keep, mut ids_removed) = (Vec::new(), Vec::new());
        let mut ids_restore = vec![u32::MAX; order.len()];
        let mut removed = vec![1.0_f32; order.len()];
        for (image, row) in order.chunks_exact(patches).enumerate() {
            let first = image * patches;
            for (place, &patch) in row.iter().enumerate() {
                match ids_restore[first..first + patches].get_mut(patch as usize) {
                    Some(free) if *free == u32::MAX => *free = place as u32,
                    _ => {
                        return refuse(format!(
                            "patch {patch} at place {place} of image {image}, expected each of 0 to {} once",
                            patches - 1
                        ));
                    }
                }
                if place < kept {
                    removed[first + patch as usize] = 0.0;
                }
            }
            ids_keep.extend_from_slice(&row[..kept]);
            ids_removed.extend_from_slice(&row[kept..]);
        }
        Ok(Self {
            ids_keep: Tensor::from_vec(ids_keep, (batch, kept), device)?,
            ids_removed: Tensor::from_vec(ids_removed, (batch, patches - kept), device)?,
            ids_restore: Tensor::from_vec(ids_restore, (batch, patches), device)?,
            removed: Tensor::from_vec(removed, (batch, patches), device)?,
        })
    }

    /// Returns what is wrong with removing the fraction `mask_ratio` of `patches`; empty if nothing
    /// is.
    pub(crate) fn ratio_faults(patches: usize, mask_ratio: f64) -> Vec<String> {
        let kept = Self::kept(patches, mask_ratio);
        if (0.0..1.0).contains(&mask_ratio) && kept > 0 && kept < patches {
            return Vec::new();
        }
        vec![format!(
            "`mask_ratio` is {mask_ratio}, which keeps {kept} of {patches} patches, expected at \
             least one kept and one removed"
        )]
    }

    /// Checks that the mask covers `expected` patches.
    pub(crate) fn expect_patches(&self, expected: usize) -> Result<()> {
        let found = self.patches();
        if found == expected { Ok(()) } else { Err(Error::Mask { expected, found }) }
    }

    /// Returns the number of patches per image, `L`.
    pub fn patches(&self) -> usize {
        self.removed.dims().get(1).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_what_the_noise_says() {
        let noise = [0.3, 0.1, 0.9, 0.2];
        let mask = Mask::from_noise(&noise, 4, 0.5, &Device::Cpu).unwrap();
        assert_eq!(mask.ids_keep.to_vec2::<u32>().unwrap(), [[1, 3]]);
        assert_eq!(mask.ids_removed.to_vec2::<u32>().unwrap(), [[0, 2]]);
        assert_eq!(mask.ids_restore.to_vec2::<u32>().unwrap(), [[2, 0, 3, 1]]);
        assert_eq!(mask.removed.to_vec2::<f32>().unwrap(), [[1.0, 0.0, 1.0, 0.0]]);
    }

    #[test]
    fn a_sample_s_mask_does_not_depend_on_its_batch() {
        let keys: Vec<Key> = (0..3).map(|i| Key::new(1).epoch(2).sample(i)).collect();
        let all = Mask::random(&keys, 16, 0.75, &Device::Cpu).unwrap();
        let one = Mask::random(&keys[2..], 16, 0.75, &Device::Cpu).unwrap();
        let rows = |t: &Tensor| t.to_vec2::<f32>().unwrap();
        assert_eq!(rows(&all.removed)[2], rows(&one.removed)[0]);
        assert_ne!(rows(&all.removed)[0], rows(&all.removed)[1]);
        assert!(rows(&all.removed).iter().all(|row| row.iter().sum::<f32>() == 12.0));
    }

    #[test]
    fn an_order_is_the_noise_that_sorts_to_it() {
        let noise = [0.3, 0.1, 0.9, 0.2, 0.5, 0.7, 0.6, 0.1];
        let by_noise = Mask::from_noise(&noise, 4, 0.5, &Device::Cpu).unwrap();
        let by_order = Mask::from_order(&[1, 3, 0, 2, 3, 0, 2, 1], 4, 2, &Device::Cpu).unwrap();
        let ids = |t: &Tensor| t.to_vec2::<u32>().unwrap();
        assert_eq!(ids(&by_noise.ids_keep), ids(&by_order.ids_keep));
        assert_eq!(ids(&by_noise.ids_removed), ids(&by_order.ids_removed));
        assert_eq!(ids(&by_noise.ids_restore), ids(&by_order.ids_restore));
        let text =
            |order: &[u32]| Mask::from_order(order, 4, 2, &Device::Cpu).unwrap_err().to_string();
        assert_eq!(
            text(&[0, 1, 1, 2]),
            "mask: patch 1 at place 2 of image 0, expected each of 0 to 3 once"
        );
        assert_eq!(
            text(&[0, 1, 4, 2]),
            "mask: patch 4 at place 2 of image 0, expected each of 0 to 3 once"
        );
        assert_eq!(
            text(&[0, 1, 2]),
            "mask: 2 kept of 4 patches in 3 numbers, expected some kept, some removed, and whole rows"
        );
    }

    #[test]
    fn refusals() {
        let text = |ratio| Mask::from_noise(&[0.0; 4], 4, ratio, &Device::Cpu).unwrap_err();
        let want =
            "mask: `mask_ratio` 1 keeps 0 of 4 patches, expected at least one kept and one removed";
        assert_eq!(text(1.0).to_string(), want);
        assert!(text(0.0).to_string().contains("keeps 4 of 4"));
    }
}
