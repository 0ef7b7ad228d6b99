//! A checkpoint in memory: tensors by name, and the file's own metadata.

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor, safetensors::Load};
use pad_ops::text::shown;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

#[cfg(feature = "hub")]
use super::hub_files::fetch;
use super::{
    InputStats,
    hub::Address,
    index::{CONFIG, FILES, PREPROCESSOR, shards},
    pth::read_zip,
    pth_legacy::read_legacy,
    sniff::{Kind, START, kind},
    state_dict::MAX_TENSORS,
};
use crate::{Error, Result};

/// Tensors by name, on the CPU, in the dtype of the file.
///
/// ```
/// use std::collections::BTreeMap;
/// use candle_core::{Device, Tensor};
/// use pad_adapter::checkpoint::{Checkpoint, FloatType, InputStats, save};
///
/// // Tensors in memory, changed by hand.
/// let weight = Tensor::new(&[1_f32, 2.0], &Device::Cpu)?;
/// let tensors = BTreeMap::from([("norm.weight".to_string(), weight.clone())]);
/// let mut file = Checkpoint::from_tensors("mine", tensors);
/// file.insert("norm.bias", weight.clone());
/// file.insert("head.weight", weight.clone());
/// file.retain(|name| name.starts_with("norm."));
/// assert_eq!(file.names().collect::<Vec<_>>(), ["norm.bias", "norm.weight"]);
/// assert!(file.remove("norm.bias").is_some());
/// let other = BTreeMap::from([("norm.weight".to_string(), (&weight * 2.0)?)]);
/// file.merge(Checkpoint::from_tensors("other", other)); // replaces
/// assert_eq!(file.get("norm.weight").unwrap().to_vec1::<f32>()?, [2.0, 4.0]);
///
/// // Its metadata.
/// file.set_metadata("note", "night");
/// file.set_input_stats(&InputStats::HALF);
/// assert_eq!(file.input_stats()?, Some(InputStats::HALF));
///
/// // Written, and read again.
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("model.safetensors");
/// save(&path, file.tensors(), file.metadata(), FloatType::AsIs)?;
/// let mut read = Checkpoint::open(folder.path())?; // or the file itself
/// assert_eq!((read.path(), read.metadata()["note"].as_str()), (path.as_path(), "night"));
/// assert_eq!(read.remove_metadata("note").as_deref(), Some("night"));
/// assert!(read.unread().is_empty() && read.hub_config().is_none());
/// let bytes = std::fs::read(&path).unwrap();
/// assert_eq!(Checkpoint::from_safetensors(&bytes, "bytes")?.names().count(), 1);
/// // A key is for files of PyTorch with several dictionaries.
/// let error = Checkpoint::open_with_key(&path, Some("model_ema")).unwrap_err().to_string();
/// assert!(error.contains("a safetensors file has no keys"), "{error}");
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
    hub_config: Option<serde_json::Value>,
    /// Input statistics that the files beside it give.
    stats_beside: Option<InputStats>,
    /// Tensors of the file that cannot be read, with why.
    unread: BTreeMap<String, String>,
}

fn json(path: &Path) -> Option<serde_json::Value> {
    serde_json::from_str(&pad_ops::fs::read_to_string(path).ok()?).ok()
}

/// The `config.json` in `folder`, if it is one of transformers or timm.
fn hub_config(folder: &Path) -> Option<serde_json::Value> {
    let config = json(&folder.join(CONFIG))?;
    let keys = ["model_type", "architectures", "architecture"];
    keys.iter().any(|key| config.get(key).is_some()).then_some(config)
}

/// The input statistics that transformers or timm keep beside weights.
fn stats_beside(folder: &Path) -> Option<InputStats> {
    let of_transformers = || {
        let preprocessor = json(&folder.join(PREPROCESSOR))?;
        InputStats::in_json(&preprocessor, "image_mean", "image_std")
    };
    let of_timm = || {
        let config = json(&folder.join(CONFIG))?;
        InputStats::in_json(config.get("pretrained_cfg")?, "mean", "std")
    };
    of_transformers().or_else(of_timm)
}

