//! `adapter_config.json` of peft beside weights of two blocks: what opens has the rank of its tensors.
#![no_main]

use std::{collections::BTreeMap, fs, sync::OnceLock};

use candle_core::{DType, Device, Tensor};
use libfuzzer_sys::fuzz_target;
use pad_adapter::checkpoint::{FloatType, PeftAdapter, save};
use tempfile::TempDir;

fuzz_target!(|bytes: &[u8]| {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let root = FOLDER.get_or_init(folder).path();
    fs::write(root.join("adapter_config.json"), bytes).unwrap();
    match PeftAdapter::open(root) {
        Ok(adapter) => {
            let config = adapter.config();
            config.validate().unwrap();
            let json = serde_json::to_string(config).unwrap();
            assert_eq!(serde_json::from_str::<pad_adapter::LoraConfig>(&json).unwrap(), *config);
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 20_000 && !text.chars().any(char::is_control), "{text:?}");
        }
    }
});

/// Weights of rank 2 for the queries of two blocks.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = BTreeMap::new();
    for block in 0..2 {
        for (part, shape) in [("A", (2, 8)), ("B", (8, 2))] {
            let module = format!("base_model.model.blocks.{block}.attn.q_proj");
            let tensor = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
            tensors.insert(format!("{module}.lora_{part}.weight"), tensor);
        }
    }
    let path = folder.path().join("adapter_model.safetensors");
    save(&path, &tensors, &BTreeMap::new(), FloatType::AsIs).unwrap();
    folder
}
