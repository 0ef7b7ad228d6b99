//! What a head, a configuration or a batch can be wrong with.

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
    /// Feature maps are not those that a head was built for.
    #[error("{head}: {found} feature maps, expected {expected}")]
    Maps {
        /// The head.
        head: &'static str,
        /// Maps that it takes.
        expected: usize,
        /// Maps that it was given.
        found: usize,
    },
    /// Images, their sizes and what there is to find in them do not fit each other or the detector.
    #[error("batch: {found}, expected {expected}")]
    Batch {
        /// What would fit.
        expected: String,
        /// What there is.
        found: String,
    },
    /// A model's logits are not those of the images that it was given.
    #[error("logits of shape {found:?}, expected (B, classes, H, W) with B, H, W = {expected:?}")]
    Logits {
        /// Images, height, width.
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
    /// A model or a checkpoint refused.
    #[error(transparent)]
    Adapter(#[from] pad_adapter::Error),
    /// An operator refused its operands.
    #[error(transparent)]
    Ops(#[from] pad_ops::Error),
    /// candle refused.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// [`Error::Config`] if there are faults.
    pub(crate) fn faults(what: &'static str, faults: Vec<String>) -> Result<()> {
        if faults.is_empty() { Ok(()) } else { Err(Error::Config { what, faults }) }
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
