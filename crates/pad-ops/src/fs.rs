//! Atomic file writes, and the folder operations that checkpoints are made of.
//!
//! With the feature `fault-injection`, [`fault`] lets any of them fail: for tests that what is on the
//! disk stays usable after a crash or an error at any point.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

#[cfg(feature = "fault-injection")]
pub mod fault;

/// A file operation is about to happen.
#[cfg(feature = "fault-injection")]
use fault::point;
#[cfg(not(feature = "fault-injection"))]
fn point(_operation: &str, _path: &Path) -> io::Result<()> {
    Ok(())
}

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
    point("create", path)?;
    let temporary = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".tmp")
        .permissions_like_a_new_file()
        .tempfile_in(folder)?;
    let mut writer = BufWriter::with_capacity(1 << 20, temporary.as_file());
    fill(&mut writer)?;
    point("write", path)?;
    writer.flush()?;
    drop(writer);
    point("sync", path)?;
    temporary.as_file().sync_all()?;
    point("rename", path)?;
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
        point("sync", folder)?;
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Creates `folder` and those above it that are missing.
///
/// # Errors
/// Any error of the file system.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    point("create", folder)?;
    fs::create_dir_all(folder)
}

/// Renames a file or a folder; [`sync_folder`] makes it durable.
///
/// # Errors
/// Any error of the file system.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    point("rename", from)?;
    fs::rename(from, to)
}

/// Removes `folder` with all that is in it.
///
/// # Errors
/// Any error of the file system.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    point("remove", folder)?;
    fs::remove_dir_all(folder)
}

/// Removes temporary files that a killed [`write_atomic`] left in `folder`, best effort. No other
/// process may be writing into it.
pub fn remove_temporary(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // `.NAME.EXT` and six random characters, then `.tmp`.
        if name.starts_with('.') && name.ends_with(".tmp") && entry.path().is_file() {
            let _ = fs::remove_file(entry.path());
        }
    }
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

    #[test]
    fn what_a_killed_write_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".a.bin1f3kQz.tmp", ".hidden", "notes.tmp", "a.bin"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        remove_temporary(folder.path());
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".hidden", "a.bin", "notes.tmp"]);
    }
}
