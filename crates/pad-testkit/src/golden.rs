//! Files of the reference implementation's inputs, weights, outputs and gradients.

use std::{collections::BTreeMap, path::PathBuf};

use candle_core::{Device, Tensor};

/// `tests/golden` at the root of the workspace.
pub fn golden_dir() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden"))
}

/// All tensors of `tests/golden/NAME.safetensors`.
///
/// # Panics
/// If the file cannot be read.
pub fn golden(name: &str) -> BTreeMap<String, Tensor> {
    let path = golden_dir().join(format!("{name}.safetensors"));
    candle_core::safetensors::load(&path, &Device::Cpu)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into_iter()
        .collect()
}

/// `tests/golden/NAME.json`.
///
/// # Panics
/// If the file cannot be read.
pub fn index(name: &str) -> serde_json::Value {
    let path = golden_dir().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
