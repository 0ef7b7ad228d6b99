//! The hyperparameters of a segmentor: its backbone, heads and loss.

use std::{fmt, str::FromStr};

use pad_adapter::vit::ViTConfig;
use pad_ops::CrossEntropy;
use serde::{Deserialize, Serialize};

use super::{FcnConfig, UperConfig};
use crate::{
    backbone::{DownstreamConfig, Pyramid},
    error::{Error, Result},
    limits,
    plan::unknown_name,
};

/// The form of a transformer under a segmentor.
///
/// ```
/// use pad_heads::segmentation::BackboneForm;
/// assert_eq!("plain".parse::<BackboneForm>()?, BackboneForm::Plain);
/// assert_eq!(BackboneForm::Downstream.to_string(), "downstream");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackboneForm {
    /// The original's downstream form: relative positions, layer scale, no final norm.
    Downstream,
    /// As it was pre-trained.
    Plain,
}

impl BackboneForm {
    /// The names, as [`FromStr`] reads them.
    pub const NAMES: &[&str] = &["downstream", "plain"];
}

impl fmt::Display for BackboneForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            BackboneForm::Downstream => "downstream",
            BackboneForm::Plain => "plain",
        })
    }
}

impl FromStr for BackboneForm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "downstream" => Ok(BackboneForm::Downstream),
            "plain" => Ok(BackboneForm::Plain),
            found => Err(unknown_name("form of the backbone", Self::NAMES, found)),
        }
    }
}

/// The backbone of a segmentor.
///
/// ```
/// use pad_adapter::vit::ViTConfig;
/// use pad_heads::segmentation::{BackboneForm, BackboneKind};
/// let kind = BackboneKind::new(BackboneForm::Downstream, ViTConfig::base(16));
/// assert_eq!((kind.form(), kind.vit().layer_scale), (BackboneForm::Downstream, Some(1.0)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum BackboneKind {
    /// The original's downstream form.
    Downstream(DownstreamConfig),
    /// A ViT as it was pre-trained, with or without adapters, frozen or not, e.g. a DINOv2.
    Plain(ViTConfig),
}

impl BackboneKind {
    /// The transformer `vit` in a form. The downstream form gets relative positions (where
    /// the class token is all that stands in front of the patches), a position table of the image's
    /// grid, and layer scales that start at 1 where `vit` has none.
    pub fn new(form: BackboneForm, vit: ViTConfig) -> Self {
        match form {
            BackboneForm::Plain => BackboneKind::Plain(vit),
            BackboneForm::Downstream => {
                let layer_scale = Some(vit.layer_scale.unwrap_or(1.0));
                let vit = ViTConfig { layer_scale, pos_grid: None, ..vit };
                // Their tables have rows for a class token and none for registers.
                let relative_positions = vit.class_token && vit.register_tokens == 0;
                BackboneKind::Downstream(DownstreamConfig { vit, relative_positions })
            }
        }
    }

    /// The form of the transformer.
    pub fn form(&self) -> BackboneForm {
        match self {
            BackboneKind::Downstream(_) => BackboneForm::Downstream,
            BackboneKind::Plain(_) => BackboneForm::Plain,
        }
    }

    /// The transformer's hyperparameters.
    pub fn vit(&self) -> &ViTConfig {
        match self {
            BackboneKind::Downstream(config) => &config.vit,
            BackboneKind::Plain(config) => config,
        }
    }
}

/// The decode head of a segmentor.
///
/// ```
/// use pad_heads::segmentation::{HeadKind, UperConfig};
/// assert_eq!(HeadKind::Uper(UperConfig::default()).default_blocks(12), [3, 5, 7, 11]);
/// assert_eq!(HeadKind::Linear.default_blocks(12), [11]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum HeadKind {
    /// UPerNet over the pyramid of four maps.
    Uper(UperConfig),
    /// A linear classifier over the maps as they are, without a pyramid.
    Linear,
}

impl HeadKind {
    /// The names, as [`FromStr`] reads them.
    pub const NAMES: &[&str] = &["uper", "linear"];

    /// The blocks whose maps the head takes by default in a transformer of `depth` blocks: for
    /// UPerNet four, spread as 3, 5, 7 and 11 are over 12; for a linear head the last.
    pub fn default_blocks(&self, depth: usize) -> Vec<usize> {
        match self {
            HeadKind::Linear => vec![depth.saturating_sub(1)],
            HeadKind::Uper(_) => {
                [4, 6, 8, 12].map(|block| (block * depth / 12).saturating_sub(1)).to_vec()
            }
        }
    }
}

