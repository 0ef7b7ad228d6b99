//! Errors of configurations, checkpoints and inputs.

use std::path::PathBuf;

use crate::params::LoadReport;

/// A fault of a configuration, a file or an input. Every variant names the thing, expected before
/// found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration is invalid; all faults at once.
    #[error("{what}: {}", faults.join("; "))]
    Config {
        /// Which configuration.
        what: &'static str,
        /// Its faults.
        faults: Vec<String>,
    },
    /// A name is not one of a list; the text has the list and a near name.
    #[error("{0}")]
    UnknownName(String),
    /// A file could not be read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A file is not the checkpoint it claims to be.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A checkpoint's tensors are not the model's.
    #[error("{0}")]
    Tensors(LoadReport),
    /// An adapter file belongs to another backbone.
    #[error(
        "{}: this adapter belongs to the backbone {expected}, found the backbone {found} (the option \
         `any_backbone` uses it all the same)",
        path.display()
    )]
    OtherBackbone {
        /// The adapter file.
        path: PathBuf,
        /// Digest in the file, shortened.
        expected: String,
        /// Digest of the backbone at hand, shortened.
        found: String,
    },
    /// A fixed scale in a checkpoint is not the configured one.
    #[error("`{tensor}`: the configuration says {expected}, the checkpoint holds {found}")]
    FixedScale {
        /// The tensor.
        tensor: String,
        /// Value in the configuration.
        expected: f64,
        /// Value in the file.
        found: f64,
    },
    /// An image does not fit the model.
    #[error("image of shape {found:?}, expected {expected}")]
    ImageShape {
        /// The shapes that the model takes.
        expected: String,
        /// The image's shape.
        found: Vec<usize>,
    },
    /// A block index is not below the model's depth.
    #[error("block {found}, expected an index below {depth}")]
    Block {
        /// The number of blocks in the model.
        depth: usize,
        /// The index.
        found: usize,
    },
    /// An operator returned an error.
    #[error(transparent)]
    Ops(#[from] pad_ops::Error),
    /// candle returned an error.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// So that `?` works in code that returns candle's `Result`, such as a model's `forward`.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(source) => source,
            Error::Ops(source) => source.into(),
            other => candle_core::Error::wrap(other),
        }
    }
}
