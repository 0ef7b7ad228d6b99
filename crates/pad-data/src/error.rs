//! Errors of data, with the place of each.

use std::path::{Path, PathBuf};

use pad_ops::{
    ImageSize,
    text::{shown_up_to, unknown_name},
};

/// A fault of a file, a folder or a setting. Every variant names the place. The text of a cause is
/// part of the text of the variant; [`source`](std::error::Error::source) does not repeat it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: {cause}", shown_path(path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        cause: std::io::Error,
    },
    /// A file is not the image it claims to be (truncated, damaged).
    #[error("{}: cannot decode: {cause}", shown_path(path))]
    Decode {
        /// The file.
        path: PathBuf,
        /// The error of the decoder.
        cause: image::ImageError,
    },
    /// A valid file of a kind that is not supported.
    #[error("{}: {what} is not supported", shown_path(path))]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it holds, e.g. "a 5-channel TIFF".
        what: String,
    },
    /// A file exceeds a limit.
    #[error("{}: {what} is {found}, the limit is {limit}", shown_path(path))]
    Limit {
        /// The file.
        path: PathBuf,
        /// What is limited, e.g. "pixels".
        what: &'static str,
        /// The limit.
        limit: u64,
        /// What the file needs.
        found: u64,
    },
    /// An image is smaller than can be used.
    #[error("{}: the image is {found}, at least {min}x{min} is needed", shown_path(path))]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: ImageSize,
        /// Smallest usable side, pixels.
        min: usize,
    },
    /// An image holds an infinite value.
    #[error("{}: pixel (row {row}, column {column}) is {value}", shown_path(path))]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Row of the first such pixel.
        row: usize,
        /// Its column.
        column: usize,
        /// The infinity.
        value: f32,
    },
    /// All pixels of an image are without data.
    #[error(
        "{}: expected pixels with data, found nodata, NaN or absent tiles alone",
        shown_path(path)
    )]
    NoData {
        /// The file.
        path: PathBuf,
    },
    /// A folder holds no image.
    #[error("{}: no image found (looked for {looked_for})", shown_path(path))]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// Extensions.
        looked_for: &'static str,
    },
    /// A text file's line is malformed.
    #[error("{}:{line}: {what}", shown_path(path))]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong, expected before found.
        what: String,
    },
    /// A label does not fit its image or its classes.
    #[error("{}: {what}", shown_path(path))]
    Label {
        /// The image, or the file of its labels.
        path: PathBuf,
        /// What is wrong, expected before found.
        what: String,
    },
    /// More elements of a set cannot be used than is allowed.
    #[error(
        "{}: {bad} of {of} {what} cannot be used, more than the allowed share {allowed}; first: {first}",
        shown_path(path)
    )]
    TooManyFaults {
        /// The file or folder of the set.
        path: PathBuf,
        /// What they are, e.g. "annotations".
        what: &'static str,
        /// How many cannot be used.
        bad: usize,
        /// How many there are.
        of: usize,
        /// Allowed share, 0 to 1.
        allowed: f64,
        /// The first faults, in words.
        first: String,
    },
    /// A file's content is not what is needed.
    #[error("{}: {what}", shown_path(path))]
    Entry {
        /// The file.
        path: PathBuf,
        /// What is wrong, expected before found.
        what: String,
    },
    /// Two files would have one name, and one file of regions.
    #[error(
        "{}: expected one file of the stem `{stem}`, found also {}",
        shown_path(first),
        shown_path(second)
    )]
    SameStem {
        /// The file that comes first.
        first: PathBuf,
        /// The one that follows.
        second: PathBuf,
        /// The name without its extension.
        stem: String,
    },
    /// A file is not what the manifest says of it.
    #[error("{}: expected {what} {expected} by the manifest, found {found}", shown_path(path))]
    Changed {
        /// The file.
        path: PathBuf,
        /// What differs, e.g. "bytes".
        what: &'static str,
        /// What the manifest says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The download of a source is not there.
    #[error("{}: {source_name} is not found (looked for {looked_for})", shown_path(path))]
    NoDownload {
        /// The folder that was searched.
        path: PathBuf,
        /// Name of the source in the set.
        source_name: String,
        /// Folders.
        looked_for: String,
    },
    /// A folder to be written holds files of something else.
    #[error(
        "{}: expected files of this set alone, found {files} others, the first is {first}",
        shown_path(path)
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// How many.
        files: usize,
        /// Name of the first.
        first: String,
    },
    /// A file's inner structure is wrong at a known place.
    #[error("{}: byte {at}: {what}", shown_path(path))]
    Structure {
        /// The file.
        path: PathBuf,
        /// Offset, bytes from the start of the file (or of the record that `what` names).
        at: u64,
        /// What is wrong, expected before found.
        what: String,
    },
    /// Two images would have the same RoI file.
    #[error(
        "{} and {} share the RoI file {}: rename one of them",
        shown_path(first),
        shown_path(second),
        shown_path(roi)
    )]
    SharedRoiFile {
        /// The first image.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
        /// The file of both.
        roi: PathBuf,
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
    /// An error of code outside this crate, such as your own dataset.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
    /// A thread that reads images panicked or could not be started.
    #[error("loader: {what}")]
    Worker {
        /// What happened, and where.
        what: String,
    },
    /// A name is not one of the known ones.
    #[error("{}", unknown_name(what, found, known.iter().map(String::as_str)))]
    UnknownName {
        /// What it names, e.g. "format".
        what: &'static str,
        /// The name.
        found: String,
        /// The known names.
        known: Vec<String>,
    },
    /// A requested class is not in the set.
    #[error("{}", unknown_name("class", class, known.iter().map(String::as_str)))]
    ClassNotFound {
        /// The requested class.
        class: String,
        /// Classes of the set.
        known: Vec<String>,
    },
    /// A setting of the rendered scenes is outside its range.
    #[cfg(feature = "scenes")]
    #[error(transparent)]
    Scenes(#[from] pad_scenes::Error),
    /// An error of candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<pad_metrics::MaskError> for Error {
    fn from(error: pad_metrics::MaskError) -> Self {
        Self::Setting { name: error.what, expected: error.expected, found: error.found }
    }
}

impl Error {
    /// Wraps an error of code outside this crate, such as that of your own dataset, or a
    /// message.
    ///
    /// ```
    /// use pad_data::Error;
    /// let error = Error::other("the archive has no frame 7");
    /// assert_eq!(error.to_string(), "the archive has no frame 7");
    /// let error = Error::other("x".parse::<i32>().unwrap_err());
    /// assert_eq!(error.to_string(), "invalid digit found in string");
    /// ```
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    /// [`Error::UnknownName`].
    pub(crate) fn unknown_name<'a>(
        what: &'static str,
        found: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let known = known.into_iter().map(Into::into).collect();
        Self::UnknownName { what, found: found.into(), known }
    }

    /// Whether a single file is at fault, so that a run can go on without it. A machine that is out
    /// of file descriptors or memory is not a fault of a file.
    pub fn is_of_one_file(&self) -> bool {
        if let Error::Io { cause, .. } = self {
            return !is_of_the_machine(cause);
        }
        matches!(
            self,
            Error::Decode { .. }
                | Error::Unsupported { .. }
                | Error::Limit { .. }
                | Error::TooSmall { .. }
                | Error::NotFinite { .. }
                | Error::NoData { .. }
                | Error::Line { .. }
                | Error::Label { .. }
                | Error::Structure { .. }
        )
    }
}

/// Whether the system ran out of something that no file has to do with.
fn is_of_the_machine(cause: &std::io::Error) -> bool {
    /// ENFILE and EMFILE: file descriptors of the system, of the process.
    #[cfg(unix)]
    const EXHAUSTED: &[i32] = &[23, 24];
    /// ERROR_TOO_MANY_OPEN_FILES.
    #[cfg(not(unix))]
    const EXHAUSTED: &[i32] = &[4];
    cause.kind() == std::io::ErrorKind::OutOfMemory
        || cause.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&code))
}

/// A path, safe to print: names of files may hold line breaks and the codes of terminals.
pub(crate) fn shown_path(path: &Path) -> String {
    shown_up_to(&path.display().to_string(), 4096).to_string()
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_machine_without_descriptors_is_no_unreadable_file() {
        let of = |cause| Error::Io { path: "a.png".into(), cause }.is_of_one_file();
        assert!(of(io::ErrorKind::NotFound.into()));
        assert!(of(io::ErrorKind::PermissionDenied.into()));
        assert!(!of(io::ErrorKind::OutOfMemory.into()));
        #[cfg(unix)]
        assert!(!of(io::Error::from_raw_os_error(24)) && !of(io::Error::from_raw_os_error(23)));
    }
}
