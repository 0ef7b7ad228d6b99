//! A checkpoint in memory: tensors by name, and the file's own metadata.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor, pickle::PthTensors, safetensors::Load};
use safetensors::SafeTensors;

use super::hub::Address;
use crate::{Error, Result};

/// Tensors by name, on the CPU, in the dtype of the file.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
}

/// Keys under which PyTorch programs keep the weights.
const STATE_KEYS: [&str; 3] = ["model", "state_dict", "teacher"];

impl Checkpoint {
    /// Reads a `.safetensors` file, or a `.pth` / `.pt` / `.bin` file of PyTorch (nothing in it is executed; weights
    /// at the top or under `model` or `state_dict`). A path `hf://owner/repo[/file][@revision]` is fetched from the
    /// Hugging Face hub (feature `hub`; its cache and its environment variables are honoured).
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a file that is truncated, damaged, of another kind, or without a tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let fetched = match path.to_str().map(Address::parse).transpose()?.flatten() {
            Some(address) => Some(address.fetch()?),
            None => None,
        };
        let path = fetched.as_deref().unwrap_or(path);
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        match extension.to_ascii_lowercase().as_str() {
            "safetensors" => {
                let bytes = std::fs::read(path)
                    .map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
                Self::from_safetensors(&bytes, path)
            }
            "pth" | "pt" | "bin" => Self::open_pth(path),
            _ => Err(Error::Format {
                path: path.to_path_buf(),
                what: "not a checkpoint: expected .safetensors, .pth, .pt or .bin".into(),
            }),
        }
    }

    /// Reads the bytes of a safetensors file; `path` only names it in errors.
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

    fn open_pth(path: &Path) -> Result<Self> {
        let refuse = |what: String| Error::Format { path: path.to_path_buf(), what };
        std::fs::File::open(path)
            .map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        // With no key given a nested dictionary reads as an empty list, so the keys come first.
        for key in STATE_KEYS.into_iter().map(Some).chain([None]) {
            let Ok(file) = PthTensors::new(path, key) else { continue };
            let mut tensors = BTreeMap::new();
            for name in file.tensor_infos().keys() {
                let tensor = file.get(name).map_err(|e| refuse(format!("tensor `{name}`: {e}")))?;
                tensors.extend(tensor.map(|tensor| (name.clone(), tensor)));
            }
            if !tensors.is_empty() {
                return Self::with_tensors(path.to_path_buf(), tensors, BTreeMap::new());
            }
        }
        Err(refuse(
            "no tensor found at the top or under `model` or `state_dict` (files of PyTorch before 1.6 must be saved \
             again)"
                .into(),
        ))
    }

    fn with_tensors(
        path: PathBuf,
        tensors: BTreeMap<String, Tensor>,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self> {
        if tensors.is_empty() {
            return Err(Error::Format { path, what: "the file holds no tensor".into() });
        }
        Ok(Self { path, tensors, metadata })
    }

    /// A checkpoint of tensors that are already there; `path` only names it in errors.
    pub fn from_tensors(path: impl Into<PathBuf>, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { path: path.into(), tensors, metadata: BTreeMap::new() }
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

    /// The file's own strings.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Replaces or adds one tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// Removes one tensor.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }

    /// Lays the tensors of `other` over these.
    pub fn merge(&mut self, other: Checkpoint) {
        self.tensors.extend(other.tensors);
    }
}
