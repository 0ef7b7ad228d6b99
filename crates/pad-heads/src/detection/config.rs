//! The hyperparameters of a detector's parts. Names are detectron2's; those of files written before 0.1 are
//! read too.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    limits,
};

/// A number of boxes in training and in evaluation. Read from `{ train = 2000, test = 1000 }` or
/// `[2000, 1000]`.
///
/// ```
/// use pad_heads::detection::TopN;
/// let named: TopN = serde_json::from_str(r#"{"train": 2000, "test": 1000}"#)?;
/// assert_eq!(named, serde_json::from_str("[2000, 1000]")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use pad_heads::detection::RpnConfig;
/// let config = RpnConfig::default().with_proposals(300);
/// assert_eq!((config.pre_nms_top_n.train, config.post_nms_top_n.test), (600, 300));
/// ```
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
///
/// ```
/// use pad_heads::detection::RoiHeadsConfig;
/// let config = RoiHeadsConfig::default();
/// assert_eq!((config.pooler_resolution, config.batch_size_per_image), (7, 512));
/// ```
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
///
/// ```
/// assert_eq!(pad_heads::detection::MaskConfig::default().pooler_resolution, 14);
/// ```
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

/// Hyperparameters of what stands on a detector's feature maps: proposals, box and mask heads. The
/// default is that of [`DetectorConfig`](super::DetectorConfig).
///
/// ```
/// use pad_heads::detection::{DetectionHeadsConfig, RpnConfig};
/// let heads = DetectionHeadsConfig { classes: 2, ..Default::default() };
/// assert_eq!((heads.channels, heads.stages()), (256, 1));
/// heads.validate(5)?; // for five maps: there are five sizes of anchors
/// let refused = heads.validate(3).unwrap_err().to_string();
/// assert_eq!(refused, "detection heads: `rpn.anchor_sizes` has 5 entries, expected 3");
/// # Ok::<(), pad_heads::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionHeadsConfig {
    /// Channels of the maps and of the heads' convolutions. Default: 256.
    pub channels: usize,
    /// Width of the linear layer of the box head. Default: 1024.
    pub head_dim: usize,
    /// Number of classes, without the background. Default: 3.
    pub classes: usize,
    /// Whether three box heads refine each other's boxes (Cascade R-CNN). Default: false.
    pub cascade: bool,
    /// Whether there is a mask head beside the box heads (Mask R-CNN). Default: false.
    pub masks: bool,
    /// The region proposal network.
    pub rpn: RpnConfig,
    /// The box heads.
    pub roi: RoiHeadsConfig,
    /// The mask head; unused unless `masks` is set.
    pub mask: MaskConfig,
    /// Detections of a lower or equal score are dropped. Default: 0.05.
    pub score_threshold: f64,
    /// IoU above which the worse of two detections of a class is suppressed. Default: 0.5.
    pub nms_threshold: f64,
    /// Maximum number of detections per image. Default: 100.
    pub max_detections: usize,
}

impl Default for DetectionHeadsConfig {
    fn default() -> Self {
        Self {
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

impl DetectionHeadsConfig {
    /// Number of box heads, one after the other.
    pub fn stages(&self) -> usize {
        if self.cascade { 3 } else { 1 }
    }

    /// Whether boxes are the same for all classes.
    ///
    /// ```
    /// use pad_heads::detection::DetectionHeadsConfig;
    /// let plain = DetectionHeadsConfig::default();
    /// let cascade = DetectionHeadsConfig { cascade: true, ..Default::default() };
    /// assert_eq!((plain.class_agnostic(), cascade.class_agnostic()), (false, true));
    /// ```
    pub fn class_agnostic(&self) -> bool {
        self.cascade || self.roi.class_agnostic
    }

    /// Replaces the thresholds that are given.
    ///
    /// ```
    /// use pad_heads::detection::{DetectionHeadsConfig, Thresholds};
    /// let fewer = Thresholds { max_detections: Some(10), ..Default::default() };
    /// let config = DetectionHeadsConfig::default().with_thresholds(fewer);
    /// assert_eq!((config.max_detections, config.score_threshold), (10, 0.05));
    /// ```
    #[must_use]
    pub fn with_thresholds(&self, thresholds: Thresholds) -> Self {
        Self {
            score_threshold: thresholds.score.unwrap_or(self.score_threshold),
            nms_threshold: thresholds.nms.unwrap_or(self.nms_threshold),
            max_detections: thresholds.max_detections.unwrap_or(self.max_detections),
            ..self.clone()
        }
    }

    /// Checks every part for a number of feature maps and returns all faults at once.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(&self, levels: usize) -> Result<()> {
        Error::faults("detection heads", self.faults(levels))
    }

    pub(super) fn faults(&self, levels: usize) -> Vec<String> {
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
        let (wide, boxes) = (limits::WIDTH, limits::BOXES);
        faults.extend(limits::excesses([
            ("channels", self.channels, wide),
            ("head_dim", self.head_dim, wide),
            ("classes", self.classes, wide),
            ("max_detections", self.max_detections, boxes),
            ("rpn.convs", self.rpn.convs, limits::LAYERS),
            ("roi.convs", self.roi.convs, limits::LAYERS),
            ("mask.convs", self.mask.convs, limits::LAYERS),
            ("rpn.batch_size_per_image", self.rpn.batch_size_per_image, boxes),
            ("roi.batch_size_per_image", self.roi.batch_size_per_image, boxes),
            ("rpn.pre_nms_top_n", pre_nms.train.max(pre_nms.test), boxes),
            ("rpn.post_nms_top_n", post_nms.train.max(post_nms.test), boxes),
            ("roi.pooler_resolution", self.roi.pooler_resolution, limits::SIDE),
            ("mask.pooler_resolution", self.mask.pooler_resolution, limits::SIDE),
            ("the number of `rpn.aspect_ratios`", self.rpn.aspect_ratios.len(), limits::ENTRIES),
        ]));
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
        let sizes = self.rpn.anchor_sizes.len();
        if sizes != levels {
            faults.push(format!("`rpn.anchor_sizes` has {sizes} entries, expected {levels}"));
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
        faults
    }
}

/// Thresholds of detections that replace those of a configuration; `None` keeps the
/// configuration's.
///
/// ```
/// use pad_heads::detection::{DetectionHeadsConfig, Thresholds};
/// let thresholds = Thresholds { score: Some(0.5), ..Default::default() };
/// let config = DetectionHeadsConfig::default().with_thresholds(thresholds);
/// assert_eq!((config.score_threshold, config.nms_threshold), (0.5, 0.5));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Replaces [`DetectionHeadsConfig::score_threshold`].
    pub score: Option<f64>,
    /// Replaces [`DetectionHeadsConfig::nms_threshold`].
    pub nms: Option<f64>,
    /// Replaces [`DetectionHeadsConfig::max_detections`].
    pub max_detections: Option<usize>,
}
