//! What an adapter file holds, and how it is written.

use std::{collections::BTreeMap, path::Path};

use super::{FloatType, identity::Identity, save};
use crate::{
    AdapterConfig, AdapterNorm, Error, Result, Scale,
    params::{DEFAULT_ADAPTER, Param, ParamStore, Role, adapter_name, named},
    vit::ViTConfig,
};

/// Files of this project's ViT.
pub(super) const FORMAT: &str = "pad-adapter/1";

/// Files of any other model.
pub(super) const FOREIGN: &str = "pad-adapter/2";

/// Keys of the metadata.
pub(super) const VIT: &str = "vit";
pub(super) const ADAPTER: &str = "adapter";
pub(super) const NAME: &str = "adapter_name";

/// What [`save_adapter`] writes: the adapters of one name with their configuration, and the head if
/// requested.
///
/// An [`AdapterConfig`] is enough: where the adapters stand follows from their tensors. The
/// [`ViTConfig`] of a model of this project goes into the file too, so that
/// [`Backbone::open`](super::Backbone::open) can build the model from it.
///
/// ```
/// use pad_adapter::{AdapterConfig, checkpoint::AdapterContents};
/// let night = AdapterContents::from(AdapterConfig::default()).with_name("night").with_head(true);
/// assert_ne!(night, AdapterConfig::default().into());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterContents {
    vit: Option<ViTConfig>,
    adapter: Option<AdapterConfig>,
    name: String,
    head: bool,
}

impl AdapterContents {
    /// Sets which adapters of the model are written, by name. Default:
    /// [`DEFAULT_ADAPTER`](crate::params::DEFAULT_ADAPTER), those without a name. Tensors in the file
    /// have no name; it stands in the metadata, see
    /// [`AdapterFile::with_name`](super::AdapterFile::with_name).
    ///
    /// ```
    /// use pad_adapter::{AdapterConfig, checkpoint::AdapterContents};
    /// let contents = AdapterContents::from(AdapterConfig::default());
    /// assert_ne!(contents.clone().with_name("night"), contents);
    /// ```
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Sets whether the parameters of the role [`Role::Head`] are written too. Default: no.
    ///
    /// ```
    /// use pad_adapter::{AdapterConfig, checkpoint::AdapterContents};
    /// let contents = AdapterContents::from(AdapterConfig::default());
    /// assert_eq!(contents.clone().with_head(false), contents);
    /// ```
    #[must_use]
    pub fn with_head(self, head: bool) -> Self {
        Self { head, ..self }
    }
}

impl From<AdapterConfig> for AdapterContents {
    fn from(adapter: AdapterConfig) -> Self {
        Self { vit: None, adapter: Some(adapter), name: DEFAULT_ADAPTER.into(), head: false }
    }
}

impl From<&AdapterConfig> for AdapterContents {
    fn from(adapter: &AdapterConfig) -> Self {
        Self::from(*adapter)
    }
}

impl From<ViTConfig> for AdapterContents {
    fn from(vit: ViTConfig) -> Self {
        let (name, adapter) = (DEFAULT_ADAPTER.into(), vit.adapter);
        Self { vit: Some(vit), adapter, name, head: false }
    }
}

impl From<&ViTConfig> for AdapterContents {
    fn from(vit: &ViTConfig) -> Self {
        Self::from(*vit)
    }
}

