//! SimMIM (Xie et al., 2022): mask tokens inside the encoder, one linear layer as decoder, L1 on
//! the removed pixels.

use std::any::Any;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use pad_adapter::vit::{
    ViT, ViTConfig,
    layers::{Linear, xavier_uniform},
    patchify,
};
use pad_ops::{MatmulPrecision, Mode, rng::Key};
use pad_train::Losses;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Mask, Masking, Objective, Result,
    masked_encoder::MaskedEncoder,
    student::{Spec, Student},
};

/// SimMIM in the table of objectives.
pub(crate) const SPEC: Spec = Spec {
    name: "simmim",
    mask_ratio: 0.6,
    masking: Masking::CELLS,
    needs_teacher: false,
    decoder_tensor: None,
    build: |config, _, vb| {
        let simmim = SimMimConfig {
            encoder: config.mae.encoder,
            masking: config.masking.unwrap_or(SPEC.masking),
            mask_ratio: config.mae.mask_ratio,
        };
        let simmim = SimMim::new(&simmim, vb)?
            .with_checkpointing(config.checkpointing)
            .with_matmul_precision(config.matmul_precision);
        Ok(Box::new(simmim))
    },
};

impl Student for SimMim {
    fn encoder(&self) -> &ViT {
        self.encoder.vit()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// SimMIM's hyperparameters; the default is the paper's, on a ViT-B/16.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimMimConfig {
    /// The encoder.
    pub encoder: ViTConfig,
    /// Masking strategy. Default [`Masking::CELLS`].
    pub masking: Masking,
    /// Fraction of patches removed. Default 0.6.
    pub mask_ratio: f64,
}

impl Default for SimMimConfig {
    fn default() -> Self {
        Self { encoder: ViTConfig::base(16), masking: SPEC.masking, mask_ratio: SPEC.mask_ratio }
    }
}

impl SimMimConfig {
    /// Checks the configuration and returns every fault at once.
    ///
    /// # Errors
    /// [`Error::Config`], or the encoder's own.
    pub fn validate(&self) -> Result<()> {
        self.encoder.validate()?;
        let faults = Mask::ratio_faults(self.encoder.grid()?.len(), self.mask_ratio);
        if faults.is_empty() { Ok(()) } else { Err(Error::Config { what: "simmim", faults }) }
    }
}

/// SimMIM. Parameters: the encoder's, `mask_token`, `decoder_pred`.
#[derive(Clone, Debug)]
pub struct SimMim {
    config: SimMimConfig,
    encoder: MaskedEncoder,
    decoder_pred: Linear,
}

impl SimMim {
    /// Builds the network from the tensors of `vb`.
    ///
    /// # Errors
    /// [`Error::Config`]; errors of `vb`, such as a tensor of another shape.
    pub fn new(config: &SimMimConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let (dim, pixels) = (config.encoder.embed_dim, config.encoder.patch_values());
        let init = xavier_uniform(dim, pixels);
        Ok(Self {
            config: *config,
            encoder: MaskedEncoder::new(&config.encoder, vb.clone())?,
            decoder_pred: Linear::new(dim, pixels, true, init, vb.pp("decoder_pred"))?,
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
    pub fn config(&self) -> &SimMimConfig {
        &self.config
    }

    /// Returns the encoder.
    pub fn encoder(&self) -> &ViT {
        self.encoder.vit()
    }
}

impl Objective for SimMim {
    type Draw = Mask;

    fn draw(&self, images: &Tensor, keys: &[Key]) -> Result<Mask> {
        let grid = self.encoder().grid_of(images)?;
        self.config.masking.draw(images, grid, self.config.mask_ratio, None, keys)
    }

    fn loss(&self, images: &Tensor, mask: &Mask, mode: Mode) -> Result<Losses> {
        let tokens = self.encoder.forward(images, mask, mode)?;
        // Only removed patches count, so only they go on.
        let front = self.config.encoder.prefix().len();
        let removed = pad_ops::gather_tokens(&tokens, &(&mask.ids_removed + front as f64)?)?;
        let pred = self.decoder_pred.forward(&removed)?;
        let pixels = patchify(&images.detach(), self.config.encoder.patch_size)?;
        let target = pad_ops::gather_tokens(&pixels, &mask.ids_removed)?;
        Ok(Losses::new((pred - target)?.abs()?.mean_all()?))
    }
}
