//! Files: atomic writes, the folder operations that checkpoints are made of, and reading that refuses
//! what is not a regular file.
//!
//! With the feature `fault-injection`, `fault` lets any write fail: for tests that what is on the
//! disk stays usable after a crash or an error at any point.

use std::{
    fs::{self, File, FileType, Metadata},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
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

/// Opens a regular file for reading.
///
/// A pipe would wait for a writer for ever and a device such as `/dev/zero` has no end, so both are
/// refused before anything is opened, with their kind in the error; so are folders and sockets.
///
/// ```
/// let error = pad_ops::fs::open(std::path::Path::new(".")).unwrap_err();
/// assert_eq!(error.to_string(), "a folder, expected a file");
/// ```
///
/// # Errors
/// Any error of the file system; [`io::ErrorKind::InvalidInput`] for what is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    expect_regular(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    // Another file may have taken its place since.
    expect_regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file whole; others are refused as by [`open`].
///
/// # Errors
/// As [`open`].
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("numbers.bin");
/// std::fs::write(&path, [1, 2, 3])?;
/// assert_eq!(pad_ops::fs::read(&path)?, [1, 2, 3]);
/// assert!(pad_ops::fs::read(folder.path()).is_err()); // a folder
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(length)
        .map_err(|_| io::Error::new(io::ErrorKind::OutOfMemory, "larger than the free memory"))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a small regular file whole: settings, states, names. A larger one is refused before any of
/// it is read.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("settings.toml");
/// std::fs::write(&path, "epochs = 3")?;
/// assert_eq!(pad_ops::fs::read_small(&path, 10)?, b"epochs = 3");
/// let refused = pad_ops::fs::read_small(&path, 9).unwrap_err().to_string();
/// assert_eq!(refused, "10 bytes, expected at most 9");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::InvalidData`] for a file of more than `max_bytes`.
pub fn read_small(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let refused = |found: u64| {
        let what = format!("{found} bytes, expected at most {max_bytes}");
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    };
    let length = file.metadata()?.len();
    if length > max_bytes {
        return refused(length);
    }
    // It may grow while it is read.
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    let found = bytes.len() as u64;
    if found > max_bytes { refused(found) } else { Ok(bytes) }
}

/// Reads a regular file of UTF-8 text whole; others are refused as by [`open`].
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::InvalidData`] for bytes that are not UTF-8.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("note.txt");
/// std::fs::write(&path, "night")?;
/// assert_eq!(pad_ops::fs::read_to_string(&path)?, "night");
/// std::fs::write(&path, [0xff])?;
/// let error = pad_ops::fs::read_to_string(&path).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_to_string(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"))
}

/// Checks that a path names a regular file; the kind of anything else is in the error.
fn expect_regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let kind = kind(metadata.file_type());
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{kind}, expected a file")))
}

/// What a path names that is not a regular file.
fn kind(found: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if found.is_fifo() {
            return "a pipe";
        }
        if found.is_socket() {
            return "a socket";
        }
        if found.is_char_device() || found.is_block_device() {
            return "a device";
        }
    }
    if found.is_dir() { "a folder" } else { "not a regular file" }
}

/// Finds the file that a file in `folder` names by `path`, wherever both are now; `None` if it is
/// nowhere.
///
/// A relative path is looked up in `folder`, in the working directory, where it may have been
/// written, and in the folders above `folder`. An absolute one that is absent is looked up by its
/// last parts, as many as fit, in `folder` and the folders above: a tree that was moved as a whole
/// still works. The caller must check that it is the right file.
///
/// ```
/// use std::path::Path;
/// let folder = tempfile::tempdir()?;
/// let run = folder.path().join("runs/7");
/// std::fs::create_dir_all(&run)?;
/// std::fs::write(folder.path().join("vit.safetensors"), "")?;
/// // A file in `runs/7` names it; it stands two folders above.
/// let found = pad_ops::fs::find_from(&run, Path::new("vit.safetensors"));
/// assert_eq!(found, Some(folder.path().join("vit.safetensors")));
/// assert_eq!(pad_ops::fs::find_from(&run, Path::new("no/such.file")), None);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn find_from(folder: &Path, path: &Path) -> Option<PathBuf> {
    if path.is_absolute() && path.exists() {
        return Some(path.to_path_buf());
    }
    let folder = std::path::absolute(folder).ok()?;
    if path.is_relative() {
        let beside = folder.join(path);
        let first = [beside, path.to_path_buf()].into_iter().find(|path| path.exists());
        let above = || folder.ancestors().skip(1).map(|above| above.join(path));
        return first.or_else(|| above().find(|path| path.exists()));
    }
    let parts: Vec<_> = path.components().skip(1).collect();
    folder.ancestors().find_map(|above| {
        let tails = (0..parts.len()).map(|from| parts[from..].iter().collect::<PathBuf>());
        tails.map(|tail| above.join(tail)).find(|path| path.exists())
    })
}

