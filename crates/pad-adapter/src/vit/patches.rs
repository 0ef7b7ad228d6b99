//! Images cut into patches, in both orders that are in use, and the layer that makes tokens of
//! them.

use candle_core::{Device, Tensor};
use candle_nn::{Init, VarBuilder};
use pad_ops::ImageSize;

use super::{
    PatchGrid, ViTConfig,
    layers::{Linear, xavier_uniform},
};
use crate::{Error, Result};

/// The patch embedding: a convolution of stride = kernel as a linear layer on flat patches. The
/// file keeps the convolution's shape.
///
/// ```
/// use std::collections::HashMap;
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_adapter::vit::{PatchEmbed, PatchGrid, ViTConfig};
/// // A kernel of ones over patches of 2 x 2 pixels: a token is the sum of its pixels.
/// let config = ViTConfig { in_channels: 1, patch_bias: false, ..ViTConfig::new(2, 1, 1, 1) };
/// let kernel = Tensor::ones((1, 1, 2, 2), DType::F32, &Device::Cpu)?;
/// let tensors = HashMap::from([("proj.weight".to_string(), kernel)]);
/// let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
/// let embed = PatchEmbed::new(&config, vb)?;
/// let images = Tensor::arange(1_f32, 9.0, &Device::Cpu)?.reshape((1, 1, 2, 4))?;
/// let (tokens, grid) = embed.forward(&images)?;
/// assert_eq!(tokens.flatten_all()?.to_vec1::<f32>()?, [1.0 + 2.0 + 5.0 + 6.0, 22.0]);
/// assert_eq!((grid, embed.grid_of(&images)?), (PatchGrid::new(1, 2), PatchGrid::new(1, 2)));
/// let keep = Tensor::new(&[[1_u32]], &Device::Cpu)?;
/// let (tokens, _) = embed.forward_kept(&images, &keep)?;
/// assert_eq!(tokens.flatten_all()?.to_vec1::<f32>()?, [22.0]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PatchEmbed {
    proj: Linear,
    patch_size: usize,
    in_channels: usize,
    device: Device,
}

impl PatchEmbed {
    /// Builds the layer from `proj.weight` (D, C, p, p) and, with [`ViTConfig::patch_bias`],
    /// `proj.bias` (D) of `vb`.
    ///
    /// # Errors
    /// Errors of `vb`: missing tensors or other shapes.
    pub fn new(config: &ViTConfig, vb: VarBuilder) -> Result<Self> {
        let (dim, patch_size, in_channels) =
            (config.embed_dim, config.patch_size, config.in_channels);
        let (vb, values) = (vb.pp("proj"), config.patch_values());
        let init = xavier_uniform(values, dim);
        let kernel =
            vb.get_with_hints((dim, in_channels, patch_size, patch_size), "weight", init)?;
        let bias = match config.patch_bias {
            true => Some(vb.get_with_hints(dim, "bias", Init::Const(0.0))?),
            false => None,
        };
        let proj = Linear::from_tensors(kernel.reshape((dim, values))?, bias);
        Ok(Self { proj, patch_size, in_channels, device: kernel.device().clone() })
    }

    /// The device of the weights.
    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// Patch grid of `images` (B, C, H, W).
    ///
    /// # Errors
    /// [`Error::ImageShape`] for another rank, another number of channels, or sides that the patch
    /// does not divide.
    pub fn grid_of(&self, images: &Tensor) -> Result<PatchGrid> {
        let refuse = || Error::ImageShape {
            expected: format!(
                "(B, {}, H, W) with sides divisible by {}",
                self.in_channels, self.patch_size
            ),
            found: images.dims().to_vec(),
        };
        match *images.dims() {
            [_, c, height, width] if c == self.in_channels => {
                PatchGrid::of(ImageSize { height, width }, self.patch_size).map_err(|_| refuse())
            }
            _ => Err(refuse()),
        }
    }

    /// Tokens of all patches of whole images, without positions, and their grid.
    ///
    /// # Shapes
    /// `images` (B, C, H, W) -> (B, L, D).
    ///
    /// # Errors
    /// As [`PatchEmbed::grid_of`].
    pub fn forward(&self, images: &Tensor) -> Result<(Tensor, PatchGrid)> {
        let grid = self.grid_of(images)?;
        Ok((self.proj.forward(&patches(images, self.patch_size)?)?, grid))
    }

    /// Tokens of patches that are flat already, without positions.
    ///
    /// # Shapes
    /// `values` (B, N, p p C), pixel major, channel last ([`patchify`]) -> (B, N, D).
    ///
    /// # Errors
    /// [`Error::ImageShape`] for patches of another size.
    pub(super) fn forward_flat(&self, values: &Tensor) -> Result<Tensor> {
        let (b, n, found) = values.dims3()?;
        let (p, c) = (self.patch_size, self.in_channels);
        if found != p * p * c {
            return Err(Error::ImageShape {
                expected: format!("(B, N, {}), flat patches of {p} x {p} x {c}", p * p * c),
                found: values.dims().to_vec(),
            });
        }
        // The layer's order is a convolution's: channel, row, column.
        let values = values.reshape((b * n, p * p, c))?.transpose(1, 2)?.contiguous()?;
        self.proj.forward(&values.reshape((b, n, found))?)
    }

    /// [`PatchEmbed::forward`] of the patches `keep` alone.
    ///
    /// # Shapes
    /// `images` (B, C, H, W); `keep` (B, K) `u32` patch indices, row major; result (B, K, D).
    ///
    /// # Errors
    /// As [`PatchEmbed::grid_of`]; an index beyond the grid.
    pub fn forward_kept(&self, images: &Tensor, keep: &Tensor) -> Result<(Tensor, PatchGrid)> {
        let grid = self.grid_of(images)?;
        let patches = pad_ops::gather_tokens(&patches(images, self.patch_size)?, keep)?;
        Ok((self.proj.forward(&patches)?, grid))
    }
}

