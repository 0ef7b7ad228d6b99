//! Feature maps of a ViT for dense heads.
//!
//! [`FeatureExtractor`] is what a head needs of a network; the original's downstream ViT ([`DownstreamViT`]) and any
//! [`ViT`] of pad-adapter (a frozen DINOv2, for one) have it; [`WindowedViT`] is that of detection. [`Pyramid`] makes four
//! sizes of four maps, [`SimplePyramid`] five of one.

mod downstream;
mod pyramid;
mod relative;
mod simple_pyramid;
mod windowed;

use candle_core::Tensor;
use pad_adapter::vit::ViT;
use pad_ops::Mode;

pub use downstream::{DownstreamConfig, DownstreamViT};
pub use pyramid::Pyramid;
pub use relative::{relative_bias_rows, relative_positions};
pub use simple_pyramid::SimplePyramid;
pub(crate) use windowed::zero_is_none;
pub use windowed::{WindowedConfig, WindowedViT};

use crate::Result;

/// A network whose blocks give maps of one size and width.
pub trait FeatureExtractor: Send + Sync {
    /// Maps after the chosen blocks, without the class token and without the final norm, in the order asked for.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), sides that the patch divides -> (B, D, H / patch, W / patch) each.
    ///
    /// # Errors
    /// Images or blocks that do not fit.
    fn maps(&self, images: &Tensor, blocks: &[usize], mode: Mode) -> Result<Vec<Tensor>>;

    /// Values per token, `D`.
    fn embed_dim(&self) -> usize;

    /// Blocks.
    fn depth(&self) -> usize;

    /// Side of a patch, pixels.
    fn patch_size(&self) -> usize;

    /// Channels of an image.
    fn in_channels(&self) -> usize;
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
}