/// Writes `path` so that it is never seen half-written: a temporary file in the same folder is
/// filled, synced to the disk, renamed over `path`, and the folder synced. On an error the old file
/// stays unchanged and the temporary file is removed. The new file has the permissions of the old; of
/// a link, the file behind it is replaced. Devices and pipes are refused.
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
    // A link stays one, and what it names is replaced.
    let target = std::fs::canonicalize(path);
    let path = target.as_deref().unwrap_or(path);
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other("not a regular file, which alone can be replaced"));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    if !folder.exists() {
        // Without this the message would name a temporary file in place of the folder.
        let missing = format!("the folder {} does not exist", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, missing));
    }
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
    #[cfg(unix)] // elsewhere a read-only file could not be renamed
    if let Ok(replaced) = std::fs::metadata(path).as_ref().map(std::fs::Metadata::permissions) {
        temporary.as_file().set_permissions(replaced)?;
    }
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
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let run = folder.path().join("runs/7");
/// pad_ops::fs::create_folder(&run)?;
/// pad_ops::fs::create_folder(&run)?; // it may be there
/// assert!(run.is_dir());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn create_folder(folder: &Path) -> io::Result<()> {
    point("create", folder)?;
    fs::create_dir_all(folder)
}

/// Renames a file or a folder; [`sync_folder`] makes it durable.
///
/// # Errors
/// Any error of the file system.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let (old, new) = (folder.path().join("old"), folder.path().join("new"));
/// std::fs::write(&old, "7")?;
/// pad_ops::fs::rename(&old, &new)?;
/// pad_ops::fs::sync_folder(folder.path())?;
/// assert_eq!((std::fs::read(&new)?, old.exists()), (b"7".to_vec(), false));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    point("rename", from)?;
    fs::rename(from, to)
}

/// Removes `folder` with all that is in it.
///
/// # Errors
/// Any error of the file system.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let run = folder.path().join("runs/7");
/// std::fs::create_dir_all(&run)?;
/// pad_ops::fs::remove_folder(&folder.path().join("runs"))?;
/// assert!(!run.exists());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    point("remove", folder)?;
    fs::remove_dir_all(folder)
}

/// Removes temporary files that a killed [`write_atomic`] left in `folder`, best effort. No other
/// process may be writing into it.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("model.safetensors"), "whole")?;
/// pad_ops::fs::remove_temporary(folder.path());
/// assert_eq!(std::fs::read_dir(folder.path())?.count(), 1); // files of other names stay
/// # Ok::<(), std::io::Error>(())
/// ```
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
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let private = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, private).unwrap();
            write_atomic(&path, |file| file.write_all(b"second")).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            // A link stays a link; devices stay what they are.
            let link = folder.path().join("link");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            write_atomic(&link, |file| file.write_all(b"third")).unwrap();
            assert!(link.is_symlink());
            assert_eq!(std::fs::read(&path).unwrap(), b"third");
            write_atomic(&path, |file| file.write_all(b"second")).unwrap();
            std::fs::remove_file(&link).unwrap();
            std::os::unix::fs::symlink("/dev/null", &link).unwrap();
            let error = write_atomic(&link, |file| file.write_all(b"fourth")).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file, which alone can be replaced");
            std::fs::remove_file(&link).unwrap();
        }
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

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "text").unwrap();
        assert_eq!(read(&path).unwrap(), b"text");
        assert_eq!(read_to_string(&path).unwrap(), "text");
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_to_string(&path).unwrap_err().to_string(), "not UTF-8 text");
        let refused = |path: &Path| read(path).unwrap_err().to_string();
        assert_eq!(refused(folder.path()), "a folder, expected a file");
        assert_eq!(open(&folder.path().join("b")).unwrap_err().kind(), io::ErrorKind::NotFound);
        #[cfg(unix)]
        {
            assert_eq!(refused(Path::new("/dev/zero")), "a device, expected a file");
            let pipe = folder.path().join("pipe");
            let made = std::process::Command::new("mkfifo").arg(&pipe).status();
            if made.is_ok_and(|status| status.success()) {
                assert_eq!(refused(&pipe), "a pipe, expected a file");
            }
            let socket = folder.path().join("socket");
            let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            assert_eq!(refused(&socket), "a socket, expected a file");
            // A link to one is what it points to.
            let link = folder.path().join("link");
            std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
            assert_eq!(refused(&link), "a device, expected a file");
        }
    }

    #[test]
    fn files_are_found_from_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("old/runs/a");
        std::fs::create_dir_all(&run).unwrap();
        let weights = root.path().join("old/weights/w.bin");
        std::fs::create_dir(weights.parent().unwrap()).unwrap();
        std::fs::write(&weights, "").unwrap();
        assert_eq!(find_from(&run, &weights), Some(weights.clone()));
        // Written in `old`.
        assert_eq!(find_from(&run, Path::new("weights/w.bin")), Some(weights.clone()));
        assert_eq!(find_from(&run, Path::new("weights/v.bin")), None);
        assert_eq!(find_from(&run, &root.path().join("old/v.bin")), None);
        // The whole tree was moved.
        std::fs::rename(root.path().join("old"), root.path().join("new")).unwrap();
        let moved = root.path().join("new/weights/w.bin");
        assert_eq!(find_from(&root.path().join("new/runs/a"), &weights), Some(moved));
    }
}
