//! What a command leaves: text and files.

use std::{
    fmt::Display,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;

use crate::run::{self, Result};

/// Prints a line, or several. A reader that has closed the pipe (`| head`) is not an error.
pub fn print(text: impl Display) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

/// The flag without which no file is replaced.
#[derive(Args, Clone, Copy, Debug)]
pub struct Replace {
    /// Replace files that exist
    #[arg(long)]
    pub overwrite: bool,
}

impl Replace {
    /// Checks that `path` can be written: it does not exist, or `--overwrite` is given, and files can
    /// be made where its folder is, or would be. A long command must not fail at its end.
    pub fn check(self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return Err(format!("{}: a folder, expected a file to write", path.display()).into());
        }
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            let what = "a device, pipe or socket, expected a file to write";
            return Err(format!("{}: {what}", path.display()).into());
        }
        if !self.overwrite && path.exists() {
            let what = "the file exists (--overwrite replaces it)";
            return Err(format!("{}: {what}", path.display()).into());
        }
        let above = path.ancestors().skip(1).find(|folder| folder.exists());
        try_folder(above.unwrap_or(Path::new(".")))
    }

    /// Checks that a folder has no file with this extension, or that `--overwrite` is given.
    pub fn check_folder(self, folder: &Path, extension: &str) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let existing = paths.find(|path| path.extension().is_some_and(|found| found == extension));
        existing.map_or(Ok(()), |path| self.check(&path))
    }

    /// [`Replace::check`] of a file that may not be wanted.
    pub fn check_some(self, path: Option<&PathBuf>) -> Result<()> {
        path.map_or(Ok(()), |path| self.check(path))
    }
}

/// Checks that files can be written to a folder, by one that has no name.
fn try_folder(folder: &Path) -> Result<()> {
    match tempfile::tempfile_in(folder) {
        Ok(_) => Ok(()),
        Err(error) => {
            let cause = error.get_ref().and_then(|inner| inner.source()).map(ToString::to_string);
            let cause = cause.unwrap_or_else(|| error.to_string());
            Err(format!("{}: files cannot be written here: {cause}", folder.display()).into())
        }
    }
}

/// Makes a folder and those above it.
pub fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()).into())
}

/// Makes the folder of a file that is about to be written.
pub fn make_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), make_folder)
}

/// `OUT/NAME.png` of the image NAME, in a folder that exists: images of two folders may have one name.
pub fn picture_path(out: &Path, name: &str) -> Result<PathBuf> {
    let path = out.join(format!("{name}.png"));
    make_parent(&path)?;
    Ok(path)
}

/// Writes a JSON file whole, and says so.
pub fn write_json(path: &Path, report: &impl Serialize) -> Result<()> {
    make_parent(path)?;
    run::write_text(path, &format!("{}\n", serde_json::to_string_pretty(report)?))?;
    print(format_args!("wrote {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_replaced_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features.safetensors");
        let (keep, replace) = (Replace { overwrite: false }, Replace { overwrite: true });
        keep.check(&path).unwrap();
        assert!(!path.exists());
        let deep = folder.path().join("of/a/run/features.safetensors");
        keep.check(&deep).unwrap();
        assert!(!folder.path().join("of").exists());
        write_json(&deep, &1).unwrap();
        assert_eq!(std::fs::read_to_string(&deep).unwrap(), "1\n");
        let error = replace.check(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with(": a folder, expected a file to write"), "{error}");
        std::fs::write(&path, b"x").unwrap();
        replace.check(&path).unwrap();
        let error = keep.check(&path).unwrap_err().to_string();
        assert!(error.ends_with("features.safetensors: the file exists (--overwrite replaces it)"));
        keep.check_some(None).unwrap();
        assert!(keep.check_folder(folder.path(), "safetensors").is_err());
        keep.check_folder(folder.path(), "png").unwrap();
        keep.check_folder(&folder.path().join("absent"), "png").unwrap();
        assert!(keep.check_some(Some(&path)).is_err());
        // A file where a folder is expected.
        let error = keep.check(&path.join("below.json")).unwrap_err().to_string();
        assert!(error.contains("features.safetensors: "), "{error}");
    }
}
