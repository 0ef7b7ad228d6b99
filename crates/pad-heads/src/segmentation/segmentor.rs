//! Backbone, pyramid, decode head, auxiliary head, losses.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;
use pad_adapter::vit::{ViT, ViTConfig};
use pad_ops::{CrossEntropy, ImageSize, Mode, cross_entropy2d, resize_bilinear};
use pad_train::{Collective, Losses};
use serde::{Deserialize, Serialize};

use super::{FcnConfig, FcnHead, LinearHead, UperConfig, UperHead, size_of};
use crate::{
    Error, Result,
    backbone::{DownstreamConfig, DownstreamViT, FeatureExtractor, Pyramid},
};

/// Which network gives the maps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum BackboneKind {
    /// The original's downstream form.
    Downstream(DownstreamConfig),
    /// A ViT as it was pre-trained, with or without adapters (features frozen or not): a DINOv2, for one.
    Plain(ViTConfig),
}

impl BackboneKind {
    /// The transformer's hyperparameters.
    pub fn vit(&self) -> &ViTConfig {
        match self {
            BackboneKind::Downstream(config) => &config.vit,
            BackboneKind::Plain(config) => config,
        }
    }
}

/// Which head decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HeadKind {
    /// UPerNet over the pyramid of four maps.
    Uper(UperConfig),
    /// A linear classifier over the maps as they are, without a pyramid.
    Linear,
}

/// A segmentor's hyperparameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentorConfig {
    /// The network.
    pub backbone: BackboneKind,
    /// Blocks whose outputs are the maps. UPerNet takes four.
    pub blocks: Vec<usize>,
    /// The decode head.
    pub head: HeadKind,
    /// The auxiliary head, in training, if any.
    pub auxiliary: Option<FcnConfig>,
    /// Classes.
    pub classes: usize,
    /// How pixels count.
    #[serde(default)]
    pub loss: CrossEntropy,
}

impl SegmentorConfig {
    /// The original's: blocks 3, 5, 7 and 11, UPerNet, auxiliary head.
    pub fn original(classes: usize) -> Self {
        Self {
            backbone: BackboneKind::Downstream(DownstreamConfig::default()),
            blocks: vec![3, 5, 7, 11],
            head: HeadKind::Uper(UperConfig::default()),
            auxiliary: Some(FcnConfig::default()),
            classes,
            loss: CrossEntropy::default(),
        }
    }

    /// A linear probe on the last block of `vit`.
    pub fn probe(vit: ViTConfig, classes: usize) -> Self {
        Self {
            backbone: BackboneKind::Plain(vit),
            blocks: vec![vit.depth.saturating_sub(1)],
            head: HeadKind::Linear,
            auxiliary: None,
            classes,
            loss: CrossEntropy::default(),
        }
    }

