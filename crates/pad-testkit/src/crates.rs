//! The crates of this repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A published crate with a library.
#[derive(Clone, Debug)]
pub struct LibraryCrate {
    /// Its folder below `crates`.
    pub folder: String,
    /// The name of its library.
    pub library: String,
    /// Its `lib.rs`.
    pub root: PathBuf,
}

/// Returns the root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Lists the published crates that have a library, by folder.
///
/// # Panics
/// If a folder or manifest cannot be read.
pub fn library_crates() -> Vec<LibraryCrate> {
    let folders = fs::read_dir(repository().join("crates")).expect("a folder of crates");
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    folders.iter().filter_map(|folder| library_crate(folder)).collect()
}

fn library_crate(path: &Path) -> Option<LibraryCrate> {
    let root = path.join("src/lib.rs");
    let manifest = fs::read_to_string(path.join("Cargo.toml")).ok()?;
    let private = manifest.lines().any(|line| line.trim() == "publish = false");
    if private || !root.is_file() {
        return None;
    }
    // `name` of `[lib]`, else the package's.
    let folder = path.file_name()?.to_string_lossy().into_owned();
    let section = manifest.split("[lib]").nth(1).unwrap_or(&manifest);
    let name = section.lines().find_map(|line| line.trim().strip_prefix("name = "));
    let library = name.map_or_else(|| folder.clone(), |name| name.trim_matches('"').to_owned());
    Some(LibraryCrate { library: library.replace('-', "_"), folder, root })
}
