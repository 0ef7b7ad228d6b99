//! Lists of images: every line is an image of the folder or a fault, and none occurs twice.
#![no_main]

mod common;

use std::{collections::BTreeSet, fs, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use pad_data::{
    Dataset,
    sets::detection::{DetectionOptions, DetectionSet},
};
use tempfile::TempDir;

fuzz_target!(|bytes: &[u8]| {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = || {
        let folder = common::folder();
        fs::write(folder.path().join("classes.txt"), "person").unwrap();
        fs::write(folder.path().join("data.yaml"), "train: train.txt").unwrap();
        fs::write(folder.path().join("labels/train/a.txt"), "0 0.5 0.5 0.5 0.5").unwrap();
        folder
    };
    let root = FOLDER.get_or_init(folder).path();
    fs::write(root.join("train.txt"), bytes).unwrap();
    let options = DetectionOptions { max_faulty: 1.0, ..DetectionOptions::default() };
    let Ok(set) = DetectionSet::open(root, "train", "yolo".parse().unwrap(), &options) else {
        return;
    };
    let mut seen = BTreeSet::new();
    for index in 0..set.len() {
        let path = set.image_path(index).unwrap();
        assert!(path.is_file() && seen.insert(path.to_path_buf()));
    }
});