/// # Errors
/// [`Error::Format`], which names the feature.
#[cfg(not(feature = "hub"))]
fn fetch(address: &Address) -> Result<PathBuf> {
    Err(Error::Format {
        path: address.to_string().into(),
        what: "built without the feature `hub`: add it, or download the file".into(),
    })
}

impl Checkpoint {
    /// Reads tensors from
    /// - a safetensors file;
    /// - a file of PyTorch (nothing in it is executed, and a file that names functions which no
    ///   checkpoint needs is refused), of 1.6 and later or before; the weights are those of the one
    ///   dictionary of tensors, at the top or up to three dictionaries below;
    /// - an index (`.index.json`) that spreads the weights over several such files;
    /// - a folder with one of these under the hub's names (`model.safetensors`,
    ///   `pytorch_model.bin`, ..);
    /// - `hf://owner/repo[/file][@revision]`, fetched from the Hugging Face hub (feature `hub`; its
    ///   cache and its environment variables are honoured, `HF_HUB_OFFLINE` among them).
    ///
    /// The first bytes tell what a file is, whatever its name. Tensors of types that candle lacks
    /// (8-bit integers, complex numbers, quantised ones) are left out with a warning, see
    /// [`Checkpoint::unread`]. A `config.json` beside the file is kept with it, see
    /// [`Checkpoint::vit_config`].
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a file that is truncated, damaged, of another kind, or
    /// without a tensor, and for several dictionaries of weights.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with_key(path, None)
    }

    /// [`Checkpoint::open`] for a file of PyTorch with several dictionaries of weights: reads the
    /// one under `key` (`model_ema`, or `ema.module` for one inside another).
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; [`Error::Format`] for a file without such a key.
    pub fn open_with_key(path: impl AsRef<Path>, key: Option<&str>) -> Result<Self> {
        let path = path.as_ref();
        let fetched = match path.to_str().map(Address::parse).transpose()?.flatten() {
            Some(address) => Some(fetch(&address)?),
            None => None,
        };
        let path = fetched.as_deref().unwrap_or(path);
        let folder = path;
        let mut found = if folder.is_dir() {
            let path = FILES.iter().map(|file| folder.join(file)).find(|file| file.is_file());
            let path = path.ok_or_else(|| Error::Format {
                path: folder.to_path_buf(),
                what: format!("a folder without any of {}", FILES.join(", ")),
            })?;
            Self::open_file(&path, key, true)?
        } else {
            Self::open_file(path, key, true)?
        };
        let folder = found.path.parent();
        found.hub_config = folder.and_then(hub_config);
        found.stats_beside = folder.and_then(stats_beside);
        if !found.unread.is_empty() {
            let (path, what) = (found.path.display(), listed(&found.unread));
            tracing::warn!("{path}: tensors that cannot be read are left out: {what}");
        }
        Ok(found)
    }

    /// Reads one file; `may_be_index` is false for the files that an index names.
    fn open_file(path: &Path, key: Option<&str>, may_be_index: bool) -> Result<Self> {
        let io = |cause| Error::Io { path: path.to_path_buf(), cause };
        let refuse = |what: String| Error::Format { path: path.to_path_buf(), what };
        let mut file = pad_ops::fs::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut start = Vec::with_capacity(START);
        (&mut file).take(START as u64).read_to_end(&mut start).map_err(io)?;
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        let found = match kind(&start, length, path) {
            Kind::Index if may_be_index => return Self::open_shards(path, key),
            Kind::Index => return Err(refuse("an index of shards inside another one".into())),
            Kind::Safetensors if key.is_some() => {
                let what = "a safetensors file has no keys: expected the option `prefix` in place of \
                            the option `key`";
                return Err(refuse(what.into()));
            }
            Kind::Safetensors => {
                let bytes = pad_ops::fs::read(path).map_err(io)?;
                return Self::from_safetensors(&bytes, path);
            }
            Kind::Zip => read_zip(file, key).map_err(refuse)?,
            Kind::Legacy => read_legacy(file, key).map_err(refuse)?,
            Kind::Other(what) => return Err(refuse(what.into())),
        };
        Self::with_tensors(path.to_path_buf(), found.tensors, BTreeMap::new(), found.unread)
    }

    /// The files that an index names, as one.
    fn open_shards(path: &Path, key: Option<&str>) -> Result<Self> {
        let refuse = |what: String| Error::Format { path: path.to_path_buf(), what };
        let mut all = Self { path: path.to_path_buf(), ..Default::default() };
        for (shard, names) in shards(path)? {
            let file = path.with_file_name(&shard);
            let shown_shard = shown(&shard);
            if !file.exists() {
                return Err(refuse(format!("it names the file `{shown_shard}`, which is absent")));
            }
            let mut part = Self::open_file(&file, key, false)?;
            for name in names {
                if let Some(why) = part.unread.remove(&name) {
                    all.unread.insert(name, why);
                    continue;
                }
                let tensor = part.remove(&name).ok_or_else(|| {
                    let name = shown(&name);
                    refuse(format!(
                        "tensor `{name}` is not in `{shown_shard}`, where the index puts it"
                    ))
                })?;
                all.insert(name, tensor);
            }
            all.metadata.append(&mut part.metadata);
        }
        Self::with_tensors(all.path, all.tensors, all.metadata, all.unread)
    }

    /// Reads the bytes of a safetensors file; `path` is its name in errors.
    ///
    /// # Errors
    /// [`Error::Format`].
    pub fn from_safetensors(bytes: &[u8], path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let refuse = |what: String| Error::Format { path: path.clone(), what };
        let (_, header) = SafeTensors::read_metadata(bytes)
            .map_err(|error| refuse(format!("not a safetensors file: {error}")))?;
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let count = header.tensors().len();
        if count > MAX_TENSORS {
            return Err(refuse(format!("{count} tensors, expected at most {MAX_TENSORS}")));
        }
        let views = SafeTensors::deserialize(bytes)
            .map_err(|error| refuse(format!("not a safetensors file: {error}")))?;
        let (mut tensors, mut unread) = (BTreeMap::new(), BTreeMap::new());
        for (name, view) in views.tensors() {
            match loaded(&view)
                .map_err(|what| refuse(format!("tensor `{}`: {what}", shown(&name))))?
            {
                Some(tensor) => drop(tensors.insert(name, tensor)),
                None => drop(unread.insert(name, format!("of the type {}", view.dtype()))),
            }
        }
        Self::with_tensors(path, tensors, metadata, unread)
    }

    fn with_tensors(
        path: PathBuf,
        tensors: BTreeMap<String, Tensor>,
        metadata: BTreeMap<String, String>,
        unread: BTreeMap<String, String>,
    ) -> Result<Self> {
        if tensors.is_empty() {
            let what = match unread.is_empty() {
                true => "the file holds no tensor".into(),
                false => format!("the file holds no tensor that can be read: {}", listed(&unread)),
            };
            return Err(Error::Format { path, what });
        }
        Ok(Self { path, tensors, metadata, unread, ..Default::default() })
    }

    /// A checkpoint of tensors in memory; `path` is its name in errors.
    pub fn from_tensors(path: impl Into<PathBuf>, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { path: path.into(), tensors, ..Default::default() }
    }

    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One tensor.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Every name, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Every tensor by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Tensors of the file that cannot be read here, by name, each with why. They are not among
    /// [`Checkpoint::tensors`].
    pub fn unread(&self) -> &BTreeMap<String, String> {
        &self.unread
    }

    /// The file's metadata.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Adds or replaces an entry of the metadata.
    pub fn set_metadata(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.metadata.insert(key.into(), value.into());
    }

    /// Removes an entry of the metadata.
    pub fn remove_metadata(&mut self, key: &str) -> Option<String> {
        self.metadata.remove(key)
    }

    /// Removes all metadata.
    pub(super) fn clear_metadata(&mut self) {
        self.metadata.clear();
    }

    /// The format of a file that this project wrote, `pad-mae/1` for one.
    pub(super) fn own_format(&self) -> Option<&str> {
        self.metadata.get("format").map(String::as_str).filter(|format| format.starts_with("pad-"))
    }

    /// The `config.json` of transformers or timm beside the file, if there was one.
    pub fn hub_config(&self) -> Option<&serde_json::Value> {
        self.hub_config.as_ref()
    }

    /// The statistics of the images that the weights were trained on: from the metadata
    /// `input_mean` and `input_std`, or else from transformers' `preprocessor_config.json` or
    /// timm's `config.json` beside the file. [`Checkpoint::to_ours`] adds those of the format.
    ///
    /// # Errors
    /// [`Error::Format`] for metadata that cannot be read.
    pub fn input_stats(&self) -> Result<Option<InputStats>> {
        let stated = InputStats::read(&self.metadata)
            .map_err(|what| Error::Format { path: self.path.clone(), what })?;
        Ok(stated.or(self.stats_beside))
    }

    /// Writes input statistics into the metadata.
    pub fn set_input_stats(&mut self, stats: &InputStats) {
        stats.write(&mut self.metadata);
    }

    /// The same file with other tensors; those of this one are not copied.
    pub(super) fn like(&self, tensors: BTreeMap<String, Tensor>) -> Self {
        Self {
            path: self.path.clone(),
            tensors,
            metadata: self.metadata.clone(),
            hub_config: self.hub_config.clone(),
            stats_beside: self.stats_beside,
            unread: self.unread.clone(),
        }
    }

    /// The same file with other tensors.
    pub(super) fn with(self, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { tensors, ..self }
    }

    /// Replaces or adds one tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// Removes one tensor.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }

    /// Keeps the tensors for whose names `keep` returns true.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.tensors.retain(|name, _| keep(name));
    }

    /// Adds the tensors of `other` and replaces those of the same names.
    pub fn merge(&mut self, other: Checkpoint) {
        self.tensors.extend(other.tensors);
        self.unread.extend(other.unread);
    }
}