/// Writes adapters and gates of `store` to a safetensors file (about 4.9 MB for ViT-B), atomically.
/// `contents` is the configuration of the adapters, or that of the whole ViT of this project; see
/// [`AdapterContents`] for named adapters and a head. The metadata hold the format, the
/// configuration (JSON), and digests of the backbone: of every parameter that is neither an
/// adapter's, nor a head's, nor a decoder's by its role. `notes` are added to them,
/// [`BACKBONE`](super::BACKBONE) and [`InputStats`](super::InputStats) among them.
///
/// Other parameters that train are not in the file; a warning names them.
///
/// # Errors
/// [`Error::Config`] if there is no adapter of this name, if one has another configuration, if the
/// head that is requested is missing, or if the store has no backbone, so that the digest would be
/// one of nothing; [`Error::Io`].
///
/// ```
/// use std::collections::BTreeMap;
/// use candle_core::Device;
/// use pad_adapter::{Adapter, AdapterConfig, checkpoint::{AdapterFile, save_adapter}, params::ParamStore};
/// use pad_ops::rng::Key;
///
/// let config = AdapterConfig { bottleneck: 4, ..Default::default() };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_trained(|role| role.is_adapter());
/// store.build(|vb| {
///     candle_nn::linear(8, 8, vb.pp("mixer.0.fc"))?; // the backbone of a model of your own
///     Adapter::new(8, &config, vb.pp("mixer.0"))
/// })?;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("adapter.safetensors");
/// save_adapter(&path, &store, &config, &BTreeMap::new())?;
/// let file = AdapterFile::open(&path)?;
/// assert_eq!((file.adapter(), file.places()), (Some(config), vec!["mixer.0".to_string()]));
/// assert_eq!(file.backbone_digest(), store.backbone_digest()?);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
pub fn save_adapter(
    path: impl AsRef<Path>,
    store: &ParamStore,
    contents: impl Into<AdapterContents>,
    notes: &BTreeMap<String, String>,
) -> Result<()> {
    let path = path.as_ref();
    let contents = contents.into();
    let refuse = |fault: String| Error::Config { what: "adapter file", faults: vec![fault] };
    if contents.adapter.is_none() && contents.vit.is_none_or(|vit| vit.lora.is_none()) {
        return Err(refuse("the model has no adapter to save".into()));
    }
    let params = store.params();
    let is_wanted = |param: &Param| {
        param.role.is_adapter() && adapter_name(&param.name) == Some(contents.name.as_str())
    };
    let mut tensors = BTreeMap::new();
    for param in params.iter().filter(|param| is_wanted(param)) {
        let name = named::renamed(&param.name, DEFAULT_ADAPTER);
        tensors.insert(name.unwrap_or_else(|| param.name.clone()), param.tensor.clone());
    }
    if tensors.is_empty() {
        let names = store.adapter_names();
        return Err(named::unknown(&contents.name, names.iter().map(String::as_str)));
    }
    let dims = |name: &str| tensors.get(name).map(candle_core::Tensor::dims);
    let faults = contents.adapter.map(|config| unlike(config, dims, &tensors)).unwrap_or_default();
    if !faults.is_empty() {
        return Err(Error::Config { what: "adapter file", faults });
    }
    if contents.head {
        let head = params.iter().filter(|param| param.role == Role::Head);
        let adapters = tensors.len();
        tensors.extend(head.map(|param| (param.name.clone(), param.tensor.clone())));
        if tensors.len() == adapters {
            return Err(refuse("the model has no parameter of the role `Head` to save".into()));
        }
    }
    warn_of_others(path, &params, contents.head);
    let json = |error: serde_json::Error| Error::Format {
        path: path.to_path_buf(),
        what: error.to_string(),
    };
    let mut metadata = notes.clone();
    Identity::of(store)?.write(&mut metadata).map_err(json)?;
    match &contents.vit {
        Some(vit) => {
            metadata.insert("format".into(), FORMAT.into());
            metadata.insert(VIT.into(), serde_json::to_string(vit).map_err(json)?);
        }
        None => {
            metadata.insert("format".into(), FOREIGN.into());
            metadata
                .insert(ADAPTER.into(), serde_json::to_string(&contents.adapter).map_err(json)?);
        }
    }
    if contents.name != DEFAULT_ADAPTER {
        metadata.insert(NAME.into(), contents.name.clone());
    }
    save(path, &tensors, &metadata, FloatType::F32)
}

/// The places of adapters, from the names of their tensors.
pub(super) fn places<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    for (place, _) in names.filter_map(|name| named::place_and_part(name)) {
        if places.iter().all(|known| known != place) {
            places.push(place.to_string());
        }
    }
    places
}

/// Where the tensors of adapters are not those of `config`.
fn unlike<'a>(
    config: AdapterConfig,
    dims: impl Fn(&str) -> Option<&'a [usize]>,
    tensors: &BTreeMap<String, candle_core::Tensor>,
) -> Vec<String> {
    let mut faults = Vec::new();
    // Low-rank adapters may stand beside these; they have places of their own.
    let bottlenecks = tensors.keys().filter(|name| !name.contains("lora_"));
    for place in places(bottlenecks) {
        let at = |part: &str| match place.as_str() {
            "" => dims(part),
            place => dims(&format!("{place}.{part}")),
        };
        let mut differs = |what: &str, expected: String, found: String| {
            faults.push(format!(
                "`{what}` of the adapter at `{place}`: the configuration says {expected}, found {found}"
            ));
        };
        let Some(&[bottleneck, dim]) = at("adaptmlp.down_proj.weight") else {
            differs("down_proj.weight", "a matrix".into(), "none".into());
            continue;
        };
        if bottleneck != config.bottleneck {
            differs("bottleneck", config.bottleneck.to_string(), bottleneck.to_string());
        }
        let norm = match at("adaptmlp.adapter_layer_norm_before.weight") {
            Some(_) => AdapterNorm::In,
            None => AdapterNorm::None,
        };
        if norm != config.norm {
            differs("norm", config.norm.to_string(), norm.to_string());
        }
        let gate = at("scalar_pred.weight").map_or(0, |dims| dims.iter().product());
        if gate != config.scale.gate_width(dim) {
            differs("scale", config.scale.to_string(), format!("a gate of {gate} values"));
        }
        let has_scale = at("adaptmlp.scale").is_some();
        if matches!(config.scale, Scale::Learnable { .. }) && !has_scale {
            differs("scale", config.scale.to_string(), "no learnable scale".into());
        }
    }
    faults
}

/// Warns of parameters that train and are not in the file.
fn warn_of_others(path: &Path, params: &[Param], head: bool) {
    const SHOWN: usize = 3;
    let is_left_out = |param: &&Param| {
        let role = param.role;
        let saved = role.is_adapter() || role.is_decoder() || (role == Role::Head && head);
        param.var.is_some() && !saved
    };
    let names: Vec<&str> =
        params.iter().filter(is_left_out).map(|param| param.name.as_str()).collect();
    if let Some(shown) = names.get(..names.len().min(SHOWN)).filter(|shown| !shown.is_empty()) {
        tracing::warn!(
            "{}: {} tensors that train are no adapters' and not in the file: {}{}",
            path.display(),
            names.len(),
            shown.join(", "),
            if names.len() > SHOWN { ", .." } else { "" }
        );
    }
}
