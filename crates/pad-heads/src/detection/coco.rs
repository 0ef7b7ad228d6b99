//! COCO's metrics, of [`pad_metrics`], and what they need of datasets and files.

use std::{collections::BTreeSet, path::Path};

use pad_data::{
    Dataset,
    rle::Segmentation,
    sets::detection::{BoxClass, DetectionImage, LabelledImage},
};
pub use pad_metrics::{CocoError, coco::*};
use pad_ops::fs::write_atomic_bytes;

use crate::error::Result;

/// Converts the labels of a dataset to COCO's annotations, without decoding its images. Categories
/// have the numbers of the dataset's classes, so that results fit the dataset's own file.
///
/// # Errors
/// Labels that cannot be read; [`CocoError::Unknown`] for an object of an unknown class.
///
/// ```
/// use pad_data::{scenes::{SceneConfig, Size}, sets::detection::DetectionScenes};
/// use pad_heads::detection::coco::truth_of;
/// let scenes = DetectionScenes::render(&SceneConfig::new(Size::new(48, 64), 5), 0, 2)?;
/// let truth = truth_of(&scenes)?;
/// assert_eq!((truth.images.len(), truth.categories.len()), (2, 4));
/// assert_eq!((truth.images[0].width, truth.images[0].height), (64, 48));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn truth_of(dataset: &dyn Dataset<Sample = DetectionImage>) -> Result<CocoTruth> {
    let classes = dataset.classes();
    let category =
        |class: &BoxClass| CocoCategory { id: class.id.into(), name: class.name.clone() };
    let mut truth = CocoTruth {
        images: Vec::with_capacity(dataset.len()),
        annotations: Vec::new(),
        categories: classes.classes().iter().map(category).collect(),
    };
    for index in 0..dataset.len() {
        let labels = dataset.info(index)?;
        let LabelledImage { name, size, objects, .. } = &*labels;
        let id = labels.coco_id();
        let (width, height) = (size.width, size.height);
        let image = CocoImage { id: id.clone(), file_name: name.clone(), width, height };
        truth.images.push(image);
        for object in objects {
            let [x1, y1, x2, y2] = object.bbox;
            let unknown = CocoError::Unknown {
                what: "annotation",
                place: truth.annotations.len(),
                of: "category",
                id: i64::from(object.class).into(),
            };
            let mask = object.mask.as_deref();
            truth.annotations.push(CocoAnnotation {
                id: object.id.into(),
                image_id: id.clone(),
                category_id: classes.id(object.class).ok_or(unknown)?.into(),
                bbox: [x1, y1, x2 - x1, y2 - y1],
                area: object.area,
                iscrowd: u8::from(object.crowd),
                difficult: object.difficult,
                segmentation: mask.map(|mask| Segmentation::Runs(mask.clone())),
            });
        }
    }
    Ok(truth)
}

/// The truth without these images and their objects; `None` without images to leave out.
pub(super) fn without(truth: &CocoTruth, images: &BTreeSet<CocoId>) -> Option<CocoTruth> {
    if images.is_empty() {
        return None;
    }
    let CocoTruth { images: all, annotations, categories } = truth;
    let kept = |id: &CocoId| !images.contains(id);
    Some(CocoTruth {
        images: all.iter().filter(|image| kept(&image.id)).cloned().collect(),
        annotations: annotations.iter().filter(|one| kept(&one.image_id)).cloned().collect(),
        categories: categories.clone(),
    })
}

/// Writes a results file.
///
/// # Errors
/// [`CocoError::Io`], [`CocoError::Json`].
///
/// ```
/// use pad_heads::detection::coco::{CocoResult, read_results, write_results};
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("results.json");
/// let bbox = [10.0, 20.0, 30.0, 40.0]; // left, top, width, height
/// let found = CocoResult {
///     image_id: 7.into(), category_id: 1.into(), bbox, score: 0.5, segmentation: None,
/// };
/// write_results(&path, &[found])?;
/// let read = read_results(&path)?;
/// assert_eq!((read.len(), read[0].score, read[0].bbox), (1, 0.5, bbox));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_results(path: &Path, results: &[CocoResult]) -> Result<(), CocoError> {
    let text = serde_json::to_vec(results)
        .map_err(|cause| CocoError::Json { path: path.into(), cause })?;
    write_atomic_bytes(path, &text).map_err(|cause| CocoError::Io { path: path.into(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let result = CocoResult {
            image_id: "frame-3".into(),
            category_id: 9.into(),
            bbox: [0.1, 2.0, 0.0, 4.5],
            score: 0.3,
            segmentation: None,
        };
        write_results(&path, std::slice::from_ref(&result)).unwrap();
        assert_eq!(read_results(&path).unwrap(), [result]);
    }
}
