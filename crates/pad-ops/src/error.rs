//! Errors of the operators.

use candle_core::{DType, DeviceLocation};

/// An error of an operator. Every variant names the operator and the argument.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::Error;
/// let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// let weight = Tensor::zeros(4, DType::F32, &Device::Cpu)?;
/// let error = pad_ops::layer_norm(&x, &weight, &weight, 1e-6).unwrap_err();
/// assert!(matches!(&error, Error::Shape { op: "layer_norm", found, .. } if *found == [4]));
/// // `?` takes it into code that returns candle's `Result`.
/// let candle: candle_core::Error = error.into();
/// assert!(candle.to_string().contains("layer_norm"));
/// # Ok::<(), pad_ops::Error>(())
/// ```
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
        /// The expected shape, in words or axes.
        expected: String,
        /// The shape that was given.
        found: Vec<usize>,
    },
    /// An argument's element type does not fit.
    #[error("{op}: `{arg}` has dtype {found:?}, expected {expected}")]
    DType {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// The expected dtype.
        expected: String,
        /// The dtype that was given.
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
        /// The value that was given.
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
    /// A name that is no device's.
    #[error("expected cpu, cuda, cuda:N or metal, found `{found}`")]
    DeviceName {
        /// The name that was given.
        found: String,
    },
    /// A device cannot be opened.
    #[error("device `{device}`: {what}")]
    OpenDevice {
        /// Its name, e.g. `cuda:1`.
        device: String,
        /// The reason.
        what: String,
    },
    /// An error of candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// `Result` with this crate's [`Error`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// fn attended(logits: &Tensor, values: &Tensor) -> pad_ops::Result<Tensor> {
///     Ok(pad_ops::softmax(logits)?.matmul(values)?) // candle's errors too
/// }
/// let logits = Tensor::new(&[[0_f32, 0.0]], &Device::Cpu)?;
/// let values = Tensor::new(&[[2_f32], [4.0]], &Device::Cpu)?;
/// assert_eq!(attended(&logits, &values)?.to_vec2::<f32>()?, [[3.0]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Lets `?` convert in functions that return candle's `Result`, such as a model's `forward`.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(source) => source,
            other => candle_core::Error::wrap(other),
        }
    }
}