    /// Every fault of the configuration at once.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let depth = self.backbone.vit().depth;
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
            if !(0.0..1.0).contains(&auxiliary.dropout) {
                let found = auxiliary.dropout;
                faults.push(format!("auxiliary: `dropout` is {found}, expected 0 <= dropout < 1"));
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

enum Head {
    Uper(UperHead),
    Linear(LinearHead),
}

/// A network that gives every pixel a class.
pub struct Segmentor {
    config: SegmentorConfig,
    backbone: Box<dyn FeatureExtractor>,
    pyramid: Option<Pyramid>,
    head: Head,
    auxiliary: Option<FcnHead>,
}

impl Segmentor {
    /// Builds the network from `vb`'s tensors.
    ///
    /// # Errors
    /// [`Error::Config`]; whatever `vb` refuses.
    pub fn new(config: &SegmentorConfig, vb: VarBuilder<'static>) -> Result<Self> {
        config.validate()?;
        let at = vb.pp("backbone");
        let backbone: Box<dyn FeatureExtractor> = match &config.backbone {
            BackboneKind::Downstream(config) => Box::new(DownstreamViT::new(config, at.clone())?),
            BackboneKind::Plain(config) => Box::new(ViT::new(config, at.clone())?),
        };
        Self::from_backbone(config, backbone, vb)
    }

    /// A segmentor over a network that is already there; `config.backbone` then only documents it.
    ///
    /// # Errors
    /// [`Error::Config`]; whatever `vb` refuses.
    pub fn from_backbone(
        config: &SegmentorConfig,
        backbone: Box<dyn FeatureExtractor>,
        vb: VarBuilder<'static>,
    ) -> Result<Self> {
        config.validate()?;
        let (dim, classes) = (backbone.embed_dim(), config.classes);
        let inputs = vec![dim; config.blocks.len()];
        let (pyramid, head) = match &config.head {
            HeadKind::Uper(uper) => (
                Some(Pyramid::new(dim, vb.pp("backbone"))?),
                Head::Uper(UperHead::new(uper, &inputs, classes, vb.pp("decode_head"))?),
            ),
            HeadKind::Linear => {
                (None, Head::Linear(LinearHead::new(&inputs, classes, vb.pp("decode_head"))?))
            }
        };
        let auxiliary = match &config.auxiliary {
            Some(auxiliary) => {
                Some(FcnHead::new(auxiliary, dim, classes, vb.pp("auxiliary_head"))?)
            }
            None => None,
        };
        Ok(Self { config: config.clone(), backbone, pyramid, head, auxiliary })
    }

    /// Takes the statistics of every batch norm over all processes of `group`, as mmsegmentation's `SyncBN`.
    pub fn synchronize(&mut self, group: &Arc<dyn Collective>) {
        let over = crate::layers::over(group);
        if let Some(pyramid) = &mut self.pyramid {
            pyramid.synchronize(&over);
        }
        match &mut self.head {
            Head::Uper(head) => head.synchronize(&over),
            Head::Linear(head) => head.synchronize(&over),
        }
        if let Some(auxiliary) = &mut self.auxiliary {
            auxiliary.synchronize(&over);
        }
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &SegmentorConfig {
        &self.config
    }

    /// The network under the heads.
    pub fn backbone(&self) -> &dyn FeatureExtractor {
        &*self.backbone
    }

    /// The maps that the heads see.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), sides that the patch divides.
    ///
    /// # Errors
    /// Images that do not fit.
    pub fn maps(&self, images: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        let maps = self.backbone.maps(images, &self.config.blocks, mode)?;
        match &self.pyramid {
            Some(pyramid) => pyramid.forward(&maps, mode),
            None => Ok(maps),
        }
    }

    fn decode(&self, maps: &[Tensor], mode: Mode) -> Result<Tensor> {
        match &self.head {
            Head::Uper(head) => head.forward(maps, mode),
            Head::Linear(head) => head.forward(maps, mode),
        }
    }

    fn align_corners(&self) -> bool {
        matches!(&self.config.head, HeadKind::Uper(UperConfig { align_corners: true, .. }))
    }

    /// Logits of whole images at their own size. Images whose sides the patch does not divide are padded with zeros (the
    /// mean of normalised images) at the right and the bottom, and what was padded is cut off again.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), normalised -> (B, classes, H, W).
    ///
    /// # Errors
    /// Images that do not fit.
    pub fn logits(&self, images: &Tensor) -> Result<Tensor> {
        let size = size_of(images)?;
        let patch = self.backbone.patch_size();
        let whole = |side: usize| side.next_multiple_of(patch).max(self.smallest_side());
        let padded = ImageSize::new(whole(size.height), whole(size.width));
        let images = images.pad_with_zeros(2, 0, padded.height - size.height)?.pad_with_zeros(
            3,
            0,
            padded.width - size.width,
        )?;
        let logits = self.decode(&self.maps(&images, Mode::Eval)?, Mode::Eval)?;
        let logits = resize_bilinear(&logits, padded, self.align_corners())?;
        Ok(logits.narrow(2, 0, size.height)?.narrow(3, 0, size.width)?.contiguous()?)
    }

    /// The pyramid halves the patch grid once.
    fn smallest_side(&self) -> usize {
        self.backbone.patch_size() * if self.pyramid.is_some() { 2 } else { 1 }
    }

    /// The losses of a batch: `decode`, and `auxiliary` times its weight; their sum is what is minimised.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), normalised, sides that the patch divides; `labels` (B, H, W) `u8` or `u32`.
    ///
    /// # Errors
    /// Images or labels that do not fit.
    pub fn losses(&self, images: &Tensor, labels: &Tensor, mode: Mode) -> Result<Losses> {
        let maps = self.maps(images, mode)?;
        let decode = self.loss(&self.decode(&maps, mode)?, labels)?;
        let (Some(head), Some(config)) = (&self.auxiliary, &self.config.auxiliary) else {
            return Ok(Losses::new(decode));
        };
        let auxiliary = (self.loss(&head.forward(&maps, mode)?, labels)? * config.loss_weight)?;
        let total = (&decode + &auxiliary)?;
        Ok(Losses::new(total).with_part("decode", decode).with_part("auxiliary", auxiliary))
    }

    /// Logits of any size against labels.
    fn loss(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (_, height, width) = labels.dims3()?;
        let size = ImageSize { height, width };
        let logits = resize_bilinear(logits, size, self.align_corners())?;
        let logits = logits.to_dtype(DType::F32)?;
        Ok(cross_entropy2d(&logits, labels, &self.config.loss)?)
    }
}
