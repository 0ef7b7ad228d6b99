//! `data.yaml` of YOLO: what opens has boxes inside their images, of classes of the set, under numbers of their own.
#![no_main]

mod common;

use std::{fs, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

fuzz_target!(|bytes: &[u8]| {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let root = FOLDER.get_or_init(common::folder).path();
    fs::write(root.join("data.yaml"), bytes).unwrap();
    fs::write(root.join("labels/train/a.txt"), "0 0.5 0.5 0.5 0.5\n3 0.5 0.5 0.1 0.1").unwrap();
    common::check(root, "yolo", false);
});
