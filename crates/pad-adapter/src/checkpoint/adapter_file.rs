//! Adapter-only files: what was trained, with its configuration and the digest of the backbone it belongs to.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Checkpoint, FloatType, save};
use crate::{
    AdapterConfig, Error, Result,
    params::{ParamStore, Role},
    vit::ViTConfig,
};

const FORMAT: &str = "pad-adapter/1";

/// Writes the adapters and gates of `store` to a safetensors file (about 4.9 MB for ViT-B), atomically. Its metadata
/// hold the format, the configuration of ViT and adapter (JSON) and the backbone's digest; `notes` are added to them.
///
/// # Errors
/// [`Error::Config`] if `config` has no adapter; [`Error::Io`].
pub fn save_adapter(
    path: impl AsRef<Path>,
    store: &ParamStore,
    config: &ViTConfig,
    notes: &BTreeMap<String, String>,
) -> Result<()> {
    let path = path.as_ref();
    if config.adapter.is_none() {
        let fault = "the model has no adapter to save".to_string();
        return Err(Error::Config { what: "adapter file", faults: vec![fault] });
    }
    let json = serde_json::to_string(config)
        .map_err(|error| Error::Format { path: path.to_path_buf(), what: error.to_string() })?;
    let mut metadata = notes.clone();
    metadata.insert("format".into(), FORMAT.into());
    metadata.insert("vit".into(), json);
    metadata.insert("backbone_sha256".into(), store.backbone_digest()?);
    save(path, &store.tensors(Role::is_adapter), &metadata, FloatType::F32)
}

/// An adapter file, read.
#[derive(Clone, Debug)]
pub struct AdapterFile {
    path: PathBuf,
    checkpoint: Checkpoint,
    config: ViTConfig,
    digest: String,
}

impl AdapterFile {
    /// Reads an adapter file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for any other file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let checkpoint = Checkpoint::open(&path)?;
        let refuse = |what: String| Error::Format { path: path.clone(), what };
        let entry = |name: &str| checkpoint.metadata().get(name).cloned();
        let format = entry("format").unwrap_or_else(|| "none".into());
        if format != FORMAT {
            return Err(refuse(format!("not an adapter file: format {format}, expected {FORMAT}")));
        }
        let config: ViTConfig = serde_json::from_str(&entry("vit").unwrap_or_default())
            .map_err(|error| refuse(format!("metadata `vit`: {error}")))?;
        if config.adapter.is_none() {
            return Err(refuse("metadata `vit` names no adapter".into()));
        }
        let digest = entry("backbone_sha256").unwrap_or_default();
        Ok(Self { path, checkpoint, config, digest })
    }

    /// The adapters' configuration.
    pub fn adapter(&self) -> AdapterConfig {
        self.config.adapter.unwrap_or_default()
    }

    /// The whole configuration of the ViT it was trained in.
    pub fn config(&self) -> &ViTConfig {
        &self.config
    }

    /// SHA-256 of the backbone it belongs to.
    pub fn backbone_digest(&self) -> &str {
        &self.digest
    }

    /// Lays the adapters over a backbone's checkpoint; build the model from the result, then call
    /// [`AdapterFile::check`].
    #[must_use]
    pub fn onto(&self, mut backbone: Checkpoint) -> Checkpoint {
        backbone.merge(self.checkpoint.clone());
        backbone
    }

    /// Asks that `store`, on which a model was built, holds the backbone that these adapters were trained on.
    ///
    /// # Errors
    /// [`Error::OtherBackbone`].
    pub fn check(&self, store: &ParamStore) -> Result<()> {
        let found = store.backbone_digest()?;
        if found == self.digest {
            return Ok(());
        }
        let short = |digest: &str| digest.chars().take(12).collect();
        Err(Error::OtherBackbone {
            path: self.path.clone(),
            expected: short(&self.digest),
            found: short(&found),
        })
    }
}
