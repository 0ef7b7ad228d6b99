//! Adapter-only files: adapters and gates, their configuration, a head if one was saved, and which
//! backbone they belong to.

use std::path::{Path, PathBuf};

use super::{
    Checkpoint,
    adapter_contents::{ADAPTER, FOREIGN, FORMAT, NAME, VIT, places},
    identity::Identity,
};
use crate::{
    AdapterConfig, Error, Result,
    params::{DEFAULT_ADAPTER, adapter_name, named},
    vit::ViTConfig,
};

/// The entry of an adapter file's metadata that names the backbone it was trained on, as
/// [`Backbone::open`](super::Backbone::open) takes it. A path is looked up from the folder of the
/// adapter file ([`pad_ops::fs::find_from`]): in the folder, the working directory, the folders
/// above.
pub const BACKBONE: &str = "backbone";

/// An adapter file in memory.
///
/// ```
/// use std::collections::BTreeMap;
/// use candle_core::{Device, Tensor};
/// use pad_adapter::{
///     Adapter, AdapterConfig,
///     checkpoint::{AdapterContents, AdapterFile, Checkpoint, save_adapter},
///     params::{ParamStore, Role},
/// };
/// use pad_ops::rng::Key;
///
/// // The weights of a model of your own; an adapter and a head, which the file is to hold.
/// let weights = |value: f32| -> pad_adapter::Result<Checkpoint> {
///     let weight = Tensor::full(value, (8, 8), &Device::Cpu)?;
///     Ok(Checkpoint::from_tensors("FILE", BTreeMap::from([("mixer.0.fc.weight".into(), weight)])))
/// };
/// let config = AdapterConfig { bottleneck: 4, ..Default::default() };
/// let store = ParamStore::from_checkpoint(weights(0.5)?, &Device::Cpu, Key::new(0))
///     .with_fresh(|role| role.is_adapter() || role == Role::Head);
/// store.build(|vb| {
///     candle_nn::linear_no_bias(8, 8, vb.pp("mixer.0.fc"))?;
///     candle_nn::linear(8, 2, vb.pp("head"))?;
///     Adapter::new(8, &config, vb.pp("mixer.0"))
/// })?;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("night.safetensors");
/// let notes = BTreeMap::from([("backbone".to_string(), "vit.safetensors".to_string())]);
/// save_adapter(&path, &store, AdapterContents::from(config).with_head(true), &notes)?;
///
/// // What the file says.
/// let file = AdapterFile::open(&path)?;
/// assert_eq!((file.name(), file.places()), ("default", vec!["mixer.0".to_string()]));
/// assert_eq!((file.adapter(), file.config()), (Some(config), None)); // no ViT of this project
/// assert_eq!((file.path(), file.backbone()), (path.as_path(), Some("vit.safetensors")));
/// assert_eq!(file.backbone_digest(), store.backbone_digest()?);
/// assert!(file.has_head() && !file.clone().without_head().has_head());
///
/// // Laid on its backbone: 1 tensor of it, 7 of the adapter, 2 of the head. On no other.
/// file.check(&weights(0.5)?)?;
/// assert_eq!(file.onto(weights(0.5)?)?.names().count(), 1 + 7 + 2);
/// let refused = file.onto(weights(0.6)?).unwrap_err().to_string();
/// assert!(refused.contains(": this adapter belongs to the backbone "), "{refused}");
/// assert_eq!(file.onto_any(weights(0.6)?)?.names().count(), 1 + 7 + 2);
///
/// // Under another name, beside an adapter of the first.
/// let night = file.with_name("night")?;
/// assert_eq!(night.name(), "night");
/// assert!(night.with_name("a.b").is_err());
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdapterFile {
    path: PathBuf,
    checkpoint: Checkpoint,
    vit: Option<ViTConfig>,
    adapter: Option<AdapterConfig>,
    name: String,
    identity: Identity,
}

