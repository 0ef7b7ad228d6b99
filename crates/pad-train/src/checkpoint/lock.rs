//! One process at a time in a folder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
};

use crate::{Error, Result};

/// The right to write into a folder. It ends with the value, and with the process however that dies:
/// the system keeps it, on the file `.lock` in the folder.
///
/// ```
/// use pad_train::checkpoint::FolderLock;
/// let folder = tempfile::tempdir()?;
/// let mine = FolderLock::acquire(folder.path())?;
/// let refused = FolderLock::acquire(folder.path()).unwrap_err().to_string();
/// let process = format!("is in use by process {}", std::process::id());
/// assert!(refused.contains(&process), "{refused}");
/// drop(mine);
/// FolderLock::acquire(folder.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Locks `folder`, which must exist. On file systems without locks a warning is logged instead.
    ///
    /// # Errors
    /// [`Error::Locked`] with the process that holds it; [`Error::Io`].
    pub fn acquire(folder: &Path) -> Result<Self> {
        let path = folder.join(".lock");
        let mut options = OpenOptions::new();
        let opened = options.create(true).read(true).write(true).truncate(false).open(&path);
        let mut file = opened.map_err(Error::io(&path))?;
        match file.try_lock() {
            Ok(()) => {
                // Shown by a process that is refused; the lock holds even if this cannot be written.
                let _ = file.set_len(0).and_then(|()| write!(file, "{}", this_process()));
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.rewind().and_then(|()| file.read_to_string(&mut holder));
                if holder.is_empty() {
                    holder = "another process".into();
                }
                return Err(Error::Locked { folder: folder.to_path_buf(), holder });
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!("{} cannot be locked: {error}", folder.display());
            }
        }
        Ok(Self { _file: file })
    }
}

/// `process 4711 on HOST`.
fn this_process() -> String {
    let process = format!("process {}", std::process::id());
    match std::fs::read_to_string("/proc/sys/kernel/hostname") {
        Ok(host) => format!("{process} on {}", host.trim()),
        Err(_) => process,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::acquire(folder.path()).unwrap();
        let refused = FolderLock::acquire(folder.path()).unwrap_err().to_string();
        let expected = format!("{} is in use by {}", folder.path().display(), this_process());
        assert_eq!(refused, expected);
        drop(first);
        FolderLock::acquire(folder.path()).unwrap();
    }
}
