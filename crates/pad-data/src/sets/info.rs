//! What is known of an image before it is decoded.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{Error, Result, dataset::Sample, image::Image};

/// What is known of an image without decoding it: where its files are. Images that are not from
/// files have none.
///
/// ```
/// use pad_data::sets::{ImageInfo, StoredFile};
/// let info = ImageInfo { file: Some(StoredFile::on_disk("a.png")), ..Default::default() };
/// assert_eq!(info.file.unwrap().path(), std::path::Path::new("a.png"));
/// assert!(info.roi_file.is_none());
/// ```
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
///
/// ```
/// use pad_data::sets::StoredFile;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("a.txt");
/// std::fs::write(&path, "3 4 50 60").unwrap();
/// let file = StoredFile::on_disk(&path);
/// assert_eq!((file.path(), file.bytes()?, file.read()?.unwrap().len()), (path.as_path(), 9, 9));
/// let inside = StoredFile::inside("set.tar/a.txt", 2, || Ok(b"ab".to_vec()));
/// assert_eq!(inside.read()?, Some(b"ab".to_vec()));
/// assert_eq!(StoredFile::on_disk("no/such/file").read()?, None);
/// # Ok::<(), pad_data::Error>(())
/// ```
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
