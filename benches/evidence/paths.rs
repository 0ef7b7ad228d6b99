//! Where the relative paths of a command line begin.

use std::path::{Path, PathBuf};

/// Returns the folder of the shell, if a program was started in another one: cargo starts a bench in the folder of its
/// `package` and leaves the shell's in `PWD`, from which the paths on the command line are meant.
pub(crate) fn folder_of_shell(
    current: &Path,
    package: &Path,
    pwd: Option<PathBuf>,
) -> Option<PathBuf> {
    let is_by_cargo = match (current.canonicalize(), package.canonicalize()) {
        (Ok(current), Ok(package)) => current == package,
        _ => false,
    };
    pwd.filter(|folder| is_by_cargo && folder.is_absolute() && folder.is_dir())
}
