//! The laws of the fuzz targets of images and labels, on their seeds and on damaged copies of them.

#[path = "../../../fuzz/fuzz_targets/common/mod.rs"]
mod common;
#[path = "../../../fuzz/fuzz_targets/pictures/mod.rs"]
mod pictures;

use std::{fs, path::PathBuf};

use pad_ops::rng::Key;
use pad_testkit::repository;

/// Number of damaged copies of each seed: of labels, and of images, which take longer.
const COPIES: [u64; 2] = [120, 20];

/// Files of a folder, sorted.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = repository().join(folder);
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Seeds of a target, and copies of them.
fn inputs(target: &str) -> Vec<Vec<u8>> {
    damaged(files(&format!("fuzz/seeds/{target}")), COPIES[0])
}

/// Files, and copies with some bytes replaced, left out or repeated.
fn damaged(files: Vec<PathBuf>, copies: u64) -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (number, file) in (0..).zip(files) {
        let seed = fs::read(file).unwrap();
        for copy in 0..copies {
            let mut stream = Key::new(7).sample(number).epoch(copy).stream();
            let mut bytes = seed.clone();
            for _ in 0..copy % 5 {
                let at = stream.below(bytes.len() as u64) as usize;
                match stream.below(4) {
                    0 => bytes[at] = stream.next_u32() as u8,
                    1 => bytes[at] = b"0123456789.-eE \"[]{}<>&,:"[stream.below(25) as usize],
                    2 => bytes.truncate(at + 1),
                    _ => {
                        let part = bytes[at..].to_vec();
                        bytes.extend(part);
                    }
                }
            }
            inputs.push(bytes);
        }
    }
    assert!(!inputs.is_empty());
    inputs
}

fn check(target: &str, file: &str, format: &str, masks: &[bool]) {
    let folder = common::folder();
    if target == "data_yaml" {
        fs::write(folder.path().join("labels/train/a.txt"), "0 0.5 0.5 0.5 0.5\n3 0.5 0.5 0.1 0.1")
            .unwrap();
    }
    if target == "yolo" {
        fs::write(folder.path().join("classes.txt"), "person\ncar\nDontCare\n").unwrap();
    }
    for bytes in inputs(target) {
        fs::write(folder.path().join(file), bytes).unwrap();
        for &masks in masks {
            common::check(folder.path(), format, masks);
        }
    }
}

#[test]
fn coco_files_hold_the_law() {
    check("coco", "annotations/train.json", "coco", &[false, true]);
}

#[test]
fn voc_files_hold_the_law() {
    check("voc", "Annotations/a.xml", "voc", &[false]);
}

#[test]
fn cvat_files_hold_the_law() {
    check("cvat", "annotations.xml", "cvat", &[false]);
}

#[test]
fn files_of_label_studio_hold_the_law() {
    check("label_studio", "annotations/train.json", "label-studio", &[false]);
}

#[test]
fn images_hold_the_law() {
    for (target, name) in [
        ("png", "a.png"),
        ("npy", "a.npy"),
        ("frames", "a.seq"),
        ("thermal_jpeg", "a.jpg"),
        ("flir", "a.jpg"),
    ] {
        let seeds = files(&format!("fuzz/seeds/{target}"));
        damaged(seeds, COPIES[1]).iter().for_each(|bytes| pictures::check(bytes, name));
    }
    let mut layouts = files("tests/golden/cases/I07");
    layouts.retain(|file| file.extension().is_some_and(|kind| kind == "tif"));
    damaged(layouts, COPIES[1]).iter().for_each(|bytes| pictures::check(bytes, "a.tif"));
}

#[test]
fn yolo_files_hold_the_law() {
    check("yolo", "labels/train/a.txt", "yolo", &[false]);
    check("data_yaml", "data.yaml", "yolo", &[false]);
}
