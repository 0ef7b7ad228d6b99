//! Errors of boxes, masks, annotations and class maps.

use std::{io, path::PathBuf};

use crate::coco::CocoId;

/// Boxes, scores or a threshold that do not fit.
///
/// ```
/// let error = pad_metrics::boxes::nms(&[[0.0, 0.0, 1.0, 1.0]], &[], 0.5).unwrap_err();
/// assert!(error.to_string().starts_with("nms: `scores` is "), "{error}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoxesError {
    /// An argument is outside its range, or there is not one for each box.
    #[error("{op}: `{arg}` is {found}, expected {expected}")]
    Value {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// What would fit.
        expected: String,
        /// What was given.
        found: String,
    },
}

/// A mask that is invalid or of another size than its image.
///
/// ```
/// use pad_metrics::{ImageSize, rle::Rle};
/// let error = Rle::new(ImageSize::square(2), vec![1, 2]).unwrap_err(); // 3 of 4 pixels
/// assert_eq!(error.what, "mask");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{what}` is {found}, expected {expected}")]
#[non_exhaustive]
pub struct MaskError {
    /// "mask", "polygon" or "counts".
    pub what: &'static str,
    /// What would fit.
    pub expected: String,
    /// What was given.
    pub found: String,
}

/// An error of class maps or of their number of classes.
///
/// ```
/// use pad_metrics::{MetricsError, confusion::Confusion};
/// assert_eq!(Confusion::new(300, None), Err(MetricsError::Classes { found: 300 }));
/// let error = Confusion::new(2, None)?.add(&[0, 7], &[0, 1]).unwrap_err().to_string();
/// assert_eq!(error, "image 0: the prediction of pixel 1 is 7, expected a class below 2");
/// # Ok::<(), MetricsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// 8-bit class maps cannot hold the number of classes.
    #[error("`classes` is {found}, expected 1 to 255")]
    Classes {
        /// The number of classes.
        found: usize,
    },
    /// A prediction and its labels differ in size.
    #[error(
        "image {image}: the prediction has {predicted} pixels, expected {labelled}, those of the labels"
    )]
    Size {
        /// Place of the image in the call, from 0.
        image: usize,
        /// Pixels of the prediction.
        predicted: usize,
        /// Pixels of the labels.
        labelled: usize,
    },
    /// A class map holds a value that is not a class.
    #[error(
        "image {image}: the {what} of pixel {pixel} is {value}, expected a class below {classes}"
    )]
    Class {
        /// Place of the image in the call, from 0.
        image: usize,
        /// "label" or "prediction".
        what: &'static str,
        /// The pixel, row-major.
        pixel: usize,
        /// Its value.
        value: u8,
        /// Number of classes.
        classes: usize,
    },
    /// Two matrices cannot be added.
    #[error(
        "expected a confusion matrix of {expected} classes that ignores {ignore:?}, found {found} and {found_ignore:?}"
    )]
    Merge {
        /// Classes of the sum.
        expected: usize,
        /// Its ignored label.
        ignore: Option<u8>,
        /// Classes of the other one.
        found: usize,
        /// Its ignored label.
        found_ignore: Option<u8>,
    },
}

/// An error of annotations or results.
///
/// ```
/// use pad_metrics::{CocoError, coco::results};
/// let error = results("[{}]").unwrap_err(); // cut off, or another kind of file
/// assert!(matches!(error, CocoError::Json { .. }));
/// assert!(error.to_string().starts_with("results: missing field"), "{error}");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CocoError {
    /// A file cannot be read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// A file is not JSON of the expected form, or is truncated.
    #[error("{}: {cause}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What and where.
        cause: serde_json::Error,
    },
    /// Two entries share an id.
    #[error("{what} id {id}: expected once, found again")]
    Duplicate {
        /// "image", "category" or "annotation".
        what: &'static str,
        /// The id.
        id: CocoId,
    },
    /// An annotation or result refers to an unknown image or category.
    #[error("{what} {place}: expected a known {of}, found id {id}")]
    Unknown {
        /// "annotation" or "result".
        what: &'static str,
        /// Its place in the list, from 0.
        place: usize,
        /// "image" or "category".
        of: &'static str,
        /// The id.
        id: CocoId,
    },
    /// An annotation or result has no mask where masks are compared.
    #[error("{what} {place}: expected a segmentation, found none")]
    NoMask {
        /// "annotation" or "result".
        what: &'static str,
        /// Its place in the list, from 0.
        place: usize,
    },
    /// A mask is invalid, or of another size than its image.
    #[error("{what} {place}: segmentation: {cause}")]
    Mask {
        /// "annotation" or "result".
        what: &'static str,
        /// Its place in the list, from 0.
        place: usize,
        /// The fault.
        cause: MaskError,
    },
    /// A score, a box or an area is not finite.
    #[error("{of} {place}: expected a finite {what}, found {value}")]
    NotFinite {
        /// "annotation" or "result".
        of: &'static str,
        /// Place in the list, from 0.
        place: usize,
        /// "score", "box" or "area".
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
    },
}
