//! What the tests of all formats share.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use pad_data::{
    Dataset, Result,
    image::DecodeOptions,
    sets::detection::{DetectionOptions, DetectionSet, LabelledImage},
};
use pad_testkit::golden_folder;
use tempfile::TempDir;

/// The warm square of every image of 64 x 80 pixels.
pub(crate) const SQUARE: [f64; 4] = [30.0, 20.0, 54.0, 44.0];

pub(crate) fn case(name: &str) -> PathBuf {
    golden_folder().join("cases").join(name)
}

pub(crate) fn open_at(
    root: &Path,
    split: &str,
    format: &str,
    options: &DetectionOptions,
) -> Result<DetectionSet> {
    DetectionSet::open(root, split, format.parse()?, options)
}

pub(crate) fn open(name: &str, split: &str, format: &str) -> Result<DetectionSet> {
    open_at(&case(name), split, format, &DetectionOptions::default())
}

pub(crate) fn names(set: &DetectionSet) -> Vec<&str> {
    set.classes().classes().iter().map(|class| class.name.as_str()).collect()
}

pub(crate) fn labels(set: &DetectionSet) -> Vec<Arc<LabelledImage>> {
    (0..set.len()).map(|index| set.info(index).unwrap()).collect()
}

pub(crate) fn boxes(set: &DetectionSet) -> Vec<Vec<[f64; 4]>> {
    let of = |image: &Arc<LabelledImage>| image.objects.iter().map(|object| object.bbox).collect();
    labels(set).iter().map(of).collect()
}

pub(crate) fn classes(set: &DetectionSet) -> Vec<u32> {
    labels(set).iter().flat_map(|image| image.objects.iter().map(|one| one.class)).collect()
}

/// Six images with the square each, whose classes alternate; every image is read.
pub(crate) fn check_square(set: &DetectionSet, images: usize) {
    assert_eq!(boxes(set), vec![vec![SQUARE]; images]);
    for index in 0..set.len() {
        let sample = set.get(index, &DecodeOptions::default()).unwrap();
        assert_eq!(sample.image.size(), sample.labels.size);
    }
}

/// A copy of a case that a test changes.
pub(crate) fn copy(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_all(&case(name), folder.path());
    folder
}

pub(crate) fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_all(&entry.path(), &target),
            false => {
                fs::write(target, fs::read(entry.path()).unwrap()).unwrap();
            }
        }
    }
}

/// Case N00 with other text in `annotations/train.json`.
pub(crate) fn coco(change: impl Fn(String) -> String) -> TempDir {
    let folder = copy("N00");
    let path = folder.path().join("annotations/train.json");
    fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
    folder
}

pub(crate) fn train(folder: &TempDir) -> Result<DetectionSet> {
    open_at(folder.path(), "train", "auto", &DetectionOptions::default())
}

pub(crate) fn text(result: Result<DetectionSet>, folder: &TempDir) -> String {
    let error = result.map(|set| boxes(&set)).unwrap_err().to_string();
    error.replace(folder.path().to_str().unwrap(), "ROOT")
}

pub(crate) fn replaced(from: &'static str, to: &'static str) -> TempDir {
    coco(|text| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}
