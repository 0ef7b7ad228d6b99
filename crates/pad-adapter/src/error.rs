//! Errors of configurations, checkpoints and inputs.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use pad_ops::text::{shown, shown_up_to};

use crate::{checkpoint::finite::NotFinite, params::LoadReport};

/// The longest text of an error that is shown, characters.
const LONGEST: usize = 4000;

/// A fault of a configuration, a file or an input. Every variant names the thing, expected before
/// found.
///
/// ```
/// use pad_adapter::{Error, vit::ViTConfig};
/// let error = ViTConfig { depth: 0, ..ViTConfig::tiny(16) }.validate().unwrap_err();
/// assert!(matches!(&error, Error::Config { what: "vit", faults } if faults.len() == 1));
/// assert_eq!(error.to_string(), "vit: `depth` is 0, expected at least 1");
/// // `?` takes it into code that returns candle's `Result`.
/// let candle: candle_core::Error = error.into();
/// assert!(candle.to_string().contains("`depth` is 0"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration is invalid; all faults at once.
    #[error("{what}: {}", shown_up_to(&faults.join("; "), LONGEST))]
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
    #[error("{}: {cause}", at(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A file is not the checkpoint it claims to be.
    #[error("{}: {}", at(path), shown_up_to(what, LONGEST))]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A checkpoint's tensors are not the model's.
    #[error("{0}")]
    Tensors(LoadReport),
    /// A tensor of a file holds a value that is NaN or infinite: every result would be NaN.
    #[error(
        "{}: tensor `{}`: value {index} of {values} is {value}, expected finite numbers ({count} are \
         not)",
        at(path),
        shown(tensor)
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The place of the first such value, row major.
        index: usize,
        /// That value.
        value: f64,
        /// The number of such values.
        count: usize,
        /// The number of all values of the tensor.
        values: usize,
    },
    /// An adapter file belongs to another backbone.
    #[error(
        "{}: this adapter belongs to the backbone {expected}, found the backbone {found} (the option \
         `any_backbone` uses it all the same)",
        at(path)
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
    #[error("`{}`: the configuration says {expected}, the checkpoint holds {found}", shown(tensor))]
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

impl Error {
    /// The error for a tensor of the file `path` with values that are not finite.
    pub(crate) fn not_finite(path: &Path, name: &str, tensor: &Tensor, found: NotFinite) -> Self {
        let NotFinite { index, value, count } = found;
        let values = tensor.elem_count();
        Self::NotFinite { path: path.into(), tensor: name.into(), index, value, count, values }
    }
}

/// A path, safe to print.
fn at(path: &Path) -> String {
    shown_up_to(&path.display().to_string(), LONGEST).to_string()
}

/// `Result` with this crate's [`Error`].
///
/// ```
/// use pad_adapter::vit::{PatchGrid, ViTConfig};
/// fn patches(config: &ViTConfig) -> pad_adapter::Result<usize> {
///     config.grid().map(PatchGrid::len)
/// }
/// assert_eq!(patches(&ViTConfig::base(16))?, 196);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
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
