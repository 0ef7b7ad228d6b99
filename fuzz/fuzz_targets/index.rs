//! Indices of shards, and the settings beside weights: no file but those beside the index is read, and what is
//! inferred is a result or an error.
#![no_main]

use std::{collections::BTreeMap, fs, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use pad_adapter::checkpoint::{Checkpoint, FloatType, save};
use tempfile::TempDir;

fuzz_target!(|bytes: &[u8]| {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let root = FOLDER.get_or_init(folder).path();
    // The same text as an index, and as either file of settings.
    for name in ["model.safetensors.index.json", "config.json", "preprocessor_config.json"] {
        fs::write(root.join(name), bytes).unwrap();
    }
    for name in ["model.safetensors.index.json", "a.safetensors"] {
        match Checkpoint::open(root.join(name)) {
            Ok(file) => {
                assert!(file.names().all(|name| ["x", "blocks.0.norm1.weight"].contains(&name)));
                let _ = (file.input_stats(), file.vit_config());
                let _ = file.to_ours(None);
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.len() < 20_000 && !text.chars().any(char::is_control), "{text:?}");
            }
        }
    }
});

/// Weights of two tensors in `a.safetensors`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tensor = candle_core::Tensor::zeros(
        4,
        candle_core::DType::F32,
        &candle_core::Device::Cpu,
    );
    let tensor = tensor.unwrap();
    let names = ["x", "blocks.0.norm1.weight"].map(|name| (name.to_string(), tensor.clone()));
    let tensors = BTreeMap::from(names);
    let path = folder.path().join("a.safetensors");
    save(&path, &tensors, &BTreeMap::new(), FloatType::AsIs).unwrap();
    folder
}
