//! What an operator can refuse, and how it says so.

use candle_core::{DType, DeviceLocation};

/// An operator's refusal. Every variant names the operator and the argument.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument's shape does not fit.
    #[error("{op}: `{arg}` has shape {found:?}, expected {expected}")]
    Shape {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// What the operator asks for, in words or axes.
        expected: String,
        /// What it was given.
        found: Vec<usize>,
    },
    /// An argument's element type does not fit.
    #[error("{op}: `{arg}` has dtype {found:?}, expected {expected}")]
    DType {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// What the operator asks for.
        expected: String,
        /// What it was given.
        found: DType,
    },
    /// Two arguments live on different devices.
    #[error("{op}: `{arg}` is on {found:?}, expected {expected:?}")]
    Device {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// Where the first argument is.
        expected: DeviceLocation,
        /// Where this one is.
        found: DeviceLocation,
    },
    /// A number is outside its range.
    #[error("{op}: `{arg}` is {found}, expected {expected}")]
    Value {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// The range.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// A name that is not one of the known ones.
    #[error("{}", crate::text::unknown_name(what, found, known.iter().copied()))]
    UnknownName {
        /// What it names, e.g. `precision`.
        what: &'static str,
        /// The names that exist.
        known: &'static [&'static str],
        /// The name that was given.
        found: String,
    },
    /// candle refused, outside any operator of ours.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// So that `?` works in code that returns candle's `Result`, a model's `forward` for one.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(source) => source,
            other => candle_core::Error::wrap(other),
        }
    }
}
