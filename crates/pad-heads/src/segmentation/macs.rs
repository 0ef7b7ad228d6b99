//! Multiply-adds of a segmentor.

use pad_ops::ImageSize;

use super::{HeadKind, SegmentorConfig, UperConfig};
use crate::{
    backbone::Pyramid,
    macs::{block, conv, conv_transpose2x2, patch_embed},
};

impl SegmentorConfig {
    /// Counts the multiply-adds of the logits of one image of size `image` as published tables do:
    /// products of matrices and convolutions.
    ///
    /// ```
    /// use pad_heads::segmentation::SegmentorConfig;
    /// use pad_ops::ImageSize;
    /// let config = SegmentorConfig::original(9); // UPerNet on ViT-B
    /// let gmacs = |side| config.macs(ImageSize::square(side)) / 1e9;
    /// assert!(gmacs(512) > 100.0 && gmacs(256) < 0.3 * gmacs(512));
    /// ```
    pub fn macs(&self, image: ImageSize) -> f64 {
        let vit = self.backbone.vit();
        let patch = vit.patch_size.max(1);
        let patches = (image.height.div_ceil(patch) * image.width.div_ceil(patch)) as f64;
        let tokens = patches + 1.0;
        let blocks = self.blocks.iter().max().map_or(0, |last| last + 1);
        let blocks = blocks as f64 * block(vit, tokens, tokens, tokens);
        let dim = vit.embed_dim as f64;
        let classes = self.classes as f64;
        let head = match &self.head {
            HeadKind::Linear => conv(patches, dim * self.blocks.len() as f64, classes, 1),
            HeadKind::Uper(config) => pyramid(patches, dim) + uper(config, patches, dim, classes),
        };
        patch_embed(vit, patches) + blocks + head
    }
}

/// Four maps of 4, 2, 1 and 1/2 times the patch grid.
fn pyramid(patches: f64, dim: f64) -> f64 {
    conv_transpose2x2(patches, dim, dim)
        + conv_transpose2x2(4.0 * patches, dim, dim)
        + conv_transpose2x2(patches, dim, dim)
}

fn uper(config: &UperConfig, patches: f64, dim: f64, classes: f64) -> f64 {
    let channels = config.channels as f64;
    let places = [16.0 * patches, 4.0 * patches, patches, patches / 4.0];
    let [first, .., last] = places;
    let pools: f64 =
        (config.pool_scales.iter()).map(|&side| conv((side * side) as f64, dim, channels, 1)).sum();
    let pooled = dim + config.pool_scales.len() as f64 * channels;
    let bottleneck = conv(last, pooled, channels, 3);
    let levels: f64 = places[..Pyramid::LEVELS - 1]
        .iter()
        .map(|&places| conv(places, dim, channels, 1) + conv(places, channels, channels, 3))
        .sum();
    let fuse = conv(first, Pyramid::LEVELS as f64 * channels, channels, 3);
    pools + bottleneck + levels + fuse + conv(first, channels, classes, 1)
}

#[cfg(test)]
mod tests {
    use pad_adapter::vit::ViTConfig;

    use super::*;

    #[test]
    fn counts_by_hand() {
        // 2 x 3 patches of 3 * 16 * 16 values; 7 tokens through one block; two classes.
        let vit = ViTConfig::new(16, 8, 1, 2);
        let config = SegmentorConfig::probe(vit, 2);
        let expected = 6 * 768 * 8 + (4 * 7 * 64 + 2 * 7 * 7 * 8) + 2 * 7 * 64 * 4 + 6 * 8 * 2;
        assert_eq!(config.macs(ImageSize::new(32, 40)), f64::from(expected));
        // The original at 512 x 512: UPerNet of 768 channels dominates.
        let gmacs = SegmentorConfig::original(21).macs(ImageSize::square(512)) / 1e9;
        assert!((550.0..1100.0).contains(&gmacs), "{gmacs}");
    }
}
