//! What pre-training can refuse.

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