impl AdapterFile {
    /// Reads an adapter file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for any other file, and for one without a backbone's
    /// digest or with the digest of nothing.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_checkpoint(Checkpoint::open(path)?)
    }

    /// Whether a file is one of adapters.
    pub(super) fn is_one(checkpoint: &Checkpoint) -> bool {
        matches!(checkpoint.own_format(), Some(FORMAT | FOREIGN))
    }

    /// Takes the tensors and metadata of an adapter file.
    ///
    /// # Errors
    /// As [`AdapterFile::open`].
    pub(super) fn from_checkpoint(checkpoint: Checkpoint) -> Result<Self> {
        let path = checkpoint.path().to_path_buf();
        let refuse = |what: String| Error::Format { path: path.clone(), what };
        let entry = |name: &str| checkpoint.metadata().get(name).cloned();
        let json = |name: &str| entry(name).unwrap_or_default();
        let fault =
            |name: &str, error: serde_json::Error| refuse(format!("metadata `{name}`: {error}"));
        let format = entry("format").unwrap_or_else(|| "none".into());
        let (vit, adapter) = match format.as_str() {
            FORMAT => {
                let vit: ViTConfig =
                    serde_json::from_str(&json(VIT)).map_err(|error| fault(VIT, error))?;
                vit.validate().map_err(|error| refuse(format!("metadata `{VIT}`: {error}")))?;
                if vit.adapter.is_none() && vit.lora.is_none() {
                    return Err(refuse(format!("metadata `{VIT}` has no adapter")));
                }
                (Some(vit), vit.adapter)
            }
            FOREIGN => {
                let adapter =
                    serde_json::from_str(&json(ADAPTER)).map_err(|error| fault(ADAPTER, error))?;
                (None, Some(adapter))
            }
            _ => {
                return Err(refuse(format!(
                    "not an adapter file: format {format}, expected {FORMAT}"
                )));
            }
        };
        let name = entry(NAME).unwrap_or_else(|| DEFAULT_ADAPTER.into());
        named::check_name(&name).map_err(|error| refuse(format!("metadata `{NAME}`: {error}")))?;
        let identity = Identity::read(checkpoint.metadata()).map_err(refuse)?;
        Ok(Self { path, checkpoint, vit, adapter, name, identity })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The adapters' configuration; `None` for low-rank adapters, which a [`ViTConfig`] describes
    /// ([`AdapterFile::config`]).
    pub fn adapter(&self) -> Option<AdapterConfig> {
        self.adapter
    }

    /// The whole configuration of the ViT it was trained in; `None` for adapters of a model that is
    /// not this project's.
    pub fn config(&self) -> Option<&ViTConfig> {
        self.vit.as_ref()
    }

    /// The name that the adapters get in a model ([`AdapterFile::onto`]): the one they were saved
    /// under, [`DEFAULT_ADAPTER`] for no name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the adapters another name, [`DEFAULT_ADAPTER`] for none, so that several can stand in
    /// one model.
    ///
    /// # Errors
    /// [`Error::Config`] for an invalid name: expected is a letter, then letters, digits,
    /// `-` or `_`.
    pub fn with_name(self, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        named::check_name(&name)?;
        Ok(Self { name, ..self })
    }

    /// The places of the adapters: the names of the modules that they stand in, `layer.3` for one.
    pub fn places(&self) -> Vec<String> {
        places(self.checkpoint.tensors().keys())
    }

    /// Whether a head was saved with the adapters.
    pub fn has_head(&self) -> bool {
        self.checkpoint.names().any(|name| adapter_name(name).is_none())
    }

    /// Leaves the head out, if there is one.
    #[must_use]
    pub fn without_head(mut self) -> Self {
        self.checkpoint.retain(|name| adapter_name(name).is_some());
        self
    }

    /// SHA-256 of the backbone it belongs to.
    pub fn backbone_digest(&self) -> &str {
        self.identity.digest()
    }

    /// The backbone that the file names ([`BACKBONE`]).
    pub fn backbone(&self) -> Option<&str> {
        self.checkpoint.metadata().get(BACKBONE).map(String::as_str)
    }

    /// Adds the adapters, under their name, and the head, if one was saved, to the backbone that
    /// they were trained on. The backbone's names are those of the model that the adapters were saved
    /// from. For this project's ViT, whether it has been fitted to another image size
    /// ([`Checkpoint::fit`]) makes no difference.
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
        let replaced = backbone.names().filter(|name| adapter_name(name) == Some(&self.name));
        let replaced = replaced.count();
        if replaced > 0 {
            tracing::warn!(
                "{}: replaces adapters `{}` that the backbone has ({replaced} tensors)",
                self.path.display(),
                self.name
            );
        }
        // All of it goes: an adapter of another scale has tensors that this one lacks.
        backbone.retain(|name| adapter_name(name) != Some(&self.name));
        backbone.clear_metadata();
        for (name, tensor) in self.checkpoint.tensors() {
            let name = named::renamed(name, &self.name).unwrap_or_else(|| name.clone());
            backbone.insert(name, tensor.clone());
        }
        if let Some(vit) = self.vit.as_ref().filter(|_| self.name == DEFAULT_ADAPTER) {
            backbone.describe(vit)?;
        }
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
        let Some(found) = self.identity.difference(backbone)? else { return Ok(()) };
        let (path, expected) = (self.path.clone(), self.identity.shown());
        Err(Error::OtherBackbone { path, expected, found })
    }
}
