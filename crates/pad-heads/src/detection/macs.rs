//! Multiply-adds of a detector.

use pad_ops::ImageSize;

use super::DetectorConfig;
use crate::macs::{block, conv, conv_transpose2x2, patch_embed};

impl DetectorConfig {
    /// Counts the multiply-adds of the detections of one image whose padded size is `image` as
    /// published tables do: products of matrices and convolutions. Box heads are counted for all
    /// proposals, the mask head for `max_detections`.
    ///
    /// ```
    /// use pad_heads::detection::DetectorConfig;
    /// use pad_ops::ImageSize;
    /// let config = DetectorConfig::default(); // ViTDet-B
    /// let gmacs = |side| config.macs(ImageSize::square(side)) / 1e9;
    /// assert!(gmacs(1024) > 400.0 && gmacs(512) < 0.5 * gmacs(1024));
    /// ```
    pub fn macs(&self, image: ImageSize) -> f64 {
        let patch = self.vit.patch_size.max(1);
        let grid = (image.height.div_ceil(patch), image.width.div_ceil(patch));
        let tokens = (grid.0 * grid.1) as f64;
        let blocks: f64 = (0..self.vit.depth).map(|index| block_of(self, index, grid)).sum();
        patch_embed(&self.vit, tokens)
            + blocks
            + pyramid(self, tokens)
            + spatial_prior(self, tokens)
            + rpn(self, tokens)
            + box_heads(self)
            + mask_head(self)
    }
}

fn block_of(config: &DetectorConfig, index: usize, (rows, columns): (usize, usize)) -> f64 {
    let tokens = (rows * columns) as f64;
    match config.backbone().window_of(index) {
        None => block(&config.vit, tokens, tokens, tokens),
        Some(side) => {
            let windows = rows.div_ceil(side.max(1)) * columns.div_ceil(side.max(1));
            let per_window = (side * side) as f64;
            block(&config.vit, tokens, windows as f64 * per_window, per_window)
        }
    }
}

/// Strides 4 to 32 from one map, each with a 1 x 1 and a 3 x 3 convolution.
fn pyramid(config: &DetectorConfig, tokens: f64) -> f64 {
    let (dim, channels) = (config.vit.embed_dim as f64, config.channels as f64);
    let out = |places: f64, inputs: f64| {
        conv(places, inputs, channels, 1) + conv(places, channels, channels, 3)
    };
    let quarter = conv_transpose2x2(tokens, dim, dim / 2.0)
        + conv_transpose2x2(4.0 * tokens, dim / 2.0, dim / 4.0)
        + out(16.0 * tokens, dim / 4.0);
    let half = conv_transpose2x2(tokens, dim, dim / 2.0) + out(4.0 * tokens, dim / 2.0);
    quarter + half + out(tokens, dim) + out(tokens / 4.0, dim)
}

/// Three 3 x 3 convolutions at strides 4, 4 and 8, and two of 1 x 1.
fn spatial_prior(config: &DetectorConfig, tokens: f64) -> f64 {
    let Some(width) = config.spatial_prior else { return 0.0 };
    let (width, out) = (width as f64, config.channels as f64);
    let (fine, coarse) = (16.0 * tokens, 4.0 * tokens);
    let pixels = config.vit.in_channels as f64 * (config.vit.patch_size as f64 / 4.0).powi(2);
    conv(fine, pixels, width, 3)
        + conv(fine, width, width, 3)
        + conv(coarse, 4.0 * width, 2.0 * width, 3)
        + conv(fine, width, out, 1)
        + conv(coarse, 2.0 * width, out, 1)
}

/// 3 x 3 convolutions, a score and four offsets for each anchor, at strides 4 to 64.
fn rpn(config: &DetectorConfig, tokens: f64) -> f64 {
    let channels = config.channels as f64;
    let places = tokens * (16.0 + 4.0 + 1.0 + 0.25 + 0.0625);
    let anchors = config.rpn.aspect_ratios.len() as f64;
    let convs = config.rpn.convs as f64 * conv(places, channels, channels, 3);
    convs + conv(places, channels, 5.0 * anchors, 1)
}

/// 3 x 3 convolutions on the places of each proposal, a linear layer, scores and offsets.
fn box_heads(config: &DetectorConfig) -> f64 {
    let (channels, hidden) = (config.channels as f64, config.head_dim as f64);
    let places = config.roi.pooler_resolution.pow(2) as f64;
    let convs = config.roi.convs as f64 * conv(places, channels, channels, 3);
    let linear = places * channels * hidden;
    let offsets = if config.class_agnostic() { 4.0 } else { 4.0 * config.classes as f64 };
    let outputs = hidden * (config.classes as f64 + 1.0 + offsets);
    let boxes = config.stages() * config.rpn.post_nms_top_n.test;
    boxes as f64 * (convs + linear + outputs)
}

/// 3 x 3 convolutions, one that doubles the sides, a map for each class.
fn mask_head(config: &DetectorConfig) -> f64 {
    if !config.masks {
        return 0.0;
    }
    let channels = config.channels as f64;
    let places = config.mask.pooler_resolution.pow(2) as f64;
    let convs = config.mask.convs as f64 * conv(places, channels, channels, 3);
    let upsampled = conv_transpose2x2(places, channels, channels)
        + conv(4.0 * places, channels, config.classes as f64, 1);
    config.max_detections as f64 * (convs + upsampled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        let image = ImageSize::new(512, 640);
        let boxes = DetectorConfig::default();
        let gmacs = boxes.macs(image) / 1e9;
        assert!((200.0..600.0).contains(&gmacs), "{gmacs}");
        let masks = DetectorConfig { masks: true, ..boxes.clone() };
        let places = 14.0 * 14.0;
        let head = 4.0 * 9.0 * places * 256.0 * 256.0 + 4.0 * places * 256.0 * (256.0 + 3.0);
        assert_eq!(masks.macs(image) - boxes.macs(image), 100.0 * head);
        let global = DetectorConfig { window: None, ..boxes.clone() };
        assert!(global.macs(image) > boxes.macs(image));
        // 3 channels of a sixteenth of a patch in; places of strides 4 and 8.
        let prior = DetectorConfig { spatial_prior: Some(8), ..boxes.clone() };
        let (fine, coarse) = (160.0 * 128.0, 80.0 * 64.0);
        let layers = fine * (9.0 * (48.0 * 8.0 + 8.0 * 8.0) + 8.0 * 256.0)
            + coarse * (9.0 * 32.0 * 16.0 + 16.0 * 256.0);
        assert_eq!(prior.macs(image) - boxes.macs(image), layers);
    }
}
