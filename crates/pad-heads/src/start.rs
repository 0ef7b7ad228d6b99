//! The start of a new model, and what the files of all models have in common.

use candle_core::Device;
use pad_adapter::{
    checkpoint::{Checkpoint, InputStats},
    params::{ParamStore, Role},
    vit::ViTConfig,
};
use pad_data::transform::Normalize;
use pad_ops::rng::Key;
use serde::de::DeserializeOwned;

use crate::{
    error::{Error, Result},
    plan::Trained,
};

/// How the parameters of a new model start, and which of them train.
///
/// ```
/// use candle_core::Device;
/// use pad_heads::{Start, Trained};
/// use pad_ops::rng::Key;
/// let start = Start::new(&Device::Cpu, Key::new(7));
/// assert_eq!((start.trained, start.layer_decay), (Trained::Everything, 1.0));
/// let start = start
///     .with_trained(Trained::AdaptersAndHeads)
///     .with_layer_decay(0.65)
///     .with_fresh_adapters(true);
/// assert_eq!((start.layer_decay, start.fresh_adapters), (0.65, true));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Start {
    /// Where the model runs.
    pub device: Device,
    /// What first values are drawn from.
    pub key: Key,
    /// Which parts train. Default: everything.
    pub trained: Trained,
    /// Factor on the learning rate from each layer to the one below it. Default: 1.
    pub layer_decay: f64,
    /// Whether adapters of the checkpoint are dropped and new ones initialised, as is needed where
    /// they have another configuration. Default: false.
    pub fresh_adapters: bool,
}

impl Start {
    /// Trains everything at one learning rate.
    pub fn new(device: &Device, key: Key) -> Self {
        Self {
            device: device.clone(),
            key,
            trained: Trained::Everything,
            layer_decay: 1.0,
            fresh_adapters: false,
        }
    }

    /// Sets which parts train.
    #[must_use]
    pub fn with_trained(self, trained: Trained) -> Self {
        Self { trained, ..self }
    }

    /// Sets the factor on the learning rate from each layer to the one below it.
    #[must_use]
    pub fn with_layer_decay(self, layer_decay: f64) -> Self {
        Self { layer_decay, ..self }
    }

    /// Sets whether adapters of the checkpoint are replaced by new ones.
    #[must_use]
    pub fn with_fresh_adapters(self, fresh_adapters: bool) -> Self {
        Self { fresh_adapters, ..self }
    }

    /// Drops the adapters of a checkpoint that `vit` has no use for, and says so.
    pub(crate) fn without_unused_adapters(
        &self,
        checkpoint: &mut Checkpoint,
        vit: &ViTConfig,
    ) -> Option<String> {
        let adapted = vit.adapter.is_some() || vit.lora.is_some();
        if adapted && !self.fresh_adapters {
            return None;
        }
        // Adapters keep their names behind any prefix.
        let dropped = checkpoint.names().filter(|name| Role::of(name).is_adapter()).count();
        checkpoint.retain(|name| !Role::of(name).is_adapter());
        (dropped > 0).then(|| format!("{dropped} tensors of adapters dropped"))
    }

    /// The store of a model of `depth` blocks. Heads may be absent from the checkpoint, and
    /// adapters if all are.
    pub(crate) fn store(
        &self,
        checkpoint: Option<Checkpoint>,
        role_of: fn(&str) -> Role,
        depth: usize,
    ) -> ParamStore {
        let store = match checkpoint {
            Some(checkpoint) => {
                let has_adapters = checkpoint.names().any(|name| role_of(name).is_adapter());
                ParamStore::from_checkpoint(checkpoint, &self.device, self.key).with_fresh(
                    move |role| role == Role::Head || (role.is_adapter() && !has_adapters),
                )
            }
            None => ParamStore::scratch(&self.device, self.key),
        };
        store.with_roles(role_of).with_plan(self.trained.plan(self.layer_decay, depth))
    }
}

/// The entry `key` of a file's metadata, JSON; `kind` names the kind of file that has it.
pub(crate) fn metadata<T: DeserializeOwned>(
    checkpoint: &Checkpoint,
    key: &'static str,
    kind: &str,
) -> Result<T> {
    let fault = |fault| Error::Metadata { path: checkpoint.path().to_path_buf(), key, fault };
    let text = checkpoint.metadata().get(key);
    let text = text.ok_or_else(|| fault(format!("missing, expected a {kind}'s file")))?;
    serde_json::from_str(text).map_err(|error| fault(error.to_string()))
}

/// Checks the entry `format` of a file's metadata.
pub(crate) fn check_format(checkpoint: &Checkpoint, expected: &str) -> Result<()> {
    let found = checkpoint.metadata().get("format").map_or("nothing", String::as_str);
    if found == expected {
        return Ok(());
    }
    let fault = format!("expected {expected}, found {found}");
    Err(Error::Metadata { path: checkpoint.path().to_path_buf(), key: "format", fault })
}

/// The input statistics in a file's metadata, if any.
pub(crate) fn stored_normalize(checkpoint: &Checkpoint) -> Result<Option<Normalize>> {
    let stats = InputStats::read(checkpoint.metadata()).map_err(|fault| Error::Metadata {
        path: checkpoint.path().to_path_buf(),
        key: "input_mean",
        fault,
    })?;
    Ok(stats.map(|InputStats { mean, std }| Normalize { mean, std }))
}

/// JSON of a part of a model's description.
pub(crate) fn to_json<T: serde::Serialize>(
    path: &std::path::Path,
    key: &'static str,
    value: &T,
) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Metadata {
        path: path.to_path_buf(),
        key,
        fault: error.to_string(),
    })
}

/// The configuration under `key` in a file's metadata; `None` for a file of another kind.
pub(crate) fn stored_config<T: DeserializeOwned>(
    checkpoint: &Checkpoint,
    key: &str,
) -> pad_adapter::Result<Option<T>> {
    let Some(text) = checkpoint.metadata().get(key) else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|error| pad_adapter::Error::Format {
        path: checkpoint.path().to_path_buf(),
        what: format!("metadata `{key}`: {error}"),
    })
}
