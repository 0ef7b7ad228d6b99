//! Sets in tar files: every listed image is read or an error, as are its regions.
#![no_main]

use std::{fs, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use pad_data::{Dataset, image::DecodeOptions, shards::ShardSet};
use tempfile::TempDir;

fuzz_target!(|bytes: &[u8]| {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let root = FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path();
    fs::write(root.join("0.tar"), bytes).unwrap();
    let set = match ShardSet::open(root) {
        Ok(set) => set,
        Err(error) => return assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    };
    let options = DecodeOptions {
        max_pixels: 1 << 16,
        max_alloc_bytes: 1 << 20,
        min_side: 1,
        ..Default::default()
    };
    for index in 0..set.len().min(16) {
        assert!(!set.name(index).is_empty());
        if let Ok(image) = set.get(index, &options) {
            assert!(image.size().area() <= 1 << 16);
        }
        if let Some(file) = set.info(index).unwrap().roi_file {
            let read = file.read().unwrap().unwrap_or_default();
            assert!(read.len() <= bytes.len());
        }
    }
});
