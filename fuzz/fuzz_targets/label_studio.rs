//! Label Studio's JSON: what opens has boxes inside their images, of classes of the set, under numbers of their own.
#![no_main]

mod common;

use std::{fs, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

fuzz_target!(|bytes: &[u8]| {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let root = FOLDER.get_or_init(common::folder).path();
    fs::write(root.join("annotations/train.json"), bytes).unwrap();
    common::check(root, "label-studio", false);
});
