//! Detection metrics of COCO: the twelve numbers of pycocotools (`COCOeval`), of boxes and of
//! masks.

mod evaluate;
mod id;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use self::{
    evaluate::{CocoMetrics, evaluate, evaluate_masks},
    id::CocoId,
};
use crate::{CocoError, rle::Segmentation};

/// An image of a dataset.
///
/// ```
/// use pad_metrics::coco::CocoImage;
/// let image: CocoImage = serde_json::from_str(r#"{"id": 7, "width": 640, "height": 512}"#)?;
/// assert_eq!((image.id, image.height), (7.into(), 512));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CocoImage {
    /// Its id, unique in the file.
    pub id: CocoId,
    /// File.
    #[serde(default)]
    pub file_name: String,
    /// Width, pixels.
    pub width: usize,
    /// Height, pixels.
    pub height: usize,
}

/// A class of objects.
///
/// ```
/// use pad_metrics::coco::CocoCategory;
/// let car = CocoCategory { id: 3.into(), name: "car".to_string() };
/// assert_eq!(serde_json::to_string(&car)?, r#"{"id":3,"name":"car"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CocoCategory {
    /// Its id, unique in the file.
    pub id: CocoId,
    /// Name.
    pub name: String,
}

/// A labelled object.
///
/// ```
/// use pad_metrics::coco::CocoAnnotation;
/// let text = r#"{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40]}"#;
/// let object: CocoAnnotation = serde_json::from_str(text)?;
/// assert_eq!((object.area, object.iscrowd, object.segmentation), (1200.0, 0, None));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredAnnotation")]
pub struct CocoAnnotation {
    /// Its id, unique in the file.
    pub id: CocoId,
    /// Its image.
    pub image_id: CocoId,
    /// Its class.
    pub category_id: CocoId,
    /// Left, top, width, height, pixels.
    pub bbox: [f64; 4],
    /// Area, square pixels, by which objects count as small, medium or large. A file without it:
    /// that of the box.
    pub area: f64,
    /// 1 for a region of many objects, in which detections are neither right nor wrong.
    pub iscrowd: u8,
    /// Whether it is neither right nor wrong to find the object, as Pascal VOC has it; unlike a crowd
    /// it is found by its overlap. No field of COCO's own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub difficult: bool,
    /// Its pixels, for metrics of masks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<Segmentation>,
}

/// A labelled object as files have it.
#[derive(Deserialize)]
struct StoredAnnotation {
    id: CocoId,
    image_id: CocoId,
    category_id: CocoId,
    bbox: [f64; 4],
    #[serde(default)]
    area: Option<f64>,
    #[serde(default)]
    iscrowd: u8,
    #[serde(default)]
    difficult: bool,
    #[serde(default)]
    segmentation: Option<Segmentation>,
}

impl From<StoredAnnotation> for CocoAnnotation {
    fn from(stored: StoredAnnotation) -> Self {
        let StoredAnnotation { id, image_id, category_id, bbox, iscrowd, difficult, .. } = stored;
        let area = stored.area.unwrap_or(bbox[2] * bbox[3]);
        let segmentation = stored.segmentation;
        Self { id, image_id, category_id, bbox, area, iscrowd, difficult, segmentation }
    }
}

