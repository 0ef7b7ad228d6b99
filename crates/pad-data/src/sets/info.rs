//! What is known of an image before it is decoded.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{Error, Result, dataset::Sample, image::Image};

/// What is known of an image without decoding it: where its files are. Images that are not from
/// files have none.
#[derive(Clone, Debug, Default)]
pub struct ImageInfo {
    /// Its file.
    pub file: Option<StoredFile>,
    /// The file of its regions of interest. On a disk it need not exist.
    pub roi_file: Option<StoredFile>,
}

impl Sample for Image {
    type Classes = ();
    type Info = ImageInfo;

    fn bytes(&self) -> u64 {
        self.pixels().bytes()
    }
}

/// A file on a disk or inside of another one.
#[derive(Clone)]
pub struct StoredFile {
    path: PathBuf,
    inside: Option<Inside>,
}

/// A file inside of another one.
#[derive(Clone)]
struct Inside {
    bytes: u64,
    read: Arc<dyn Fn() -> Result<Vec<u8>> + Send + Sync>,
}

impl fmt::Debug for StoredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoredFile").field(&self.path).finish()
    }
}

impl StoredFile {
    /// A file on a disk.
    pub fn on_disk(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), inside: None }
    }

    /// A file of `bytes` inside of another one, which `read` reads. `path` names it in messages.
    pub fn inside(
        path: impl Into<PathBuf>,
        bytes: u64,
        read: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self { path: path.into(), inside: Some(Inside { bytes, read: Arc::new(read) }) }
    }

    /// Its path; for a file inside of another one, the path of that and its own.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file, bytes.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that is missing.
    pub fn bytes(&self) -> Result<u64> {
        match &self.inside {
            Some(inside) => Ok(inside.bytes),
            None => Ok(fs::metadata(&self.path).map_err(|cause| self.io(cause))?.len()),
        }
    }

    /// Reads the file; `None` if it is missing.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that exists and cannot be read.
    pub fn read(&self) -> Result<Option<Vec<u8>>> {
        use io::ErrorKind::{NotADirectory, NotFound};
        if let Some(inside) = &self.inside {
            return (inside.read)().map(Some);
        }
        match pad_ops::fs::read(&self.path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
            Err(cause) => Err(self.io(cause)),
        }
    }

    fn io(&self, cause: io::Error) -> Error {
        Error::Io { path: self.path.clone(), cause }
    }
}