/// The tensor in `view`; `None` for a type that candle does not have.
fn loaded(view: &TensorView<'_>) -> Result<Option<Tensor>, String> {
    let sides = view.shape().iter().try_fold(1_usize, |all, &side| all.checked_mul(side.max(1)));
    // Strides of a shape with a side of 0 are products of the others.
    if sides.is_none_or(|values| values > isize::MAX as usize / 8) {
        return Err(format!("shape {:?} is beyond any memory", view.shape()));
    }
    let tensor = match view.dtype() {
        Dtype::BOOL => Tensor::from_raw_buffer(view.data(), DType::U8, view.shape(), &Device::Cpu),
        Dtype::U16 => view.load(&Device::Cpu),
        dtype => match DType::try_from(dtype) {
            Ok(DType::F6E2M3 | DType::F6E3M2 | DType::F4 | DType::F8E8M0) | Err(_) => {
                return Ok(None);
            }
            Ok(_) => view.load(&Device::Cpu),
        },
    };
    tensor.map(Some).map_err(|error| error.to_string())
}

/// At most ten tensors that cannot be read, each with why.
fn listed(unread: &BTreeMap<String, String>) -> String {
    let first = unread.iter().take(10).map(|(name, why)| format!("`{}` ({why})", shown(name)));
    let more = unread.len().saturating_sub(10);
    let more = if more > 0 { format!(", .. ({more} more)") } else { String::new() };
    format!("{}{more}", first.collect::<Vec<_>>().join(", "))
}

#[cfg(all(test, not(feature = "hub")))]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_the_error_names_it() {
        let text = Checkpoint::open("hf://a/b").unwrap_err().to_string();
        let want = "hf://a/b@main: built without the feature `hub`: add it, or download the file";
        assert_eq!(text, want);
    }
}