impl fmt::Display for HeadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            HeadKind::Uper(_) => "uper",
            HeadKind::Linear => "linear",
        })
    }
}

/// Reads a name; `uper` has the default hyperparameters.
impl FromStr for HeadKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "uper" => Ok(HeadKind::Uper(UperConfig::default())),
            "linear" => Ok(HeadKind::Linear),
            found => Err(unknown_name("head", Self::NAMES, found)),
        }
    }
}

/// Hyperparameters of a segmentor.
///
/// ```
/// use pad_adapter::vit::ViTConfig;
/// use pad_heads::segmentation::{BackboneForm, HeadKind, SegmentorConfig};
/// let original = SegmentorConfig::original(9);
/// assert_eq!(original.blocks, [3, 5, 7, 11]);
/// assert!(original.auxiliary.is_some());
/// let probe = SegmentorConfig::probe(ViTConfig::dinov2_small(), 9); // frozen features, one layer
/// assert_eq!((probe.blocks.as_slice(), probe.head), (&[11][..], HeadKind::Linear));
/// assert_eq!(probe.backbone.form(), BackboneForm::Plain);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentorConfig {
    /// The backbone.
    pub backbone: BackboneKind,
    /// Blocks whose outputs are the maps. UPerNet takes four.
    pub blocks: Vec<usize>,
    /// The decode head.
    pub head: HeadKind,
    /// The auxiliary head in training, if any.
    pub auxiliary: Option<FcnConfig>,
    /// Number of classes.
    pub classes: usize,
    /// Cross-entropy of the pixels.
    #[serde(default)]
    pub loss: CrossEntropy,
}

impl SegmentorConfig {
    /// The original's: ViT-B in the downstream form, blocks 3, 5, 7 and 11, UPerNet, auxiliary
    /// head.
    pub fn original(classes: usize) -> Self {
        let vit = DownstreamConfig::default().vit;
        let head = HeadKind::Uper(UperConfig::default());
        Self::on_backbone(vit, BackboneForm::Downstream, head, classes)
    }

    /// A linear probe on the last block of `vit`.
    pub fn probe(vit: ViTConfig, classes: usize) -> Self {
        Self::on_backbone(vit, BackboneForm::Plain, HeadKind::Linear, classes)
    }

    /// A head on the transformer `vit` in a form, over its default blocks; UPerNet gets the
    /// auxiliary head.
    ///
    /// ```
    /// use pad_adapter::vit::ViTConfig;
    /// use pad_heads::segmentation::{BackboneForm, HeadKind, SegmentorConfig};
    ///
    /// let head: HeadKind = "uper".parse()?;
    /// let config = SegmentorConfig {
    ///     auxiliary: None,
    ///     ..SegmentorConfig::on_backbone(ViTConfig::base(16), BackboneForm::Plain, head, 9)
    /// };
    /// assert_eq!(config.blocks, [3, 5, 7, 11]);
    /// config.validate()?;
    /// # Ok::<(), pad_heads::Error>(())
    /// ```
    pub fn on_backbone(vit: ViTConfig, form: BackboneForm, head: HeadKind, classes: usize) -> Self {
        Self {
            backbone: BackboneKind::new(form, vit),
            blocks: head.default_blocks(vit.depth),
            auxiliary: matches!(head, HeadKind::Uper(_)).then(FcnConfig::default),
            head,
            classes,
            loss: CrossEntropy::default(),
        }
    }

