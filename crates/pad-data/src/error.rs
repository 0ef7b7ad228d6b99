//! What data can be wrong with, and where.

use std::path::PathBuf;

use pad_ops::ImageSize;

/// A fault of a file, a folder or a setting. Every variant names the place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not the image it claims to be (truncated, damaged).
    #[error("{}: cannot decode: {source}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: image::ImageError,
    },
    /// A file is sound but of a kind that is not supported.
    #[error("{}: {what} is not supported", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it holds, e.g. "a 5-channel TIFF".
        what: String,
    },
    /// A file exceeds a limit.
    #[error("{}: {what} is {found}, the limit is {limit}", path.display())]
    Limit {
        /// The file.
        path: PathBuf,
        /// What is limited, e.g. "pixels".
        what: &'static str,
        /// The limit.
        limit: u64,
        /// What the file asks for.
        found: u64,
    },
    /// An image is smaller than can be used.
    #[error("{}: the image is {found}, at least {min}x{min} is needed", path.display())]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: ImageSize,
        /// Smallest usable side, pixels.
        min: usize,
    },
    /// An image holds a value that is no number.
    #[error("{}: pixel (row {row}, column {column}) is {value}", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Row of the first such pixel.
        row: usize,
        /// Its column.
        column: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// A folder holds no image.
    #[error("{}: no image found (looked for {looked_for})", path.display())]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// Extensions.
        looked_for: &'static str,
    },
    /// A text file's line is malformed.
    #[error("{}:{line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong, expected before found.
        what: String,
    },
    /// More images could not be read than the run allows.
    #[error(
        "{bad} of {seen} images could not be read, more than the allowed share {allowed}; first: {first}"
    )]
    TooManyUnreadable {
        /// Images that failed.
        bad: usize,
        /// Images of the set.
        seen: usize,
        /// Allowed share, 0 to 1.
        allowed: f64,
        /// The first fault, in words.
        first: String,
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
    /// candle refused.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