/// Images cut into flat patches in the order of a convolution's kernel: channel, row, column.
///
/// # Shapes
/// `images` (B, C, H, W) -> (B, L, C p p), patches row major.
///
/// # Errors
/// [`Error::ImageShape`] unless `patch_size` divides both sides.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_adapter::vit::patches;
/// // Two channels, one patch of 2 x 2 pixels.
/// let images = Tensor::arange(0_f32, 8.0, &Device::Cpu)?.reshape((1, 2, 2, 2))?;
/// let flat = patches(&images, 2)?.flatten_all()?.to_vec1::<f32>()?;
/// assert_eq!(flat, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
pub fn patches(images: &Tensor, patch_size: usize) -> Result<Tensor> {
    cut(images, patch_size, [1, 3, 5])
}

/// Images cut into flat patches, pixel major, channel last: the order of MAE's targets.
///
/// # Shapes
/// `images` (B, C, H, W) -> (B, L, p p C), patches row major.
///
/// # Errors
/// [`Error::ImageShape`] unless `patch_size` divides both sides.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_adapter::vit::patchify;
/// // Two channels, one patch of 2 x 2 pixels: both values of a pixel stand together.
/// let images = Tensor::arange(0_f32, 8.0, &Device::Cpu)?.reshape((1, 2, 2, 2))?;
/// let flat = patchify(&images, 2)?.flatten_all()?.to_vec1::<f32>()?;
/// assert_eq!(flat, [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
pub fn patchify(images: &Tensor, patch_size: usize) -> Result<Tensor> {
    cut(images, patch_size, [3, 5, 1])
}

/// Flat patches whose values are in the order `inside` of the axes (image, channel, row of patches,
/// row, column of patches, column).
fn cut(images: &Tensor, patch_size: usize, inside: [usize; 3]) -> Result<Tensor> {
    let (b, c, height, width) = images.dims4()?;
    let grid = PatchGrid::of(ImageSize { height, width }, patch_size)?;
    let p = patch_size;
    let cut = images.reshape(&[b, c, grid.height, p, grid.width, p])?;
    let [first, second, third] = inside;
    let cut = cut.permute(vec![0, 2, 4, first, second, third])?.contiguous()?;
    Ok(cut.reshape((b, grid.len(), c * p * p))?)
}

/// The images that [`patchify`] cut.
///
/// # Shapes
/// `patches` (B, L, p p C) on `grid` -> (B, C, H, W).
///
/// # Errors
/// Patches that are not of `grid` and `patch_size`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_adapter::vit::{PatchGrid, patchify, unpatchify};
/// let images = Tensor::arange(0_f32, 8.0, &Device::Cpu)?.reshape((1, 1, 2, 4))?;
/// let back = unpatchify(&patchify(&images, 2)?, PatchGrid::new(1, 2), 2)?;
/// let values = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
/// assert_eq!((back.dims(), values(&back)?), (images.dims(), values(&images)?));
/// # Ok::<(), pad_adapter::Error>(())
/// ```
pub fn unpatchify(patches: &Tensor, grid: PatchGrid, patch_size: usize) -> Result<Tensor> {
    let (b, _, values) = patches.dims3()?;
    let p = patch_size;
    let c = values.checked_div(p * p).ok_or_else(|| Error::ImageShape {
        expected: "patches of at least 1 pixel".into(),
        found: patches.dims().to_vec(),
    })?;
    let cut = patches.reshape(&[b, grid.height, grid.width, p, p, c])?;
    let images = cut.permute(vec![0, 5, 1, 3, 2, 4])?.contiguous()?;
    Ok(images.reshape((b, c, grid.height * p, grid.width * p))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two channels of 2 x 4 pixels in patches of 2 x 2: 0..8, then 8..16.
    #[test]
    fn orders_by_hand() {
        let images = Tensor::arange(0_f32, 16.0, &Device::Cpu).unwrap();
        let images = images.reshape((1, 2, 2, 4)).unwrap();
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let kernel = patches(&images, 2).unwrap();
        assert_eq!(kernel.dims(), [1, 2, 8]);
        assert_eq!(values(&kernel)[..8], [0.0, 1.0, 4.0, 5.0, 8.0, 9.0, 12.0, 13.0]);
        let pixels = patchify(&images, 2).unwrap();
        assert_eq!(values(&pixels)[..8], [0.0, 8.0, 1.0, 9.0, 4.0, 12.0, 5.0, 13.0]);
        let back = unpatchify(&pixels, PatchGrid::new(1, 2), 2).unwrap();
        assert_eq!((back.dims(), values(&back)), (images.dims(), values(&images)));
    }

    #[test]
    fn refusals() {
        let images = Tensor::zeros((1, 1, 4, 6), candle_core::DType::F32, &Device::Cpu).unwrap();
        for patch_size in [0, 4] {
            assert!(matches!(patches(&images, patch_size), Err(Error::ImageShape { .. })));
            assert!(matches!(patchify(&images, patch_size), Err(Error::ImageShape { .. })));
        }
        let flat = Tensor::zeros((1, 2, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(
            unpatchify(&flat, PatchGrid::new(1, 2), 0),
            Err(Error::ImageShape { .. })
        ));
        assert!(unpatchify(&flat, PatchGrid::new(2, 2), 2).is_err());
    }
}
