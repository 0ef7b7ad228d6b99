//! The hyperparameters of a detector. Names are detectron2's; those of files written before 0.1 are
//! read too.

use pad_adapter::vit::ViTConfig;
use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use crate::{
    backbone::{SimplePyramid, WindowedConfig, zero_is_none},
    error::{Error, Result},
};

/// A number of boxes in training and in evaluation. Read from `{ train = 2000, test = 1000 }` or
/// `[2000, 1000]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "TopNForm")]
pub struct TopN {
    /// In training.
    pub train: usize,
    /// In evaluation.
    pub test: usize,
}

/// The forms of a [`TopN`] in files.
#[derive(Deserialize)]
#[serde(untagged)]
enum TopNForm {
    Pair([usize; 2]),
    Named { train: usize, test: usize },
}

impl From<TopNForm> for TopN {
    fn from(form: TopNForm) -> Self {
        match form {
            TopNForm::Pair([train, test]) | TopNForm::Named { train, test } => Self { train, test },
        }
    }
}

/// Hyperparameters of the region proposal network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpnConfig {
    /// Number of 3 x 3 convolutions in front of the two outputs. Default: 2.
    pub convs: usize,
    /// Side of the square anchor of each level, pixels; there is an anchor of the same area for
    /// each aspect ratio. Default: 32, 64, 128, 256, 512.
    pub anchor_sizes: Vec<f64>,
    /// Height over width of the anchors. Default: 0.5, 1, 2.
    pub aspect_ratios: Vec<f64>,
    /// Number of best-scoring proposals of each level that go into suppression. Default: 2000,
    /// 1000.
    #[serde(alias = "before_nms")]
    pub pre_nms_top_n: TopN,
    /// Number of best-scoring proposals of each image that are kept. Default: 1000, 1000.
    #[serde(alias = "after_nms")]
    pub post_nms_top_n: TopN,
    /// IoU above which the worse of two proposals of a level is suppressed. Default: 0.7.
    #[serde(alias = "nms")]
    pub nms_threshold: f64,
    /// Anchors whose IoU with every object is below the first threshold are background, those from
    /// the second one on are objects, the others are ignored. Default: 0.3, 0.7.
    #[serde(alias = "overlaps")]
    pub iou_thresholds: [f64; 2],
    /// Number of anchors sampled per image for the losses. Default: 256.
    #[serde(alias = "samples")]
    pub batch_size_per_image: usize,
    /// Largest share of objects among the sampled anchors. Default: 0.5.
    #[serde(alias = "positive_share")]
    pub positive_fraction: f64,
    /// Where smooth L1 turns linear; 0 is L1. Default: 0.
    #[serde(alias = "smooth_l1")]
    pub smooth_l1_beta: f64,
}

impl Default for RpnConfig {
    fn default() -> Self {
        Self {
            convs: 2,
            anchor_sizes: vec![32.0, 64.0, 128.0, 256.0, 512.0],
            aspect_ratios: vec![0.5, 1.0, 2.0],
            pre_nms_top_n: TopN { train: 2000, test: 1000 },
            post_nms_top_n: TopN { train: 1000, test: 1000 },
            nms_threshold: 0.7,
            iou_thresholds: [0.3, 0.7],
            batch_size_per_image: 256,
            positive_fraction: 0.5,
            smooth_l1_beta: 0.0,
        }
    }
}

impl RpnConfig {
    /// Keeps `count` proposals per image, chosen from `2 * count` per level in training and `count`
    /// in evaluation.
    #[must_use]
    pub fn with_proposals(self, count: usize) -> Self {
        Self {
            pre_nms_top_n: TopN { train: count.saturating_mul(2), test: count },
            post_nms_top_n: TopN { train: count, test: count },
            ..self
        }
    }
}

/// Hyperparameters of the box heads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoiHeadsConfig {
    /// Rows and columns of a box's features. Default: 7.
    #[serde(alias = "pool")]
    pub pooler_resolution: usize,
    /// Number of 3 x 3 convolutions in front of the linear layer. Default: 4.
    pub convs: usize,
    /// Whether one box is predicted for all classes instead of one for each; always so in a
    /// cascade. Default: false.
    pub class_agnostic: bool,
    /// Number of boxes sampled per image for the losses. Default: 512.
    #[serde(alias = "samples")]
    pub batch_size_per_image: usize,
    /// Largest share of objects among the sampled boxes. Default: 0.25.
    #[serde(alias = "positive_share")]
    pub positive_fraction: f64,
    /// IoU from which a box is an object (in the first stage of a cascade; 0.1 more in each
    /// following one). Default: 0.5.
    #[serde(alias = "overlap")]
    pub iou_threshold: f64,
    /// Where smooth L1 turns linear; 0 is L1. Default: 0.
    #[serde(alias = "smooth_l1")]
    pub smooth_l1_beta: f64,
}

