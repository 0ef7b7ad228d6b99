//! A checkpoint in memory: tensors by name, and the file's own metadata.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor, safetensors::Load};
use safetensors::SafeTensors;

#[cfg(feature = "hub")]
use super::hub_files::fetch;
use super::{
    InputStats,
    hub::Address,
    index::{CONFIG, FILES, PREPROCESSOR, shards},
    pth,
};
use crate::{Error, Result};

/// Tensors by name, on the CPU, in the dtype of the file.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
    hub_config: Option<serde_json::Value>,
    /// Input statistics that the files beside it give.
    stats_beside: Option<InputStats>,
}

fn json(path: &Path) -> Option<serde_json::Value> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
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
    /// - a `.safetensors` file;
    /// - a `.pth` / `.pt` / `.bin` file of PyTorch 1.6 or later (nothing in it is executed, and a
    ///   file that names functions which no checkpoint needs is refused; weights at the top or
    ///   under `model`, `state_dict` or `teacher`);
    /// - a `.index.json` file that spreads the weights over several such files;
    /// - a folder with one of these under the hub's names (`model.safetensors`,
    ///   `pytorch_model.bin`, ..);
    /// - `hf://owner/repo[/file][@revision]`, fetched from the Hugging Face hub (feature `hub`; its
    ///   cache and its environment variables are honoured, `HF_HUB_OFFLINE` among them).
    ///
    /// A `config.json` beside the file is kept with it, see [`Checkpoint::vit_config`].
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a file that is truncated, damaged, of another kind, or
    /// without a tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
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
            Self::open_file(&path)?
        } else {
            Self::open_file(path)?
        };
        let folder = found.path.parent();
        found.hub_config = folder.and_then(hub_config);
        found.stats_beside = folder.and_then(stats_beside);
        Ok(found)
    }

    fn open_file(path: &Path) -> Result<Self> {
        if path.to_str().is_some_and(|name| name.ends_with(".index.json")) {
            return Self::open_shards(path);
        }
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        match extension.to_ascii_lowercase().as_str() {
            "safetensors" => {
                let bytes = std::fs::read(path)
                    .map_err(|cause| Error::Io { path: path.to_path_buf(), cause })?;
                Self::from_safetensors(&bytes, path)
            }
            "pth" | "pt" | "bin" => {
                Self::with_tensors(path.to_path_buf(), pth::read(path)?, BTreeMap::new())
            }
            _ => {
                // The folder of a run that does not exist has no extension either.
                std::fs::metadata(path)
                    .map_err(|cause| Error::Io { path: path.to_path_buf(), cause })?;
                Err(Error::Format {
                    path: path.to_path_buf(),
                    what: "not a checkpoint: expected .safetensors, .pth, .pt, .bin or .index.json"
                        .into(),
                })
            }
        }
    }

    /// The files that an index names, as one.
    fn open_shards(path: &Path) -> Result<Self> {
        let refuse = |what: String| Error::Format { path: path.to_path_buf(), what };
        let mut all = Self { path: path.to_path_buf(), ..Default::default() };
        for (shard, names) in shards(path)? {
            let file = path.with_file_name(&shard);
            if !file.is_file() {
                return Err(refuse(format!("it names the file `{shard}`, which is absent")));
            }
            let mut part = Self::open_file(&file)?;
            for name in names {
                let tensor = part.remove(&name).ok_or_else(|| {
                    refuse(format!("tensor `{name}` is not in `{shard}`, where the index puts it"))
                })?;
                all.insert(name, tensor);
            }
            all.metadata.append(&mut part.metadata);
        }
        Self::with_tensors(all.path, all.tensors, all.metadata)
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
        let views = SafeTensors::deserialize(bytes)
            .map_err(|error| refuse(format!("not a safetensors file: {error}")))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in views.tensors() {
            let tensor = view
                .load(&Device::Cpu)
                .map_err(|error| refuse(format!("tensor `{name}`: {error}")))?;
            tensors.insert(name, tensor);
        }
        Self::with_tensors(path, tensors, metadata)
    }

    fn with_tensors(
        path: PathBuf,
        tensors: BTreeMap<String, Tensor>,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self> {
        if tensors.is_empty() {
            return Err(Error::Format { path, what: "the file holds no tensor".into() });
        }
        Ok(Self { path, tensors, metadata, ..Default::default() })
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
    }
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
