//! Detection metrics of COCO: the twelve numbers of pycocotools (`COCOeval`), of boxes and of
//! masks.

mod dataset;
mod evaluate;

use std::{collections::BTreeSet, fs, path::Path};

use pad_data::rle::Segmentation;
use pad_ops::fs::write_atomic_bytes;
use serde::{Deserialize, Serialize};

pub use self::evaluate::{CocoMetrics, evaluate, evaluate_masks};
pub use crate::error::CocoError;

/// An image of a dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CocoImage {
    /// Its id, unique in the file.
    pub id: i64,
    /// File.
    #[serde(default)]
    pub file_name: String,
    /// Width, pixels.
    pub width: usize,
    /// Height, pixels.
    pub height: usize,
}

/// A class of objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CocoCategory {
    /// Its id, unique in the file.
    pub id: i64,
    /// Name.
    pub name: String,
}

/// A labelled object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CocoAnnotation {
    /// Its id, unique in the file.
    pub id: i64,
    /// Its image.
    pub image_id: i64,
    /// Its class.
    pub category_id: i64,
    /// Left, top, width, height, pixels.
    pub bbox: [f64; 4],
    /// Area, square pixels, by which objects count as small, medium or large.
    pub area: f64,
    /// 1 for a region of many objects, in which detections are neither right nor wrong.
    #[serde(default)]
    pub iscrowd: u8,
    /// Whether it is neither right nor wrong to find the object, as Pascal VOC has it; unlike a crowd
    /// it is found by its overlap. No field of COCO's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub difficult: bool,
    /// Its pixels, for metrics of masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<Segmentation>,
}

/// The annotations of a dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CocoTruth {
    /// Images.
    pub images: Vec<CocoImage>,
    /// Objects.
    pub annotations: Vec<CocoAnnotation>,
    /// Classes.
    pub categories: Vec<CocoCategory>,
}

/// A detected object, as in COCO's results files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CocoResult {
    /// Its image.
    pub image_id: i64,
    /// Its class.
    pub category_id: i64,
    /// Left, top, width, height, pixels.
    pub bbox: [f64; 4],
    /// Confidence; only the order matters.
    pub score: f64,
    /// Its pixels, for metrics of masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<Segmentation>,
}

impl CocoTruth {
    /// Reads and checks annotations.
    ///
    /// # Errors
    /// [`CocoError::Io`], [`CocoError::Json`], and as [`CocoTruth::validate`].
    pub fn read(path: &Path) -> Result<Self, CocoError> {
        let truth: Self = read(path)?;
        truth.validate()?;
        Ok(truth)
    }

    /// Checks that ids are unique and that annotations refer to known images and categories.
    ///
    /// # Errors
    /// [`CocoError::Duplicate`], [`CocoError::Unknown`].
    pub fn validate(&self) -> Result<(), CocoError> {
        let images = unique("image", self.images.iter().map(|image| image.id))?;
        let categories = unique("category", self.categories.iter().map(|category| category.id))?;
        unique("annotation", self.annotations.iter().map(|annotation| annotation.id))?;
        for (place, annotation) in self.annotations.iter().enumerate() {
            known("annotation", place, "image", annotation.image_id, &images)?;
            known("annotation", place, "category", annotation.category_id, &categories)?;
        }
        Ok(())
    }
}

/// Reads a results file.
///
/// # Errors
/// [`CocoError::Io`], [`CocoError::Json`].
pub fn read_results(path: &Path) -> Result<Vec<CocoResult>, CocoError> {
    read(path)
}

/// Writes a results file.
///
/// # Errors
/// [`CocoError::Io`], [`CocoError::Json`].
pub fn write_results(path: &Path, results: &[CocoResult]) -> Result<(), CocoError> {
    let text = serde_json::to_vec(results)
        .map_err(|cause| CocoError::Json { path: path.into(), cause })?;
    write_atomic_bytes(path, &text).map_err(|cause| CocoError::Io { path: path.into(), cause })
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, CocoError> {
    let text = fs::read(path).map_err(|cause| CocoError::Io { path: path.into(), cause })?;
    serde_json::from_slice(&text).map_err(|cause| CocoError::Json { path: path.into(), cause })
}

fn unique(what: &'static str, ids: impl Iterator<Item = i64>) -> Result<BTreeSet<i64>, CocoError> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(CocoError::Duplicate { what, id });
        }
    }
    Ok(seen)
}

fn known(
    what: &'static str,
    place: usize,
    of: &'static str,
    id: i64,
    ids: &BTreeSet<i64>,
) -> Result<(), CocoError> {
    if ids.contains(&id) { Ok(()) } else { Err(CocoError::Unknown { what, place, of, id }) }
}
