//! Masks and `classes.toml`, apart by a byte 0: what is read has classes of its set, and its image's size.
#![no_main]

use std::{fs, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use pad_data::{
    Dataset,
    draw::Canvas,
    image::DecodeOptions,
    sets::segmentation::{SegmentationOptions, SegmentationSet},
};
use pad_ops::ImageSize;
use tempfile::TempDir;

fuzz_target!(|bytes: &[u8]| {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let root = FOLDER.get_or_init(folder).path();
    let split = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (toml, mask) = bytes.split_at(split);
    let toml: &[u8] = if toml.is_empty() { b"classes = [\"a\", \"b\"]" } else { toml };
    fs::write(root.join("classes.toml"), toml).unwrap();
    fs::write(root.join("masks/train/a.png"), mask.get(1..).unwrap_or_default()).unwrap();
    let options = SegmentationOptions::default();
    let set = match SegmentationSet::open(root, "train", "folder".parse().unwrap(), &options) {
        Ok(set) => set,
        Err(error) => return assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    };
    let limits = DecodeOptions { max_alloc_bytes: 1 << 20, ..DecodeOptions::default() };
    for index in 0..set.len() {
        match set.get(index, &limits) {
            Ok(sample) => {
                let classes = set.classes();
                assert_eq!(sample.labels.size(), sample.image.size());
                let known = |class: &u8| usize::from(*class) < classes.len() || *class == classes.ignore;
                assert!(sample.labels.classes().iter().all(known));
            }
            Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
        }
    }
});

/// A picture of 20 x 30, whose mask and classes are to be written.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["images/train", "masks/train"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    let picture = Canvas::new(ImageSize::new(20, 30), [90; 3]);
    picture.save_png(folder.path().join("images/train/a.png")).unwrap();
    folder
}
