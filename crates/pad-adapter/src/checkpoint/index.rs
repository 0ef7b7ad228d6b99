//! Names of weights in a folder or on the hub, and indices of weights that lie in several files.

use std::{collections::BTreeMap, path::Path};

use pad_ops::text::shown;

use crate::{Error, Result};

/// Names of weights on the hub, in the order in which they are looked for.
pub(super) const FILES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// The settings beside weights: transformers' or timm's.
pub(super) const CONFIG: &str = "config.json";

/// The preprocessing of images by transformers.
pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";

/// The files that an index of shards names, each with its tensors, both sorted.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for anything but such an index, or one that names a file
/// elsewhere.
pub(super) fn shards(path: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let refuse = |what: String| Error::Format { path: path.to_path_buf(), what };
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = pad_ops::fs::read_to_string(path)
        .map_err(|cause| Error::Io { path: path.to_path_buf(), cause })?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|error| refuse(format!("not an index of shards: {error}")))?;
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, file) in index.weight_map {
        let plain = Path::new(&file).file_name().is_some_and(|name| name == file.as_str());
        if !plain || file.ends_with(".index.json") {
            let file = shown(&file);
            return Err(refuse(format!("it names `{file}`, expected a file beside the index")));
        }
        files.entry(file).or_default().push(name);
    }
    Ok(files)
}
