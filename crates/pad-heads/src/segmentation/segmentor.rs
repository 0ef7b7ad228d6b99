//! Backbone, pyramid, decode head, auxiliary head, losses.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;
use pad_adapter::vit::ViT;
use pad_ops::{ImageSize, MatmulPrecision, Mode, cross_entropy2d, resize_bilinear};
use pad_train::{Collective, Losses};

use super::{
    BackboneKind, FcnHead, HeadKind, LinearHead, SegmentorConfig, UperConfig, UperHead, size_of,
};
use crate::{
    backbone::{DownstreamViT, FeatureExtractor, Pyramid},
    error::Result,
};

enum Head {
    Uper(Box<UperHead>),
    Linear(LinearHead),
}

/// A network that predicts a class for every pixel.
///
/// ```
/// use std::sync::Arc;
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::{params::ParamStore, vit::{ViT, ViTConfig}};
/// use pad_heads::segmentation::{BackboneForm, HeadKind, Segmentor, SegmentorConfig, UperConfig};
/// use pad_ops::{ImageSize, MatmulPrecision, Mode, rng::Key};
/// use pad_train::SingleProcess;
///
/// // A small one from random weights: a ViT of four blocks, UPerNet, three classes.
/// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 4, 2) };
/// let head = HeadKind::Uper(UperConfig { channels: 4, ..Default::default() });
/// let config = SegmentorConfig::on_backbone(vit, BackboneForm::Plain, head, 3);
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// let mut segmentor = store.build(|vb| Segmentor::new(&config, vb))?
///     .with_frozen_backbone(false) // true: it runs as in evaluation in training, too
///     .with_checkpointing(false)
///     .with_matmul_precision(MatmulPrecision::F32);
/// segmentor.synchronize(&(Arc::new(SingleProcess) as _)); // batch norms over several processes
///
/// // Evaluation: normalised images of any size -> logits of that size.
/// let images = Tensor::zeros((2, 3, 40, 48), DType::F32, &Device::Cpu)?;
/// assert_eq!(segmentor.logits(&images)?.dims(), [2, 3, 40, 48]);
/// let maps = segmentor.maps(&images.narrow(2, 0, 32)?, Mode::Eval)?;
/// assert_eq!(maps.iter().map(|map| map.dims()[2]).collect::<Vec<_>>(), [8, 4, 2, 1]);
///
/// // Training: sides that the patch divides; a class for each pixel, 255 for none.
/// let images = Tensor::zeros((2, 3, 32, 48), DType::F32, &Device::Cpu)?;
/// let labels = Tensor::zeros((2, 32, 48), DType::U8, &Device::Cpu)?;
/// let losses = segmentor.losses(&images, &labels, Mode::Train(Key::new(1)))?;
/// let names: Vec<&str> = losses.parts.iter().map(|(name, _)| *name).collect();
/// assert_eq!(names, ["decode", "auxiliary"]);
/// assert_eq!((segmentor.config().classes, segmentor.backbone().embed_dim()), (3, 16));
///
/// // Over your own network, which is a `FeatureExtractor`, built elsewhere.
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// let backbone = Box::new(store.build(|vb| ViT::new(&vit, vb))?);
/// let probe = SegmentorConfig::probe(vit, 3);
/// let probe = store.build(|vb| Segmentor::from_backbone(&probe, backbone, vb))?;
/// assert_eq!(probe.logits(&images)?.dims(), [2, 3, 32, 48]);
/// # Ok::<(), pad_heads::Error>(())
/// ```
pub struct Segmentor {
    config: SegmentorConfig,
    backbone: Box<dyn FeatureExtractor>,
    frozen_backbone: bool,
    pyramid: Option<Pyramid>,
    head: Head,
    auxiliary: Option<FcnHead>,
}

impl Segmentor {
    /// Builds the network from `vb`'s tensors.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config); tensors that `vb` lacks.
    pub fn new(config: &SegmentorConfig, vb: VarBuilder<'static>) -> Result<Self> {
        config.validate()?;
        let at = vb.pp("backbone");
        let backbone: Box<dyn FeatureExtractor> = match &config.backbone {
            BackboneKind::Downstream(config) => Box::new(DownstreamViT::new(config, at.clone())?),
            BackboneKind::Plain(config) => Box::new(ViT::new(config, at.clone())?),
        };
        Self::from_backbone(config, backbone, vb)
    }

    /// Builds a segmentor over an existing network; `config.backbone` then only documents it.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config); tensors that `vb` lacks.
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
                Head::Uper(Box::new(UperHead::new(uper, &inputs, classes, vb.pp("decode_head"))?)),
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
        let config = config.clone();
        Ok(Self { config, backbone, frozen_backbone: false, pyramid, head, auxiliary })
    }

    /// Shares the statistics of every batch norm among all processes of `group`, as
    /// mmsegmentation's `SyncBN` does.
    pub fn synchronize(&mut self, group: &Arc<dyn Collective>) {
        let over = crate::layers::sum_over(group);
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

    /// Sets activation checkpointing of the backbone's blocks, see
    /// [`FeatureExtractor::set_checkpointing`]. Default: off.
    #[must_use]
    pub fn with_checkpointing(mut self, checkpointing: bool) -> Self {
        self.backbone.set_checkpointing(checkpointing);
        self
    }

    /// Sets the precision of the matrix products of the backbone's blocks; those with relative
    /// positions or layer scale stay in `f32`. Default: `f32`.
    #[must_use]
    pub fn with_matmul_precision(mut self, precision: MatmulPrecision) -> Self {
        self.backbone.set_matmul_precision(precision);
        self
    }

    /// Sets whether nothing in the backbone trains: then it runs as in evaluation in training, too,
    /// without drop path and dropout, which would be noise that nothing learns from. Default: false.
    #[must_use]
    pub fn with_frozen_backbone(self, frozen_backbone: bool) -> Self {
        Self { frozen_backbone, ..self }
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &SegmentorConfig {
        &self.config
    }

    /// The backbone.
    pub fn backbone(&self) -> &dyn FeatureExtractor {
        &*self.backbone
    }

    /// Returns the input maps of the heads.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), sides that the patch divides.
    ///
    /// # Errors
    /// Images that do not fit.
    pub fn maps(&self, images: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        let below = if self.frozen_backbone { Mode::Eval } else { mode };
        let maps = self.backbone.maps(images, &self.config.blocks, below)?;
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

    /// Returns the logits of whole images at their own size. Images whose sides the patch does not
    /// divide are padded with zeros (the mean of normalised images) at the right and the bottom;
    /// the padding is cut off the result.
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

    /// Returns the losses of a batch: `decode`, and `auxiliary` times its weight; their sum is
    /// minimised.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), normalised, sides that the patch divides; `labels` (B, H, W) `u8` or
    /// `u32`.
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

    /// Returns the loss of logits of any size.
    fn loss(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (_, height, width) = labels.dims3()?;
        let size = ImageSize { height, width };
        let logits = resize_bilinear(logits, size, self.align_corners())?;
        let logits = logits.to_dtype(DType::F32)?;
        Ok(cross_entropy2d(&logits, labels, &self.config.loss)?)
    }
}
