//! Files of a run, and how models are written to them.

use std::{collections::BTreeMap, path::Path};

use pad_adapter::{
    checkpoint::{FloatType, save},
    params::{ParamStore, Role},
};
use pad_data::transform::Normalize;

use crate::{
    Mae, MaeConfig, Result,
    stored::{input_stats, write_config},
};

/// Adapters of a run's model.
pub const ADAPTER: &str = "adapter.safetensors";
/// Decoder beside [`ADAPTER`].
pub const DECODER: &str = "decoder.safetensors";
/// Whole model of a run without adapters.
pub const MODEL: &str = "model.safetensors";

/// What is written beside a model's tensors.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// How floating values of a whole model and of a decoder are stored; adapters are always `f32`.
    /// Default: as in memory.
    pub float_type: FloatType,
    /// Statistics that the images were normalised with. Default `None`: not stored.
    pub input_stats: Option<Normalize>,
    /// Source of the backbone under adapters, so that the adapter file can be opened alone. Default
    /// `None`.
    pub backbone: Option<String>,
    /// Further metadata.
    pub notes: BTreeMap<String, String>,
}

impl SaveOptions {
    /// Returns the metadata that all files of a model share.
    pub(crate) fn metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = self.notes.clone();
        if let Some(normalize) = &self.input_stats {
            input_stats(normalize).write(&mut metadata);
        }
        metadata
    }
}

impl Mae {
    /// Writes the whole autoencoder on `store` to a safetensors file, atomically: tensors,
    /// configuration, input statistics. [`Mae::open`] reads it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(
        &self,
        path: impl AsRef<Path>,
        store: &ParamStore,
        options: &SaveOptions,
    ) -> Result<()> {
        save_model(path.as_ref(), self.config(), store, options)
    }
}

/// Writes all tensors of `store` and the configuration of their model.
pub(crate) fn save_model(
    path: &Path,
    config: &MaeConfig,
    store: &ParamStore,
    options: &SaveOptions,
) -> Result<()> {
    let mut metadata = options.metadata();
    let json = |error: serde_json::Error| unwritable(path, &error);
    write_config(config, &mut metadata).map_err(json)?;
    let vit = serde_json::to_string(&config.encoder).map_err(json)?;
    metadata.insert("vit".into(), vit);
    Ok(save(path, &store.tensors(|_| true), &metadata, options.float_type)?)
}

/// Writes the decoder's tensors of `store` and the configuration of their model.
pub(crate) fn save_decoder(
    path: &Path,
    config: &MaeConfig,
    store: &ParamStore,
    options: &SaveOptions,
) -> Result<()> {
    let mut metadata = options.metadata();
    write_config(config, &mut metadata).map_err(|error| unwritable(path, &error))?;
    Ok(save(path, &store.tensors(Role::is_decoder), &metadata, options.float_type)?)
}

fn unwritable(path: &Path, error: &serde_json::Error) -> pad_adapter::Error {
    pad_adapter::Error::Format { path: path.to_path_buf(), what: format!("configuration: {error}") }
}
