//! The errors of heads, configurations, batches and files.

use std::{io, path::PathBuf};

/// An error of a configuration, a model, a batch, a file or an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration is invalid; holds all faults at once.
    #[error("{what}: {}", faults.join("; "))]
    Config {
        /// The configuration.
        what: &'static str,
        /// Its faults.
        faults: Vec<String>,
    },
    /// A head received another number of feature maps than it was built for.
    #[error("{head}: {found} feature maps, expected {expected}")]
    Maps {
        /// The head.
        head: &'static str,
        /// Number of maps that it takes.
        expected: usize,
        /// Number of maps that it received.
        found: usize,
    },
    /// Images, their sizes and their targets do not fit each other or the model.
    #[error("batch: {found}, expected {expected}")]
    Batch {
        /// What would fit.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A model returned logits of another shape than its images have.
    #[error("logits of shape {found:?}, expected (B, classes, H, W) with B, H, W = {expected:?}")]
    Logits {
        /// Number of images, height, width.
        expected: [usize; 3],
        /// Shape of the logits.
        found: Vec<usize>,
    },
    /// A patch grid is larger than the relative position tables.
    #[error(
        "patch grid {found}, expected at most {expected}, the grid of the relative position tables (interpolate the \
         checkpoint's tables for larger images)"
    )]
    Grid {
        /// Grid of the tables.
        expected: pad_adapter::vit::PatchGrid,
        /// Grid of the image.
        found: pad_adapter::vit::PatchGrid,
    },
    /// An entry of a model file's metadata is missing or invalid.
    #[error("{}: metadata `{key}`: {fault}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: &'static str,
        /// Its fault.
        fault: String,
    },
    /// Classes of a model and of a dataset, a file or a configuration differ.
    #[error("classes: expected {expected}, found {found}")]
    Classes {
        /// The model's.
        expected: String,
        /// The others.
        found: String,
    },
    /// The labels of an image cannot be compared with its prediction.
    #[error("{name}: {cause}")]
    Labels {
        /// The image.
        name: String,
        /// The fault.
        cause: MetricsError,
    },
    /// COCO annotations or results are invalid.
    #[error(transparent)]
    Coco(#[from] CocoError),
    /// A model or a checkpoint returned an error.
    #[error(transparent)]
    Adapter(#[from] pad_adapter::Error),
    /// A dataset, an image or a transform returned an error.
    #[error(transparent)]
    Data(#[from] pad_data::Error),
    /// An operator returned an error.
    #[error(transparent)]
    Ops(#[from] pad_ops::Error),
    /// candle returned an error.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// Returns [`Error::Config`] if there are faults.
    pub(crate) fn faults(what: &'static str, faults: Vec<String>) -> Result<()> {
        if faults.is_empty() { Ok(()) } else { Err(Error::Config { what, faults }) }
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of class maps or of their number of classes.
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
        id: i64,
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
        id: i64,
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
        cause: Box<pad_data::Error>,
    },
    /// A score or a box is not finite.
    #[error("result {place}: expected a finite {what}, found {value}")]
    NotFinite {
        /// Place in the list, from 0.
        place: usize,
        /// "score" or "box".
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
    },
}
