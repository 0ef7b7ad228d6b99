//! Adapter-only files: adapters and gates, their configuration, and the digest of their backbone.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Checkpoint, FloatType, digest::Tables, save};
use crate::{
    AdapterConfig, Error, Result,
    params::{ParamStore, Role},
    vit::ViTConfig,
};

const FORMAT: &str = "pad-adapter/1";

/// The entry of an adapter file's metadata that names the backbone it was trained on, as
/// [`Backbone::open`](super::Backbone::open) takes it. A path is looked up from the folder of the
/// adapter file ([`pad_ops::fs::find_from`]): in the folder, the working directory, the folders
/// above.
pub const BACKBONE: &str = "backbone";

/// Digits of a digest that are shown.
const SHOWN: usize = 12;

/// Writes the adapters and gates of `store` to a safetensors file (about 4.9 MB for ViT-B),
/// atomically. Its metadata hold the format, the configuration of ViT and adapter (JSON) and the
/// backbone's digest; `notes` are added to them, [`BACKBONE`] and [`InputStats`](super::InputStats)
/// among them.
///
/// # Errors
/// [`Error::Config`] if `config` has no adapter or `store` no backbone; [`Error::Io`].
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

/// An adapter file in memory.
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
    /// [`Error::Io`]; [`Error::Format`] for any other file, and for one without a backbone's
    /// digest.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_checkpoint(Checkpoint::open(path)?)
    }

    /// Whether a file is one of adapters.
    pub(super) fn is_one(checkpoint: &Checkpoint) -> bool {
        checkpoint.own_format() == Some(FORMAT)
    }

    /// Takes the tensors and metadata of an adapter file.
    ///
    /// # Errors
    /// As [`AdapterFile::open`].
    pub(super) fn from_checkpoint(checkpoint: Checkpoint) -> Result<Self> {
        let path = checkpoint.path().to_path_buf();
        let refuse = |what: String| Error::Format { path: path.clone(), what };
        let entry = |name: &str| checkpoint.metadata().get(name).cloned();
        let format = entry("format").unwrap_or_else(|| "none".into());
        if format != FORMAT {
            return Err(refuse(format!("not an adapter file: format {format}, expected {FORMAT}")));
        }
        let config: ViTConfig = serde_json::from_str(&entry("vit").unwrap_or_default())
            .map_err(|error| refuse(format!("metadata `vit`: {error}")))?;
        config.validate().map_err(|error| refuse(format!("metadata `vit`: {error}")))?;
        if config.adapter.is_none() {
            return Err(refuse("metadata `vit` has no adapter".into()));
        }
        let digest = entry("backbone_sha256").unwrap_or_default();
        if digest.is_empty() {
            let what = "metadata `backbone_sha256` is missing: the adapter's backbone is unknown";
            return Err(refuse(what.into()));
        }
        Ok(Self { path, checkpoint, config, digest })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
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

    /// The backbone that the file names ([`BACKBONE`]).
    pub fn backbone(&self) -> Option<&str> {
        self.checkpoint.metadata().get(BACKBONE).map(String::as_str)
    }

    /// Adds the adapters to the backbone that they were trained on. Its names are this project's;
    /// whether it has been fitted to another image size ([`Checkpoint::fit`]) makes no difference.
    ///
    /// Of the metadata, `vit` is the adapter file's, and the input statistics stay; others, which
    /// describe the backbone's own model, do not.
    ///
    /// # Errors
    /// [`Error::OtherBackbone`]; [`Error::Format`] for a checkpoint without a backbone.
    pub fn onto(&self, backbone: Checkpoint) -> Result<Checkpoint> {
        self.check(&backbone)?;
        self.onto_any(backbone)
    }

    /// [`AdapterFile::onto`] for any backbone with tensors of the same shapes: the adapters then
    /// act on features that they were not trained on.
    ///
    /// # Errors
    /// [`Error::Format`] for input statistics that cannot be read.
    pub fn onto_any(&self, mut backbone: Checkpoint) -> Result<Checkpoint> {
        let stats = match self.checkpoint.input_stats()? {
            Some(stats) => Some(stats),
            None => backbone.input_stats()?,
        };
        backbone.clear_metadata();
        backbone.merge(self.checkpoint.clone());
        backbone.describe(&self.config)?;
        if let Some(stats) = stats {
            backbone.set_input_stats(&stats);
        }
        Ok(backbone)
    }

    /// Checks that `backbone` is the one that these adapters were trained on.
    ///
    /// # Errors
    /// As [`AdapterFile::onto`].
    pub fn check(&self, backbone: &Checkpoint) -> Result<()> {
        let found = backbone.backbone_digest()?;
        if found == self.digest || backbone.digest(Tables::With)? == self.digest {
            return Ok(());
        }
        let short = |digest: &str| digest.chars().take(SHOWN).collect();
        Err(Error::OtherBackbone {
            path: self.path.clone(),
            expected: short(&self.digest),
            found: short(&found),
        })
    }
}