impl Default for RoiHeadsConfig {
    fn default() -> Self {
        Self {
            pooler_resolution: 7,
            convs: 4,
            class_agnostic: false,
            batch_size_per_image: 512,
            positive_fraction: 0.25,
            iou_threshold: 0.5,
            smooth_l1_beta: 0.0,
        }
    }
}

/// Hyperparameters of the mask head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskConfig {
    /// Rows and columns of a box's features; a mask has twice as many. Default: 14.
    #[serde(alias = "pool")]
    pub pooler_resolution: usize,
    /// Number of 3 x 3 convolutions in front of the one that doubles the sides. Default: 4.
    pub convs: usize,
}

impl Default for MaskConfig {
    fn default() -> Self {
        Self { pooler_resolution: 14, convs: 4 }
    }
}

/// Hyperparameters of a detector. The default is ViTDet-B as the original trains it on FLIR.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectorConfig {
    /// The transformer; its `image_size` (or `pos_grid`) is that of pre-training.
    pub vit: ViTConfig,
    /// Rows and columns of a window of attention, tokens; `None` makes every block attend globally
    /// (0 in files).
    #[serde(with = "zero_is_none")]
    pub window: Option<usize>,
    /// Blocks that attend globally.
    pub global_blocks: Vec<usize>,
    /// Whether blocks have decomposed relative positions.
    pub relative_positions: bool,
    /// Image size that the relative position tables of global blocks are made for.
    pub relative_size: ImageSize,
    /// Channels of the pyramid and of the heads' convolutions.
    pub channels: usize,
    /// Width of the linear layer of the box head.
    pub head_dim: usize,
    /// Number of classes, without the background.
    pub classes: usize,
    /// Whether three box heads refine each other's boxes (Cascade R-CNN, Cai and Vasconcelos,
    /// 2018).
    pub cascade: bool,
    /// Whether there is a mask head beside the box heads (Mask R-CNN, He et al., 2017). The
    /// original has none.
    pub masks: bool,
    /// The region proposal network.
    pub rpn: RpnConfig,
    /// The box heads.
    pub roi: RoiHeadsConfig,
    /// The mask head; unused unless `masks` is set.
    pub mask: MaskConfig,
    /// Detections of a lower or equal score are dropped. Default: 0.05.
    #[serde(alias = "score")]
    pub score_threshold: f64,
    /// IoU above which the worse of two detections of a class is suppressed. Default: 0.5.
    #[serde(alias = "nms")]
    pub nms_threshold: f64,
    /// Maximum number of detections per image. Default: 100.
    #[serde(alias = "most")]
    pub max_detections: usize,
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
            roi: RoiHeadsConfig::default(),
            mask: MaskConfig::default(),
            score_threshold: 0.05,
            nms_threshold: 0.5,
            max_detections: 100,
        }
    }
}

impl DetectorConfig {
    /// A detector on the transformer `vit`; of each quarter of its blocks the last one attends
    /// globally.
    ///
    /// ```
    /// use pad_adapter::vit::ViTConfig;
    /// use pad_heads::detection::DetectorConfig;
    ///
    /// let vit = ViTConfig::base(16);
    /// let config = DetectorConfig { masks: true, ..DetectorConfig::on_backbone(vit, 4) };
    /// assert_eq!(config.global_blocks, [2, 5, 8, 11]);
    /// config.validate()?;
    /// # Ok::<(), pad_heads::Error>(())
    /// ```
    pub fn on_backbone(vit: ViTConfig, classes: usize) -> Self {
        let mut global_blocks: Vec<usize> =
            (1..=4).filter_map(|quarter| (quarter * vit.depth / 4).checked_sub(1)).collect();
        global_blocks.dedup();
        Self { vit, global_blocks, classes, ..Self::default() }
    }

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

    /// Number of box heads, one after the other.
    pub fn stages(&self) -> usize {
        if self.cascade { 3 } else { 1 }
    }

    /// Whether boxes are the same for all classes.
    pub fn class_agnostic(&self) -> bool {
        self.cascade || self.roi.class_agnostic
    }