    /// Checks every part and returns all faults at once.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(&self) -> Result<()> {
        match &self.backbone {
            BackboneKind::Downstream(config) => config.validate()?,
            BackboneKind::Plain(config) => config.validate()?,
        }
        let mut faults = Vec::new();
        let depth = self.backbone.vit().depth;
        // Layers multiply these.
        faults.extend(limits::excesses([
            ("classes", self.classes, limits::WIDTH),
            ("the number of `blocks`", self.blocks.len(), limits::ENTRIES),
        ]));
        if let HeadKind::Uper(head) = &self.head {
            faults.extend(head.faults());
        }
        if self.classes == 0 {
            faults.push("`classes` is 0, expected at least 1".to_string());
        }
        if self.blocks.is_empty() {
            faults.push("`blocks` is empty, expected at least one block".to_string());
        }
        if let Some(block) = self.blocks.iter().find(|&&block| block >= depth) {
            faults.push(format!("`blocks` has {block}, expected indices below {depth}"));
        }
        if matches!(self.head, HeadKind::Uper(_)) && self.blocks.len() != Pyramid::LEVELS {
            let found = self.blocks.len();
            faults.push(format!("`blocks` has {found} entries, expected 4 for a pyramid"));
        }
        if let Some(auxiliary) = &self.auxiliary {
            if auxiliary.in_index >= self.blocks.len() {
                faults.push(format!(
                    "auxiliary: `in_index` is {}, expected less than the {} maps",
                    auxiliary.in_index,
                    self.blocks.len()
                ));
            }
            if auxiliary.channels == 0 {
                faults.push("auxiliary: `channels` is 0, expected at least 1".to_string());
            }
            let width = ("auxiliary: channels", auxiliary.channels, limits::WIDTH);
            faults.extend(limits::excesses([width]));
            if !(0.0..1.0).contains(&auxiliary.dropout) {
                let found = auxiliary.dropout;
                faults.push(format!("auxiliary: `dropout` is {found}, expected 0 <= dropout < 1"));
            }
            if !auxiliary.loss_weight.is_finite() {
                let found = auxiliary.loss_weight;
                faults
                    .push(format!("auxiliary: `loss_weight` is {found}, expected a finite number"));
            }
        }
        if let Some(weights) = &self.loss.class_weights
            && weights.len() != self.classes
        {
            let found = weights.len();
            faults.push(format!("`class_weights` has {found}, expected {}", self.classes));
        }
        Error::faults("segmentor", faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in BackboneForm::NAMES {
            assert_eq!(name.parse::<BackboneForm>().unwrap().to_string(), *name);
        }
        for name in HeadKind::NAMES {
            assert_eq!(name.parse::<HeadKind>().unwrap().to_string(), *name);
        }
        let refused = "upper".parse::<HeadKind>().unwrap_err().to_string();
        assert_eq!(refused, "head: expected uper or linear, found `upper` (did you mean `uper`?)");
    }

    #[test]
    fn sizes_beyond_every_network_are_refused() {
        let refused = |change: &dyn Fn(&mut SegmentorConfig)| {
            let mut config = SegmentorConfig::original(21);
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        let head = |head: UperConfig| {
            move |config: &mut SegmentorConfig| config.head = HeadKind::Uper(head.clone())
        };
        for huge in [65_537, usize::MAX] {
            let width = UperConfig { channels: huge, ..Default::default() };
            assert_eq!(
                refused(&head(width)),
                format!("segmentor: `channels` is {huge}, expected at most 65536")
            );
            let side = UperConfig { pool_scales: vec![1, huge], ..Default::default() };
            let expected = format!("segmentor: `pool_scales` is {huge}, expected at most 1024");
            assert_eq!(refused(&head(side)), expected);
            let classes = refused(&|config| config.classes = huge);
            assert_eq!(classes, format!("segmentor: `classes` is {huge}, expected at most 65536"));
            let auxiliary = refused(&|config| {
                config.auxiliary = Some(FcnConfig { channels: huge, ..Default::default() });
            });
            let expected =
                format!("segmentor: `auxiliary: channels` is {huge}, expected at most 65536");
            assert_eq!(auxiliary, expected);
            let blocks = refused(&|config| config.blocks = vec![huge; 4]);
            assert_eq!(
                blocks,
                format!("segmentor: `blocks` has {huge}, expected indices below 12")
            );
        }
        let many = UperConfig { pool_scales: vec![1; 300], ..Default::default() };
        let expected = "segmentor: the number of `pool_scales` is 300, expected at most 256";
        assert_eq!(refused(&head(many)), expected);
        let weight = FcnConfig { loss_weight: f64::INFINITY, ..Default::default() };
        let weight = refused(&move |config| config.auxiliary = Some(weight.clone()));
        assert_eq!(weight, "segmentor: auxiliary: `loss_weight` is inf, expected a finite number");
    }

    #[test]
    fn the_original_on_a_backbone() {
        let expected = SegmentorConfig {
            backbone: BackboneKind::Downstream(DownstreamConfig::default()),
            blocks: vec![3, 5, 7, 11],
            head: HeadKind::Uper(UperConfig::default()),
            auxiliary: Some(FcnConfig::default()),
            classes: 21,
            loss: CrossEntropy::default(),
        };
        assert_eq!(SegmentorConfig::original(21), expected);
    }
}
