//! Masked prediction of a frozen encoder's features: any [`Teacher`], DINOv2 for one (MVP, EVA and
//! data2vec are of this kind).

use std::{any::Any, sync::Arc};

use candle_core::Tensor;
use candle_nn::VarBuilder;
use pad_adapter::vit::{
    ViT, ViTConfig,
    layers::{Linear, xavier_uniform},
};
use pad_ops::{MatmulPrecision, Mode, rng::Key};
use pad_train::Losses;
use serde::{Deserialize, Serialize};

use crate::{
    Error, FeatureLoss, Mask, Masking, Objective, Result, Teacher,
    masked_encoder::MaskedEncoder,
    student::{Spec, Student, missing_teacher},
};

/// Feature targets in the table of objectives.
pub(crate) const SPEC: Spec = Spec {
    name: "features",
    mask_ratio: 0.4,
    masking: Masking::Block,
    needs_teacher: true,
    decoder_tensor: None,
    build: |config, teacher, vb| {
        let teacher = teacher.ok_or_else(|| missing_teacher(SPEC.name))?;
        let features = FeatureTargetConfig {
            encoder: config.mae.encoder,
            target_dim: teacher.target_dim,
            masking: config.masking.unwrap_or(SPEC.masking),
            mask_ratio: config.mae.mask_ratio,
            loss: config.feature_loss,
            all_patches: config.all_patches,
        };
        let features = FeatureTarget::new(&features, Arc::clone(&teacher.teacher), vb)?
            .with_checkpointing(config.checkpointing)
            .with_matmul_precision(config.matmul_precision);
        Ok(Box::new(features))
    },
};

impl Student for FeatureTarget {
    fn encoder(&self) -> &ViT {
        self.encoder.vit()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A feature-target objective's hyperparameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureTargetConfig {
    /// The student.
    pub encoder: ViTConfig,
    /// Width of the teacher's features. Default 384 (DINOv2 ViT-S).
    pub target_dim: usize,
    /// Masking strategy. Default [`Masking::Block`].
    pub masking: Masking,
    /// Fraction of patches removed. Default 0.4 (EVA's).
    pub mask_ratio: f64,
    /// Loss. Default [`FeatureLoss::Cosine`].
    pub loss: FeatureLoss,
    /// Whether the loss includes kept patches. Default `false`.
    pub all_patches: bool,
}

impl Default for FeatureTargetConfig {
    fn default() -> Self {
        Self {
            encoder: ViTConfig::base(16),
            target_dim: 384,
            masking: SPEC.masking,
            mask_ratio: SPEC.mask_ratio,
            loss: FeatureLoss::Cosine,
            all_patches: false,
        }
    }
}

impl FeatureTargetConfig {
    /// Checks the configuration and returns every fault at once.
    ///
    /// # Errors
    /// [`Error::Config`], or the encoder's own.
    pub fn validate(&self) -> Result<()> {
        self.encoder.validate()?;
        let mut faults = Mask::ratio_faults(self.encoder.grid()?.len(), self.mask_ratio);
        if self.target_dim == 0 {
            faults.push("`target_dim` is 0, expected at least 1".into());
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::Config { what: "feature target", faults })
    }
}

/// The random decisions of a feature-target objective about a batch, and the teacher's output.
#[derive(Clone, Debug)]
pub struct FeatureDraw {
    /// Removed patches.
    pub mask: Mask,
    /// The teacher's features of all patches, (B, L, T).
    pub features: Tensor,
}

/// A student that predicts a teacher's features behind a mask. Parameters: the encoder's,
/// `mask_token`, `decoder_pred`.
#[derive(Clone)]
pub struct FeatureTarget {
    config: FeatureTargetConfig,
    encoder: MaskedEncoder,
    decoder_pred: Linear,
    teacher: Arc<dyn Teacher>,
}

impl FeatureTarget {
    /// Builds the student from the tensors of `vb`; the teacher is not among its parameters.
    ///
    /// # Errors
    /// [`Error::Config`]; errors of `vb`, such as a tensor of another shape.
    pub fn new(
        config: &FeatureTargetConfig,
        teacher: Arc<dyn Teacher>,
        vb: VarBuilder,
    ) -> Result<Self> {
        config.validate()?;
        let (dim, target) = (config.encoder.embed_dim, config.target_dim);
        let init = xavier_uniform(dim, target);
        Ok(Self {
            config: *config,
            encoder: MaskedEncoder::new(&config.encoder, vb.clone())?,
            decoder_pred: Linear::new(dim, target, true, init, vb.pp("decoder_pred"))?,
            teacher,
        })
    }

    /// Sets whether the encoder's blocks keep only their inputs for the backward and compute the
    /// rest again (activation checkpointing): less memory, more time, the same bits.
    #[must_use]
    pub fn with_checkpointing(self, checkpointing: bool) -> Self {
        Self { encoder: self.encoder.with_checkpointing(checkpointing), ..self }
    }

    /// Sets what the encoder's linear layers multiply in.
    #[must_use]
    pub fn with_matmul_precision(self, precision: MatmulPrecision) -> Self {
        Self { encoder: self.encoder.with_matmul_precision(precision), ..self }
    }

    /// Returns the configuration.
    pub fn config(&self) -> &FeatureTargetConfig {
        &self.config
    }

    /// Returns the student's encoder.
    pub fn encoder(&self) -> &ViT {
        self.encoder.vit()
    }
}

impl Objective for FeatureTarget {
    type Draw = FeatureDraw;

    fn draw(&self, images: &Tensor, keys: &[Key]) -> Result<FeatureDraw> {
        let grid = self.encoder().grid_of(images)?;
        let tokens = self.teacher.tokens(images)?;
        let features = tokens.patches(grid)?.detach();
        let importance = tokens.importance()?;
        let (masking, ratio) = (self.config.masking, self.config.mask_ratio);
        let mask = masking.draw(images, grid, ratio, importance.as_ref(), keys)?;
        Ok(FeatureDraw { mask, features })
    }

    fn loss(&self, images: &Tensor, draw: &FeatureDraw, mode: Mode) -> Result<Losses> {
        let tokens = self.encoder.forward(images, &draw.mask, mode)?;
        let prefix = self.config.encoder.prefix();
        let (tokens, target) = if self.config.all_patches {
            (prefix.patches(&tokens)?, draw.features.clone())
        } else {
            let removed = &draw.mask.ids_removed;
            let ids = (removed + prefix.len() as f64)?;
            let tokens = pad_ops::gather_tokens(&tokens, &ids)?;
            (tokens, pad_ops::gather_tokens(&draw.features, removed)?)
        };
        let pred = self.decoder_pred.forward(&tokens)?;
        if pred.dims() != target.dims() {
            let (expected, found) = (pred.dims().to_vec(), target.dims().to_vec());
            return Err(Error::TeacherFeatures { expected, found });
        }
        Ok(Losses::new(self.config.loss.between(&pred, &target)?))
    }
}
