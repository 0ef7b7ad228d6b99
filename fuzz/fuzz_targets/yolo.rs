//! Text files of YOLO and lists of names, apart by a byte 0: what opens has boxes inside their images, of classes of the set.
#![no_main]

mod common;

use std::{fs, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

fuzz_target!(|bytes: &[u8]| {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let root = FOLDER.get_or_init(common::folder).path();
    let split = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (labels, names) = bytes.split_at(split);
    fs::write(root.join("labels/train/a.txt"), labels).unwrap();
    fs::write(root.join("classes.txt"), names.get(1..).unwrap_or(b"person\ncar")).unwrap();
    common::check(root, "yolo", false);
});
