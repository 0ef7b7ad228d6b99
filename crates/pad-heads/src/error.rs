//! The errors of heads, configurations, batches and files.

use std::path::PathBuf;

use pad_metrics::{CocoError, MetricsError};

/// An error of a configuration, a model, a batch, a file or an evaluation.
///
/// ```
/// use pad_heads::{Error, detection::DetectionHeadsConfig};
/// let config =
///     DetectionHeadsConfig { nms_threshold: -1.0, score_threshold: 2.0, ..Default::default() };
/// let error = config.validate(5).unwrap_err();
/// let Error::Config { faults, .. } = &error else { panic!("{error}") };
/// assert_eq!(faults.len(), 2); // all at once
/// ```
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
///
/// ```
/// use pad_heads::segmentation::Augmentation;
/// fn count(augmentation: &Augmentation) -> pad_heads::Result<usize> {
///     augmentation.validate()?;
///     Ok(augmentation.scales.len() * if augmentation.flip { 2 } else { 1 })
/// }
/// assert_eq!(count(&Augmentation { scales: vec![0.5, 1.0], flip: true })?, 4);
/// # Ok::<(), pad_heads::Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;