/// The annotations of a dataset.
///
/// ```
/// use pad_metrics::coco::{CocoCategory, CocoImage, CocoTruth};
/// let file_name = || "a.png".to_string();
/// let image = |id: i64| CocoImage { id: id.into(), file_name: file_name(), width: 4, height: 2 };
/// let categories = vec![CocoCategory { id: 1.into(), name: "car".into() }];
/// let mut truth = CocoTruth { images: vec![image(7)], annotations: vec![], categories };
/// truth.validate()?;
/// truth.images.push(image(7));
/// assert_eq!(truth.validate().unwrap_err().to_string(), "image id 7: expected once, found again");
/// assert!(CocoTruth::read("no/such/file.json".as_ref()).is_err());
/// # Ok::<(), pad_metrics::CocoError>(())
/// ```
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
///
/// ```
/// use pad_metrics::coco::CocoResult;
/// let (image_id, category_id) = (7.into(), 3.into());
/// let bbox = [10.0, 20.0, 30.0, 40.0];
/// let found = CocoResult { image_id, category_id, bbox, score: 0.5, segmentation: None };
/// let text = serde_json::to_string(&[&found])?; // a results file
/// assert_eq!(pad_metrics::coco::results(&text).unwrap(), [found]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CocoResult {
    /// Its image.
    pub image_id: CocoId,
    /// Its class.
    pub category_id: CocoId,
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
        let truth: Self = parsed(&text_of(path)?, path)?;
        truth.validate()?;
        Ok(truth)
    }

    /// Reads and checks annotations from a file's text.
    ///
    /// ```
    /// use pad_metrics::coco::CocoTruth;
    /// let text = r#"{"images": [{"id": 7, "width": 4, "height": 2}], "categories": [{"id": 1, "name": "car"}],
    ///     "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 3, 2]}]}"#;
    /// assert_eq!(CocoTruth::parse(text)?.annotations[0].area, 6.0);
    /// let wrong = text.replace("\"image_id\": 7", "\"image_id\": 8");
    /// let refused = CocoTruth::parse(&wrong).unwrap_err().to_string();
    /// assert_eq!(refused, "annotation 0: expected a known image, found id 8");
    /// # Ok::<(), pad_metrics::CocoError>(())
    /// ```
    ///
    /// # Errors
    /// [`CocoError::Json`] of a file named `annotations`, and as [`CocoTruth::validate`].
    pub fn parse(text: &str) -> Result<Self, CocoError> {
        let truth: Self = parsed(text.as_bytes(), Path::new("annotations"))?;
        truth.validate()?;
        Ok(truth)
    }

    /// Checks that ids are unique, that annotations refer to known images and categories, and that
    /// boxes and areas are numbers.
    ///
    /// # Errors
    /// [`CocoError::Duplicate`], [`CocoError::Unknown`], [`CocoError::NotFinite`].
    pub fn validate(&self) -> Result<(), CocoError> {
        let images = unique("image", self.images.iter().map(|image| &image.id))?;
        let categories = unique("category", self.categories.iter().map(|category| &category.id))?;
        unique("annotation", self.annotations.iter().map(|annotation| &annotation.id))?;
        for (place, annotation) in self.annotations.iter().enumerate() {
            known("annotation", place, "image", &annotation.image_id, &images)?;
            known("annotation", place, "category", &annotation.category_id, &categories)?;
            finite("annotation", place, "box", &annotation.bbox)?;
            finite("annotation", place, "area", &[annotation.area])?;
        }
        Ok(())
    }
}

/// Reads a results file.
///
/// # Errors
/// [`CocoError::Io`], [`CocoError::Json`].
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("results.json");
/// let text = r#"[{"image_id": 7, "category_id": 1, "bbox": [0, 0, 3, 2], "score": 0.5}]"#;
/// std::fs::write(&path, text)?;
/// assert_eq!(pad_metrics::coco::read_results(&path)?[0].bbox, [0.0, 0.0, 3.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_results(path: &Path) -> Result<Vec<CocoResult>, CocoError> {
    parsed(&text_of(path)?, path)
}

/// Reads results from a file's text.
///
/// ```
/// let text = r#"[{"image_id": "a", "category_id": 1, "bbox": [0, 0, 3, 2], "score": 0.5}]"#;
/// assert_eq!(pad_metrics::coco::results(text)?[0].score, 0.5);
/// # Ok::<(), pad_metrics::CocoError>(())
/// ```
///
/// # Errors
/// [`CocoError::Json`] of a file named `results`.
pub fn results(text: &str) -> Result<Vec<CocoResult>, CocoError> {
    parsed(text.as_bytes(), Path::new("results"))
}

fn text_of(path: &Path) -> Result<Vec<u8>, CocoError> {
    fs::read(path).map_err(|cause| CocoError::Io { path: path.into(), cause })
}

fn parsed<T: serde::de::DeserializeOwned>(text: &[u8], path: &Path) -> Result<T, CocoError> {
    let path = || PathBuf::from(path);
    serde_json::from_slice(text).map_err(|cause| CocoError::Json { path: path(), cause })
}

fn unique<'a>(
    what: &'static str,
    ids: impl Iterator<Item = &'a CocoId>,
) -> Result<BTreeSet<&'a CocoId>, CocoError> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(CocoError::Duplicate { what, id: id.clone() });
        }
    }
    Ok(seen)
}

fn known(
    what: &'static str,
    place: usize,
    of: &'static str,
    id: &CocoId,
    ids: &BTreeSet<&CocoId>,
) -> Result<(), CocoError> {
    match ids.contains(id) {
        true => Ok(()),
        false => Err(CocoError::Unknown { what, place, of, id: id.clone() }),
    }
}

fn finite(
    of: &'static str,
    place: usize,
    what: &'static str,
    values: &[f64],
) -> Result<(), CocoError> {
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(&value) => Err(CocoError::NotFinite { of, place, what, value }),
    }
}

#[cfg(test)]
mod tests;
