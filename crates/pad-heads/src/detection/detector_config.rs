//! The hyperparameters of a detector on a transformer. Files written before 0.1 are read too.

use pad_adapter::vit::ViTConfig;
use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use super::config::{DetectionHeadsConfig, MaskConfig, RoiHeadsConfig, RpnConfig, Thresholds};
use crate::{
    backbone::{SimplePyramid, SpatialPrior, WindowedConfig, zero_is_none},
    error::{Error, Result},
};

/// Hyperparameters of a detector. The default is ViTDet-B as the original trains it on FLIR.
///
/// ```
/// use pad_heads::detection::DetectorConfig;
/// let config = DetectorConfig { cascade: true, ..Default::default() };
/// assert_eq!((config.stages(), config.strides()), (3, [4.0, 8.0, 16.0, 32.0, 64.0]));
/// ```
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
    /// Channels of the convolutions that add detail of the image to the two finest maps of the
    /// pyramid ([`SpatialPrior`](crate::backbone::SpatialPrior)); `None`, as in the original, adds
    /// none (0 in files).
    #[serde(with = "zero_is_none")]
    pub spatial_prior: Option<usize>,
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
        let DetectionHeadsConfig {
            channels,
            head_dim,
            classes,
            cascade,
            masks,
            rpn,
            roi,
            mask,
            score_threshold,
            nms_threshold,
            max_detections,
        } = DetectionHeadsConfig::default();
        Self {
            vit,
            window,
            global_blocks,
            relative_positions,
            relative_size,
            spatial_prior: None,
            channels,
            head_dim,
            classes,
            cascade,
            masks,
            rpn,
            roi,
            mask,
            score_threshold,
            nms_threshold,
            max_detections,
        }
    }
}

impl DetectorConfig {
    /// Maps that boxes are pooled from; the coarsest one is for proposals alone.
    pub(super) const POOLED: usize = 4;

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
    ///
    /// ```
    /// use pad_heads::detection::{DetectorConfig, Thresholds};
    /// let config = DetectorConfig::default();
    /// assert_eq!((config.backbone().window, config.heads().channels), (Some(14), 256));
    /// assert!(!config.class_agnostic());
    /// let fewer = Thresholds { max_detections: Some(10), ..Default::default() };
    /// assert_eq!(config.with_thresholds(fewer).max_detections, 10);
    /// ```
    pub fn backbone(&self) -> WindowedConfig {
        WindowedConfig {
            vit: self.vit,
            window: self.window,
            global_blocks: self.global_blocks.clone(),
            relative_positions: self.relative_positions,
            relative_size: self.relative_size,
        }
    }

    /// The part that describes what stands on the pyramid.
    pub fn heads(&self) -> DetectionHeadsConfig {
        DetectionHeadsConfig {
            channels: self.channels,
            head_dim: self.head_dim,
            classes: self.classes,
            cascade: self.cascade,
            masks: self.masks,
            rpn: self.rpn.clone(),
            roi: self.roi.clone(),
            mask: self.mask.clone(),
            score_threshold: self.score_threshold,
            nms_threshold: self.nms_threshold,
            max_detections: self.max_detections,
        }
    }

    /// Pixels between neighbouring values of each map, finest first.
    pub fn strides(&self) -> [f32; SimplePyramid::LEVELS] {
        let patch = self.vit.patch_size as f32;
        [0.25, 0.5, 1.0, 2.0, 4.0].map(|factor| factor * patch)
    }

    /// Number of box heads, one after the other.
    pub fn stages(&self) -> usize {
        self.heads().stages()
    }

    /// Whether boxes are the same for all classes.
    pub fn class_agnostic(&self) -> bool {
        self.heads().class_agnostic()
    }

    /// Checks every part and returns all faults at once.
    ///
    /// # Errors
    /// [`Error::Config`] or the backbone's own.
    pub fn validate(&self) -> Result<()> {
        self.backbone().validate()?;
        let mut faults = self.heads().faults(SimplePyramid::LEVELS);
        if self.vit.embed_dim < 4 {
            faults.push(format!("`embed_dim` is {}, expected at least 4", self.vit.embed_dim));
        }
        if let Some(channels) = self.spatial_prior {
            faults.extend(SpatialPrior::faults(self.vit.patch_size, channels));
        }
        Error::faults("detector", faults)
    }
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
    use super::{super::config::TopN, *};

    /// The configuration of a detector's file as written before 0.1.
    const OLD: &str = r#"{"window":0,"global_blocks":[1],"relative_positions":true,"classes":4,
        "rpn":{"before_nms":[300,200],"after_nms":[120,80],"nms":0.6,"overlaps":[0.2,0.8],"samples":64,
               "positive_share":0.4,"smooth_l1":0.1},
        "roi":{"pool":5,"samples":32,"positive_share":0.3,"overlap":0.4,"smooth_l1":0.2},
        "mask":{"pool":6,"convs":1},"score":0.1,"nms":0.4,"most":30}"#;

    /// Every size of a configuration, far too large: an error that names it, before it is used.
    #[test]
    fn sizes_beyond_every_network_are_refused() {
        let json =
            serde_json::to_value(DetectorConfig { masks: true, ..Default::default() }).unwrap();
        let mut refused = 0;
        let mut paths: Vec<Vec<String>> =
            json.as_object().unwrap().keys().map(|key| vec![key.clone()]).collect();
        while let Some(path) = paths.pop() {
            let found = path.iter().fold(&json, |value, key| &value[key]);
            if let Some(entries) = found.as_object() {
                paths.extend(entries.keys().map(|key| [path.clone(), vec![key.clone()]].concat()));
                continue;
            }
            if !found.is_u64() {
                continue;
            }
            for huge in [1_u64 << 31, 1 << 62, u64::MAX] {
                let mut changed = json.clone();
                *path.iter().fold(&mut changed, |value, key| &mut value[key]) = huge.into();
                let config: DetectorConfig = serde_json::from_value(changed).unwrap();
                let error = config.validate().unwrap_err().to_string();
                assert!(error.contains("expected"), "{path:?}: {error}");
                refused += 1;
            }
        }
        assert!(refused >= 3 * 20, "{refused}");
    }

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