    /// Checks every part and returns all faults at once.
    ///
    /// # Errors
    /// [`Error::Config`] or the backbone's own.
    pub fn validate(&self) -> Result<()> {
        self.backbone().validate()?;
        let mut faults = Vec::new();
        let (pre_nms, post_nms) = (self.rpn.pre_nms_top_n, self.rpn.post_nms_top_n);
        let counts = [
            ("channels", self.channels),
            ("head_dim", self.head_dim),
            ("classes", self.classes),
            ("max_detections", self.max_detections),
            ("rpn.convs", self.rpn.convs),
            ("rpn.batch_size_per_image", self.rpn.batch_size_per_image),
            ("rpn.pre_nms_top_n", pre_nms.train.min(pre_nms.test)),
            ("rpn.post_nms_top_n", post_nms.train.min(post_nms.test)),
            ("roi.pooler_resolution", self.roi.pooler_resolution),
            ("roi.batch_size_per_image", self.roi.batch_size_per_image),
            ("mask.pooler_resolution", self.mask.pooler_resolution),
        ];
        for (name, count) in counts {
            if count == 0 {
                faults.push(format!("`{name}` is 0, expected at least 1"));
            }
        }
        let [low, high] = self.rpn.iou_thresholds;
        let shares = [
            ("score_threshold", self.score_threshold),
            ("nms_threshold", self.nms_threshold),
            ("rpn.nms_threshold", self.rpn.nms_threshold),
            ("rpn.iou_thresholds", low),
            ("rpn.iou_thresholds", high),
            ("rpn.positive_fraction", self.rpn.positive_fraction),
            ("roi.positive_fraction", self.roi.positive_fraction),
            ("roi.iou_threshold", self.roi.iou_threshold),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                faults.push(format!("`{name}` is {share}, expected between 0 and 1"));
            }
        }
        if low > high {
            faults.push(format!(
                "`rpn.iou_thresholds` are {low} and {high}, expected the lower first"
            ));
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
        let betas = [
            ("rpn.smooth_l1_beta", self.rpn.smooth_l1_beta),
            ("roi.smooth_l1_beta", self.roi.smooth_l1_beta),
        ];
        for (name, beta) in betas {
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

/// Thresholds of detections that replace those of a configuration; `None` keeps the
/// configuration's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Replaces [`DetectorConfig::score_threshold`].
    pub score: Option<f64>,
    /// Replaces [`DetectorConfig::nms_threshold`].
    pub nms: Option<f64>,
    /// Replaces [`DetectorConfig::max_detections`].
    pub max_detections: Option<usize>,
}

impl DetectorConfig {
    /// Replaces the thresholds that are given.
    #[must_use]
    pub fn with_thresholds(self, thresholds: Thresholds) -> Self {
        Self {
            score_threshold: thresholds.score.unwrap_or(self.score_threshold),
            nms_threshold: thresholds.nms.unwrap_or(self.nms_threshold),
            max_detections: thresholds.max_detections.unwrap_or(self.max_detections),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration of a detector's file as written before 0.1.
    const OLD: &str = r#"{"window":0,"global_blocks":[1],"relative_positions":true,"classes":4,
        "rpn":{"before_nms":[300,200],"after_nms":[120,80],"nms":0.6,"overlaps":[0.2,0.8],"samples":64,
               "positive_share":0.4,"smooth_l1":0.1},
        "roi":{"pool":5,"samples":32,"positive_share":0.3,"overlap":0.4,"smooth_l1":0.2},
        "mask":{"pool":6,"convs":1},"score":0.1,"nms":0.4,"most":30}"#;

    #[test]
    fn names_of_old_files_are_read() {
        let config: DetectorConfig = serde_json::from_str(OLD).unwrap();
        let expected = DetectorConfig {
            window: None,
            global_blocks: vec![1],
            classes: 4,
            rpn: RpnConfig {
                pre_nms_top_n: TopN { train: 300, test: 200 },
                post_nms_top_n: TopN { train: 120, test: 80 },
                nms_threshold: 0.6,
                iou_thresholds: [0.2, 0.8],
                batch_size_per_image: 64,
                positive_fraction: 0.4,
                smooth_l1_beta: 0.1,
                ..Default::default()
            },
            roi: RoiHeadsConfig {
                pooler_resolution: 5,
                batch_size_per_image: 32,
                positive_fraction: 0.3,
                iou_threshold: 0.4,
                smooth_l1_beta: 0.2,
                ..Default::default()
            },
            mask: MaskConfig { pooler_resolution: 6, convs: 1 },
            score_threshold: 0.1,
            nms_threshold: 0.4,
            max_detections: 30,
            ..Default::default()
        };
        assert_eq!(config, expected);
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""window":0"#) && text.contains("pre_nms_top_n"), "{text}");
        assert_eq!(serde_json::from_str::<DetectorConfig>(&text).unwrap(), config);
    }
}
