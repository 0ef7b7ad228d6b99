//! safetensors files: what is read is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pad_adapter::checkpoint::{Checkpoint, FloatType, save};

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Checkpoint::from_safetensors(bytes, "file") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.safetensors");
    save(&path, file.tensors(), file.metadata(), FloatType::AsIs).unwrap();
    let again = Checkpoint::open(&path).unwrap();
    assert_eq!(file.metadata(), again.metadata());
    assert!(file.names().eq(again.names()));
    for (name, tensor) in file.tensors() {
        assert_eq!(tensor.shape(), again.get(name).unwrap().shape(), "{name}");
    }
    // Whatever it holds, the conversion and the model that it tells are a result or an error.
    if let Ok((file, _)) = file.to_ours(None) {
        let _ = file.vit_config();
    }
});
