//! What pre-training can refuse.

use pad_adapter::vit::PatchGrid;

/// A fault of a configuration, a model or a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration contradicts itself; all faults at once.
    #[error("{what}: {}", faults.join("; "))]
    Config {
        /// Which configuration.
        what: &'static str,
        /// What is wrong with it, one entry a fault.
        faults: Vec<String>,
    },
    /// A mask does not fit the images.
    #[error("mask for {found} patches, expected {expected}")]
    Mask {
        /// Patches of an image.
        expected: usize,
        /// Patches of the mask.
        found: usize,
    },
    /// A teacher's patches are not the student's.
    #[error(
        "the teacher gives {found} tokens an image, expected {} (a class token and the student's patch grid {grid}): \
         choose image size and patch size so that both grids are the same",
        grid.len() + 1
    )]
    TeacherGrid {
        /// The student's grid.
        grid: PatchGrid,
        /// The teacher's tokens, a class token among them if it has one.
        found: usize,
    },
    /// A teacher's features have another shape than predicted.
    #[error("the teacher's features are {found:?}, expected {expected:?} (see `target_dim`)")]
    TeacherFeatures {
        /// The prediction's shape.
        expected: Vec<usize>,
        /// The teacher's.
        found: Vec<usize>,
    },
    /// An objective or a masking that learns from a teacher was given none.
    #[error("{what} needs a teacher")]
    MissingTeacher {
        /// What needs it, e.g. `objective milan`.
        what: String,
    },
    /// A paradigm that starts from weights was given none.
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
    /// Labelled images that no probe can learn from.
    #[error("{what}")]
    Probe {
        /// What is wrong, expected before found.
        what: String,
    },
    /// A model or a checkpoint refused.
    #[error(transparent)]
    Adapter(#[from] pad_adapter::Error),
    /// An operator refused its operands.
    #[error(transparent)]
    Ops(#[from] pad_ops::Error),
    /// Data refused.
    #[error(transparent)]
    Data(#[from] pad_data::Error),
    /// candle refused.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
