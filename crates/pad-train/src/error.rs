//! What a training run can fail at.

use std::path::PathBuf;

/// An error of the code that a run was given: a task, a batch source, a hook.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// A fault of a run. Every variant names the place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The loss is no number. Nothing was updated with it.
    #[error("step {step}: the loss is {loss}; {}", last_good(checkpoint.as_deref()))]
    NotFiniteLoss {
        /// The step, from 1.
        step: usize,
        /// NaN or an infinity.
        loss: f64,
        /// The newest checkpoint, if any.
        checkpoint: Option<PathBuf>,
    },
    /// A gradient is no number. Nothing was updated with it.
    #[error("step {step}: the gradient of `{parameter}` is not finite; {}", last_good(checkpoint.as_deref()))]
    NotFiniteGradient {
        /// The step, from 1.
        step: usize,
        /// The first such parameter.
        parameter: String,
        /// The newest checkpoint, if any.
        checkpoint: Option<PathBuf>,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A checkpoint is damaged or not one.
    #[error("{}: {what}", path.display())]
    Checkpoint {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A checkpoint's tensors are not the run's; all differences at once.
    #[error("{}: the checkpoint is not this run's: {}", path.display(), faults.join("; "))]
    Tensors {
        /// The file.
        path: PathBuf,
        /// One entry a difference, tensor named, expected before found.
        faults: Vec<String>,
    },
    /// A checkpoint belongs to a run with other settings.
    #[error("{}: the checkpoint belongs to another run: {key} is {found}, expected {expected}", path.display())]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// The setting.
        key: String,
        /// This run's.
        expected: String,
        /// The checkpoint's.
        found: String,
    },
    /// A setting is outside its range.
    #[error("`{name}` is {found}, expected {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// The range.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The task, the batches or a hook failed.
    #[error(transparent)]
    Source(Source),
    /// candle refused.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// Wraps an error of the code that the run was given.
    pub fn source(error: impl Into<Source>) -> Self {
        Error::Source(error.into())
    }
}

fn last_good(checkpoint: Option<&std::path::Path>) -> String {
    match checkpoint {
        Some(path) => format!("the last good checkpoint is {}", path.display()),
        None => "there is no checkpoint yet".into(),
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
