//! A detector's hyperparameters.

use pad_adapter::vit::ViTConfig;
use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    backbone::{SimplePyramid, WindowedConfig},
};

/// How the region proposal network proposes, and what it learns from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpnConfig {
    /// 3 x 3 convolutions in front of its two outputs. Default: 2.
    pub convs: usize,
    /// Side of the square anchors of each level, pixels: an anchor of the same area for each aspect ratio.
    /// Default: 32, 64, 128, 256, 512.
    pub anchor_sizes: Vec<f64>,
    /// Heights over widths of anchors. Default: 0.5, 1, 2.
    pub aspect_ratios: Vec<f64>,
    /// Best of a level that go into suppression, in training and after. Default: 2000, 1000.
    pub before_nms: [usize; 2],
    /// Best of an image that stay, in training and after. Default: 1000, 1000.
    pub after_nms: [usize; 2],
    /// Overlap above which the worse of two proposals of a level goes. Default: 0.7.
    pub nms: f64,
    /// Anchors below the first overlap with every object are background, from the second on objects, between them
    /// neither. Default: 0.3, 0.7.
    pub overlaps: [f64; 2],
    /// Anchors of an image that the losses are taken of. Default: 256.
    pub samples: usize,
    /// Share of objects among these, if there are as many. Default: 0.5.
    pub positive_share: f64,
    /// Where smooth L1 turns linear; 0: L1. Default: 0.
    pub smooth_l1: f64,
}

impl Default for RpnConfig {
    fn default() -> Self {
        Self {
            convs: 2,
            anchor_sizes: vec![32.0, 64.0, 128.0, 256.0, 512.0],
            aspect_ratios: vec![0.5, 1.0, 2.0],
            before_nms: [2000, 1000],
            after_nms: [1000, 1000],
            nms: 0.7,
            overlaps: [0.3, 0.7],
            samples: 256,
            positive_share: 0.5,
            smooth_l1: 0.0,
        }
    }
}

/// What the heads on boxes are made of and learn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoiConfig {
    /// Rows and columns of a box's features. Default: 7.
    pub pool: usize,
    /// 3 x 3 convolutions in front of the linear layer. Default: 4.
    pub convs: usize,
    /// One box for all classes instead of one for each. A cascade always has one. Default: no.
    pub class_agnostic: bool,
    /// Boxes of an image that the losses are taken of. Default: 512.
    pub samples: usize,
    /// Share of objects among these, if there are as many. Default: 0.25.
    pub positive_share: f64,
    /// Overlap from which a box is an object's (of the first stage of a cascade; 0.1 more in each other). Default: 0.5.
    pub overlap: f64,
    /// Where smooth L1 turns linear; 0: L1. Default: 0.
    pub smooth_l1: f64,
}

impl Default for RoiConfig {
    fn default() -> Self {
        Self {
            pool: 7,
            convs: 4,
            class_agnostic: false,
            samples: 512,
            positive_share: 0.25,
            overlap: 0.5,
            smooth_l1: 0.0,
        }
    }
}

/// What the head on masks is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskConfig {
    /// Rows and columns of a box's features; a mask has twice as many. Default: 14.
    pub pool: usize,
    /// 3 x 3 convolutions in front of the one that doubles the sides. Default: 4.
    pub convs: usize,
}

impl Default for MaskConfig {
    fn default() -> Self {
        Self { pool: 14, convs: 4 }
    }
}

/// A detector's hyperparameters. The default is ViTDet-B as the original trains it on FLIR.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectorConfig {
    /// The transformer; its `image_size` (or `pos_grid`) is that of pre-training.
    pub vit: ViTConfig,
    /// Rows and columns of a window of attention, tokens; 0: every block attends globally.
    pub window: usize,
    /// Blocks that attend globally.
    pub global_blocks: Vec<usize>,
    /// Whether blocks have decomposed relative positions.
    pub relative_positions: bool,
    /// Image size that the relative position tables of global blocks are made for.
    pub relative_size: ImageSize,
    /// Channels of the pyramid and of the heads' convolutions.
    pub channels: usize,
    /// Width of the linear layer of the head on boxes.
    pub head_dim: usize,
    /// Classes, without the background.
    pub classes: usize,
    /// Three heads, each of which refines the boxes of the one before (Cascade R-CNN, Cai and Vasconcelos, 2018).
    pub cascade: bool,
    /// A head on masks beside those on boxes (Mask R-CNN, He et al., 2017). The original trains boxes only.
    pub masks: bool,
    /// The region proposal network.
    pub rpn: RpnConfig,
    /// The heads on boxes.
    pub roi: RoiConfig,
    /// The head on masks, if there is one.
    pub mask: MaskConfig,
    /// Detections need a higher score than this.
    pub score: f64,
    /// Overlap above which the worse of two detections of a class goes.
    pub nms: f64,
    /// Most detections of an image.
    pub most: usize,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        let WindowedConfig { vit, window, global_blocks, relative_positions, relative_size } =
            WindowedConfig::default();
        Self {
            vit,
            window,
            global_blocks,
            relative_positions,
            relative_size,
            channels: 256,
            head_dim: 1024,
            classes: 3,
            cascade: false,
            masks: false,
            rpn: RpnConfig::default(),
            roi: RoiConfig::default(),
            mask: MaskConfig::default(),
            score: 0.05,
            nms: 0.5,
            most: 100,
        }
    }
}

