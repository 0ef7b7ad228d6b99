//! Errors of pre-training.

use pad_adapter::vit::PatchGrid;

/// An error of a configuration, a model, a batch or a file.
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
    /// A mask is for another number of patches than the images have.
    #[error("mask for {found} patches, expected {expected}")]
    Mask {
        /// Number of patches of an image.
        expected: usize,
        /// Number of patches of the mask.
        found: usize,
    },
    /// A teacher has another patch grid than the student.
    #[error(
        "the teacher gives {found} tokens per image, expected {} (a class token and the student's patch grid {grid}): \
         choose image size and patch size so that both grids are the same",
        grid.len() + 1
    )]
    TeacherGrid {
        /// The student's grid.
        grid: PatchGrid,
        /// Number of the teacher's tokens, including a class token if it has one.
        found: usize,
    },
    /// A teacher takes images of another number of channels than the student.
    #[error(
        "the teacher takes images of {expected} channels, the student's have {found} (a single one would be repeated)"
    )]
    TeacherChannels {
        /// The teacher's number.
        expected: usize,
        /// The student's number.
        found: usize,
    },
    /// A teacher's features have another shape than the predictions.
    #[error("the teacher's features are {found:?}, expected {expected:?} (see `target_dim`)")]
    TeacherFeatures {
        /// Shape of the predictions.
        expected: Vec<usize>,
        /// Shape of the features.
        found: Vec<usize>,
    },
    /// An objective or a masking needs a teacher and has none.
    #[error("{what} needs a teacher")]
    MissingTeacher {
        /// What needs one, e.g. `objective milan`.
        what: String,
    },
    /// A paradigm needs weights to start from and has none.
    #[error("paradigm {paradigm} needs weights to start from")]
    MissingWeights {
        /// The paradigm.
        paradigm: String,
    },
    /// A file or folder holds no decoder of a masked autoencoder.
    #[error("{model}: no decoder of a masked autoencoder, which reconstructions need")]
    MissingDecoder {
        /// The file or folder.
        model: String,
    },
    /// Features or settings of a probe are invalid.
    #[error("{what}")]
    Probe {
        /// What is wrong.
        what: String,
    },
    /// An error of a model or a checkpoint.
    #[error(transparent)]
    Adapter(#[from] pad_adapter::Error),
    /// An error of an operator.
    #[error(transparent)]
    Ops(#[from] pad_ops::Error),
    /// An error of a training run.
    #[error(transparent)]
    Train(Box<pad_train::Error>),
    /// An error of images or data sets.
    #[error(transparent)]
    Data(#[from] pad_data::Error),
    /// An error of candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<pad_train::Error> for Error {
    fn from(error: pad_train::Error) -> Self {
        Self::Train(Box::new(error))
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
