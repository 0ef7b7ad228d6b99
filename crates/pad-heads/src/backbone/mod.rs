//! Feature maps of a ViT for dense heads.
//!
//! [`FeatureExtractor`] is implemented by the original's downstream ViT ([`DownstreamViT`]), by any
//! [`ViT`] of pad-adapter (e.g. a frozen DINOv2) and by the ViT of detection ([`WindowedViT`]).
//! [`Pyramid`] makes four sizes of four maps, [`SimplePyramid`] five of one.

mod downstream;
mod pyramid;
mod relative;
mod simple_pyramid;
mod spatial_prior;
mod windowed;

use candle_core::Tensor;
use pad_adapter::vit::{Block, ViT};
use pad_ops::{MatmulPrecision, Mode};

pub use downstream::{DownstreamConfig, DownstreamViT};
pub use pyramid::Pyramid;
pub use relative::{relative_bias_rows, relative_positions};
pub use simple_pyramid::SimplePyramid;
pub use spatial_prior::SpatialPrior;
pub(crate) use windowed::zero_is_none;
pub use windowed::{WindowedConfig, WindowedViT};

use crate::error::Result;

/// A network whose blocks return maps of one size and width.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::{params::ParamStore, vit::{ViT, ViTConfig}};
/// use pad_heads::backbone::FeatureExtractor;
/// use pad_ops::{Mode, rng::Key};
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// let vit = store.build(|vb| ViT::new(&ViTConfig::new(16, 8, 3, 2), vb))?;
/// let net: &dyn FeatureExtractor = &vit; // or a network of your own
/// let images = Tensor::zeros((2, 3, 32, 48), DType::F32, &Device::Cpu)?;
/// let maps = net.maps(&images, &[0, 2], Mode::Eval)?;
/// assert_eq!((maps.len(), maps[1].dims()), (2, &[2, 8, 2, 3][..]));
/// assert_eq!((net.embed_dim(), net.depth(), net.patch_size(), net.in_channels()), (8, 3, 16, 3));
/// # Ok::<(), pad_heads::Error>(())
/// ```
pub trait FeatureExtractor: Send + Sync {
    /// Returns the maps after the given blocks, in their order, without the class token and without
    /// the final norm.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), sides that the patch divides -> (B, D, H / patch, W / patch) each.
    ///
    /// # Errors
    /// Images or blocks that do not fit.
    fn maps(&self, images: &Tensor, blocks: &[usize], mode: Mode) -> Result<Vec<Tensor>>;

    /// Width of a token, `D`.
    fn embed_dim(&self) -> usize;

    /// Number of blocks.
    fn depth(&self) -> usize;

    /// Side of a patch, pixels.
    fn patch_size(&self) -> usize;

    /// Number of channels of an image.
    fn in_channels(&self) -> usize;

    /// Sets activation checkpointing where the network's blocks have it: they keep their input
    /// alone for the backward pass and compute the rest again. It has no effect on results.
    /// Default: nothing is set.
    fn set_checkpointing(&mut self, checkpointing: bool) {
        let _ = checkpointing;
    }

    /// Sets the precision of matrix products where the network's blocks have a choice. Default:
    /// nothing is set.
    fn set_matmul_precision(&mut self, precision: MatmulPrecision) {
        let _ = precision;
    }
}

/// Replaces every block by what `change` makes of it.
fn change_blocks(blocks: &mut Vec<Block>, change: impl Fn(Block) -> Block) {
    *blocks = std::mem::take(blocks).into_iter().map(change).collect();
}

impl FeatureExtractor for ViT {
    fn maps(&self, images: &Tensor, blocks: &[usize], mode: Mode) -> Result<Vec<Tensor>> {
        let maps = self.features(images, blocks, mode)?;
        Ok(maps.into_iter().map(|map| map.data).collect())
    }

    fn embed_dim(&self) -> usize {
        self.config().embed_dim
    }

    fn depth(&self) -> usize {
        self.config().depth
    }

    fn patch_size(&self) -> usize {
        self.config().patch_size
    }

    fn in_channels(&self) -> usize {
        self.config().in_channels
    }

    fn set_checkpointing(&mut self, checkpointing: bool) {
        *self = self.clone().with_checkpointing(checkpointing);
    }

    fn set_matmul_precision(&mut self, precision: MatmulPrecision) {
        *self = self.clone().with_matmul_precision(precision);
    }
}
