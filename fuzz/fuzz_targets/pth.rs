//! Files of PyTorch, both layouts and their pickles: no more values than the file holds and 64 MiB.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pad_adapter::checkpoint::Checkpoint;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    match Checkpoint::open(&path) {
        Ok(file) => {
            for (name, tensor) in file.tensors() {
                // Shapes never claim more than was read.
                let values = tensor.elem_count() * tensor.dtype().size_in_bytes();
                assert!(values <= bytes.len() + (64 << 20), "{name}: {values} bytes");
            }
            let _ = file.to_ours(None);
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 20_000 && !text.chars().any(char::is_control), "{text:?}");
        }
    }
});
