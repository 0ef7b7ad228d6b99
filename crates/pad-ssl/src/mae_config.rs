//! Hyperparameters of a masked autoencoder.

use pad_adapter::vit::ViTConfig;
use serde::{Deserialize, Serialize};

use crate::{Error, Mask, Result};

/// A masked autoencoder's hyperparameters; the default is the paper's, on a ViT-B/16.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaeConfig {
    /// The encoder.
    pub encoder: ViTConfig,
    /// Decoder width, values per token. Default 512.
    pub decoder_embed_dim: usize,
    /// Blocks of the decoder. Default 8.
    pub decoder_depth: usize,
    /// Heads of the decoder. Default 16.
    pub decoder_num_heads: usize,
    /// Fraction of patches removed. Default 0.75.
    pub mask_ratio: f64,
    /// Whether each target patch is normalised to mean 0 and variance 1. Default `true`.
    pub norm_pix_loss: bool,
}

impl Default for MaeConfig {
    fn default() -> Self {
        Self {
            encoder: ViTConfig::base(16),
            decoder_embed_dim: 512,
            decoder_depth: 8,
            decoder_num_heads: 16,
            mask_ratio: 0.75,
            norm_pix_loss: true,
        }
    }
}

impl MaeConfig {
    /// Returns the configuration with an encoder of [`ViTConfig::preset`]. `pico` has the decoder
    /// of the backbone that this project ships, 128 x 2 with 4 heads; all others have the paper's.
    ///
    /// # Errors
    /// An unknown name.
    pub fn preset(name: &str, patch_size: usize) -> Result<Self> {
        let encoder = ViTConfig::preset(name, patch_size)?;
        let config = Self { encoder, ..Self::default() };
        if name != "pico" {
            return Ok(config);
        }
        Ok(Self { decoder_embed_dim: 128, decoder_depth: 2, decoder_num_heads: 4, ..config })
    }

    /// Checks the configuration and returns every fault at once.
    ///
    /// # Errors
    /// [`Error::Config`], or the encoder's own.
    pub fn validate(&self) -> Result<()> {
        self.encoder.validate()?;
        self.decoder().validate().map_err(|error| match error {
            pad_adapter::Error::Config { faults, .. } => Error::Config { what: "decoder", faults },
            other => other.into(),
        })?;
        let faults = Mask::ratio_faults(self.encoder.grid()?.len(), self.mask_ratio);
        if faults.is_empty() { Ok(()) } else { Err(Error::Config { what: "mae", faults }) }
    }

    /// Returns the configuration of the decoder's blocks: plain ones, without adapters. It has a
    /// class token where the encoder has one, and no registers.
    pub(crate) fn decoder(&self) -> ViTConfig {
        let encoder = &self.encoder;
        let (patch, dim) = (encoder.patch_size, self.decoder_embed_dim);
        ViTConfig {
            image_size: encoder.image_size,
            in_channels: encoder.in_channels,
            class_token: encoder.class_token,
            norm_eps: encoder.norm_eps,
            ..ViTConfig::new(patch, dim, self.decoder_depth, self.decoder_num_heads)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoders_beyond_every_machine() {
        MaeConfig::default().validate().unwrap();
        let text = |config: MaeConfig| config.validate().unwrap_err().to_string();
        let base = MaeConfig::default();
        assert_eq!(
            text(MaeConfig { decoder_depth: 1_000_000_000, ..base }),
            "decoder: `depth` is 1000000000, expected at most 1024"
        );
        for config in [
            MaeConfig { decoder_embed_dim: 1 << 62, ..base },
            MaeConfig { decoder_embed_dim: usize::MAX, ..base },
            MaeConfig { decoder_num_heads: usize::MAX, ..base },
            MaeConfig { decoder_embed_dim: 0, decoder_num_heads: 0, ..base },
            MaeConfig { encoder: ViTConfig { depth: 1 << 60, ..base.encoder }, ..base },
            MaeConfig { mask_ratio: f64::NAN, ..base },
            MaeConfig { mask_ratio: -1e308, ..base },
        ] {
            assert!(text(config).len() < 1000, "{config:?}");
        }
    }
}
