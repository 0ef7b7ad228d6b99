//! Folders of pictures and the files of their labels.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Result, draw::Canvas, sets::detection::*};

/// A folder with pictures of 40 x 60 (`a.png`, `b.png`, `c.png`).
pub(super) fn pictures() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, level) in [("a", 10), ("b", 100), ("c", 200)] {
        picture(&folder.path().join(format!("images/{name}.png")), level);
    }
    folder
}

pub(super) fn picture(path: &Path, level: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut canvas = Canvas::new(ImageSize::new(40, 60), [level; 3]);
    canvas.paste(&Canvas::new(ImageSize::new(20, 30), [255 - level; 3]), 10, 5);
    canvas.save_png(path).unwrap();
}

/// COCO annotations whose numbers are in no order and have gaps.
pub(super) fn annotations() -> Value {
    json!({
        "info": {"year": 2020},
        "images": [
            {"id": 907, "file_name": "c.png", "width": 60, "height": 40, "extra": [1]},
            {"id": 12, "file_name": "a.png", "width": 60, "height": 40},
            {"id": 40, "file_name": "b.png"},
        ],
        "categories": [
            {"id": 7, "name": "car", "supercategory": "vehicle"},
            {"id": 2, "name": "person"},
            {"id": 9, "name": "dog"},
        ],
        "annotations": [
            {"id": 5, "image_id": 907, "category_id": 7, "bbox": [5, 10, 30, 20], "area": 321.5},
            {"id": 3, "image_id": 907, "category_id": 2, "bbox": [0.5, 0, 59.5, 40], "iscrowd": 1},
            {"id": 1, "image_id": 12, "category_id": 9, "bbox": [1, 2, 3, 4]},
        ],
    })
}

pub(super) fn write(folder: &TempDir, annotations: &Value) -> PathBuf {
    let path = folder.path().join("train.json");
    fs::write(&path, annotations.to_string()).unwrap();
    path
}

pub(super) fn coco(annotations: &Value, options: &DetectionOptions) -> Result<DetectionSet> {
    let folder = pictures();
    DetectionSet::coco(write(&folder, annotations), folder.path().join("images"), options)
}

/// Nothing is tolerated.
pub(super) fn strict() -> DetectionOptions {
    DetectionOptions { max_faulty: 0.0, ..Default::default() }
}

/// The text of the refusal, without the folder.
pub(super) fn refused(annotations: &Value) -> String {
    let folder = pictures();
    let path = write(&folder, annotations);
    let refused = DetectionSet::coco(path, folder.path().join("images"), &strict());
    refused.unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "ROOT")
}

pub(super) fn voc_file(object: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<annotation><filename>a.png</filename>\
         <size><width>60</width><height>40</height><depth>1</depth></size>{object}</annotation>"
    )
}

pub(super) fn voc_object(name: &str, [x1, y1, x2, y2]: [&str; 4]) -> String {
    format!(
        "<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>\
         <xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
    )
}
