//! The configuration of an autoencoder in a file.

use std::collections::BTreeMap;

use pad_adapter::{
    checkpoint::{Checkpoint, InputStats},
    vit::ViTConfig,
};
use pad_data::transform::Normalize;

use crate::{MaeConfig, Result};

/// The format of files with an autoencoder, their metadata `format`.
pub(crate) const FORMAT: &str = "pad-mae/1";
/// The metadata key of a [`MaeConfig`] as JSON.
const MAE: &str = "mae";

/// An autoencoder's configuration as a file gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoredMae {
    /// The configuration.
    pub config: MaeConfig,
    /// Where the decoder's sizes come from.
    pub decoder: DecoderSource,
}

/// Where a decoder's sizes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecoderSource {
    /// The file's metadata.
    Metadata,
    /// The shapes of the file's tensors; they do not give the number of heads.
    Tensors {
        /// Whether the number of heads is assumed: 32 values per head, as in MAE's decoders.
        assumed_heads: bool,
    },
    /// The defaults of [`MaeConfig`]: the file holds no decoder.
    Default,
}

impl StoredMae {
    /// Returns the configuration of the autoencoder in `checkpoint`, which has this project's
    /// names. `encoder` is used where the metadata hold no configuration.
    ///
    /// # Errors
    /// Metadata `mae` that cannot be read.
    pub fn of(checkpoint: &Checkpoint, encoder: ViTConfig) -> Result<Self> {
        if let Some(config) = metadata(checkpoint)? {
            return Ok(Self { config, decoder: DecoderSource::Metadata });
        }
        let config = MaeConfig { encoder, ..Default::default() };
        let Some(embed) = checkpoint.get("decoder_embed.weight") else {
            return Ok(Self { config, decoder: DecoderSource::Default });
        };
        let width = embed.dim(0)?;
        let block = |i: usize| format!("decoder_blocks.{i}.norm1.weight");
        let heads = checkpoint.metadata().get("decoder_num_heads");
        let heads = heads.and_then(|text| text.parse().ok());
        let config = MaeConfig {
            decoder_embed_dim: width,
            decoder_depth: (0..).take_while(|&i| checkpoint.get(&block(i)).is_some()).count(),
            decoder_num_heads: heads.unwrap_or((width / 32).max(1)),
            ..config
        };
        let assumed_heads = heads.is_none();
        Ok(Self { config, decoder: DecoderSource::Tensors { assumed_heads } })
    }

    /// Returns a line for the log if a part of the configuration is assumed.
    pub fn assumption(&self) -> Option<String> {
        let heads = self.config.decoder_num_heads;
        match self.decoder {
            DecoderSource::Tensors { assumed_heads: true } => Some(format!(
                "the file does not say how many heads its decoder has: {heads} assumed, 32 values \
                 per head"
            )),
            _ => None,
        }
    }
}

/// Returns the configuration in the metadata of `checkpoint`, if there is one.
fn metadata(checkpoint: &Checkpoint) -> pad_adapter::Result<Option<MaeConfig>> {
    let Some(json) = checkpoint.metadata().get(MAE) else { return Ok(None) };
    let refuse = |what: String| pad_adapter::Error::Format {
        path: checkpoint.path().to_path_buf(),
        what: format!("metadata `{MAE}`: {what}"),
    };
    let config: MaeConfig =
        serde_json::from_str(json).map_err(|error| refuse(error.to_string()))?;
    // Before anything of its sizes is made.
    config.validate().map_err(|error| refuse(error.to_string()))?;
    Ok(Some(config))
}

/// Returns the encoder of an autoencoder's file; `None` for a file of another kind. A reader for
/// [`BackboneOptions::with_reader`](pad_adapter::checkpoint::BackboneOptions::with_reader).
///
/// # Errors
/// Metadata `mae` that cannot be read.
pub fn read_backbone(checkpoint: &mut Checkpoint) -> pad_adapter::Result<Option<ViTConfig>> {
    Ok(metadata(checkpoint)?.map(|config| config.encoder))
}

/// Adds a configuration to a file's metadata.
pub(crate) fn write_config(
    config: &MaeConfig,
    metadata: &mut BTreeMap<String, String>,
) -> serde_json::Result<()> {
    metadata.insert("format".into(), FORMAT.into());
    metadata.insert(MAE.into(), serde_json::to_string(config)?);
    Ok(())
}

/// Converts statistics of a file to those of a dataset.
pub(crate) fn normalize(stats: InputStats) -> Normalize {
    Normalize { mean: stats.mean, std: stats.std }
}

/// Converts statistics of a dataset to those of a file.
pub(crate) fn input_stats(normalize: &Normalize) -> InputStats {
    InputStats { mean: normalize.mean, std: normalize.std }
}
