//! Atomic file writes.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

/// Writes `path` so that it is never seen half-written: a temporary file in the same folder is
/// filled, synced to the disk, renamed over `path`, and the folder synced. On an error the old file
/// stays unchanged and the temporary file is removed.
///
/// # Errors
/// Any error of the file system or of `fill`.
///
/// ```
/// use std::io::Write;
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("numbers.txt");
/// pad_ops::fs::write_atomic(&path, |file| file.write_all(b"1 2 3"))?;
/// assert_eq!(std::fs::read_to_string(&path)?, "1 2 3");
/// let failed = pad_ops::fs::write_atomic(&path, |_| Err(std::io::Error::other("no more")));
/// assert!(failed.is_err());
/// assert_eq!(std::fs::read_to_string(&path)?, "1 2 3"); // as it was
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write_atomic(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    let temporary = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".tmp")
        .permissions_like_a_new_file()
        .tempfile_in(folder)?;
    let mut writer = BufWriter::with_capacity(1 << 20, temporary.as_file());
    fill(&mut writer)?;
    writer.flush()?;
    drop(writer);
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|refused| refused.error)?;
    sync_folder(folder)
}

/// Writes bytes by [`write_atomic`].
///
/// # Errors
/// Any error of the file system.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("numbers.bin");
/// pad_ops::fs::write_atomic_bytes(&path, &[1, 2, 3])?;
/// assert_eq!(std::fs::read(&path)?, [1, 2, 3]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write_atomic_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomic(path, |file| file.write_all(bytes))
}

/// Makes renames inside `folder` durable. Systems that cannot open a folder (Windows) need no such
/// call.
///
/// # Errors
/// Any error of the file system.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// assert!(pad_ops::fs::sync_folder(folder.path()).is_ok());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Temporary files are private by default; the result should have the rights of any other new file.
trait PermissionsLikeANewFile {
    fn permissions_like_a_new_file(&mut self) -> &mut Self;
}

impl PermissionsLikeANewFile for tempfile::Builder<'_, '_> {
    #[cfg(unix)]
    fn permissions_like_a_new_file(&mut self) -> &mut Self {
        use std::os::unix::fs::PermissionsExt;
        self.permissions(std::fs::Permissions::from_mode(0o666)) // less the umask
    }
    #[cfg(not(unix))]
    fn permissions_like_a_new_file(&mut self) -> &mut Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_atomic_bytes(&path, b"first").unwrap();
        let failed = write_atomic(&path, |file| {
            file.write_all(b"half of the sec")?;
            Err(io::Error::other("power cut"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "power cut");
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        write_atomic_bytes(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "temporary files are gone"
        );
    }
}