impl DetectorConfig {
    /// The part that describes the backbone.
    pub fn backbone(&self) -> WindowedConfig {
        WindowedConfig {
            vit: self.vit,
            window: self.window,
            global_blocks: self.global_blocks.clone(),
            relative_positions: self.relative_positions,
            relative_size: self.relative_size,
        }
    }

    /// Pixels between neighbouring values of each map, finest first.
    pub fn strides(&self) -> [f32; SimplePyramid::LEVELS] {
        let patch = self.vit.patch_size as f32;
        [0.25, 0.5, 1.0, 2.0, 4.0].map(|factor| factor * patch)
    }

    /// Heads on boxes, one after the other.
    pub fn stages(&self) -> usize {
        if self.cascade { 3 } else { 1 }
    }

    /// Whether boxes are the same for all classes.
    pub fn class_agnostic(&self) -> bool {
        self.cascade || self.roi.class_agnostic
    }

    /// Every fault of the configuration at once.
    ///
    /// # Errors
    /// [`Error::Config`] or the backbone's own.
    pub fn validate(&self) -> Result<()> {
        self.backbone().validate()?;
        let mut faults = Vec::new();
        let counts = [
            ("channels", self.channels),
            ("head_dim", self.head_dim),
            ("classes", self.classes),
            ("most", self.most),
            ("rpn.convs", self.rpn.convs),
            ("rpn.samples", self.rpn.samples),
            ("rpn.before_nms", self.rpn.before_nms[0].min(self.rpn.before_nms[1])),
            ("rpn.after_nms", self.rpn.after_nms[0].min(self.rpn.after_nms[1])),
            ("roi.pool", self.roi.pool),
            ("roi.samples", self.roi.samples),
            ("mask.pool", self.mask.pool),
        ];
        for (name, count) in counts {
            if count == 0 {
                faults.push(format!("`{name}` is 0, expected at least 1"));
            }
        }
        let [low, high] = self.rpn.overlaps;
        let shares = [
            ("score", self.score),
            ("nms", self.nms),
            ("rpn.nms", self.rpn.nms),
            ("rpn.overlaps", low),
            ("rpn.overlaps", high),
            ("rpn.positive_share", self.rpn.positive_share),
            ("roi.positive_share", self.roi.positive_share),
            ("roi.overlap", self.roi.overlap),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                faults.push(format!("`{name}` is {share}, expected between 0 and 1"));
            }
        }
        if low > high {
            faults.push(format!("`rpn.overlaps` are {low} and {high}, expected the lower first"));
        }
        let levels = self.rpn.anchor_sizes.len();
        if levels != SimplePyramid::LEVELS {
            faults.push(format!("`rpn.anchor_sizes` has {levels} entries, expected 5"));
        }
        let positive =
            |values: &[f64]| values.iter().all(|value| value.is_finite() && *value > 0.0);
        if !positive(&self.rpn.anchor_sizes) {
            faults.push("`rpn.anchor_sizes`: expected finite sides above 0".into());
        }
        if self.rpn.aspect_ratios.is_empty() || !positive(&self.rpn.aspect_ratios) {
            faults.push("`rpn.aspect_ratios`: expected finite ratios above 0".into());
        }
        for (name, beta) in
            [("rpn.smooth_l1", self.rpn.smooth_l1), ("roi.smooth_l1", self.roi.smooth_l1)]
        {
            if !(beta.is_finite() && beta >= 0.0) {
                faults.push(format!("`{name}` is {beta}, expected a finite number >= 0"));
            }
        }
        if self.vit.embed_dim < 4 {
            faults.push(format!("`embed_dim` is {}, expected at least 4", self.vit.embed_dim));
        }
        Error::faults("detector", faults)
    }
}
