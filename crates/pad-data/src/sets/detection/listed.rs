//! Images of a folder or of a list.

use std::path::{Path, PathBuf};

use super::pictures::Pictures;
use crate::{
    Error, Result,
    image::EXTENSIONS,
    sets::{
        ImageFolder,
        faults::Faults,
        folder::is_image,
        text::{SET_BYTES, read_text},
    },
};

/// An image and its name.
pub(super) struct Listed {
    pub(super) path: PathBuf,
    /// Below the folder of images, with `/` on every system.
    pub(super) name: String,
}

/// The images of a folder, in the natural order of their names.
///
/// # Errors
/// As [`ImageFolder::open`].
pub(super) fn of_folder(folder: &Path) -> Result<Vec<Listed>> {
    let folder = ImageFolder::open(folder)?;
    let files = folder.files();
    Ok(files.map(|(path, name)| Listed { path: path.into(), name: name.into() }).collect())
}

/// The images that a list names, one a line, with or without an extension, in the first of `folders`
/// that has them.
///
/// # Errors
/// [`Error::Entry`] for an empty list; [`Error::TooManyFaults`] for names without an image.
pub(super) fn of_list(list: &Path, folders: &[PathBuf], share: f64) -> Result<Vec<Listed>> {
    let text = read_text(list, SET_BYTES)?;
    let lines = text.lines().map(str::trim).zip(1_usize..);
    let lines: Vec<(&str, usize)> = lines.filter(|(line, _)| !line.is_empty()).collect();
    if lines.is_empty() {
        let what = "expected names of images, found none".into();
        return Err(Error::Entry { path: list.into(), what });
    }
    // Names without an extension are tried with each.
    let tried: Vec<String> = lines.iter().flat_map(|(line, _)| spelt(line)).collect();
    let mut pictures = Pictures::best(folders, tried.iter().map(String::as_str));
    let mut faults = Faults::new(share);
    let mut images = Vec::with_capacity(lines.len());
    let mut seen = std::collections::BTreeSet::new();
    for (line, number) in &lines {
        // Lists of one class say behind the name whether it occurs.
        let first = line.split_whitespace().next().unwrap_or(line);
        let names: Vec<String> = spelt(line).into_iter().chain(spelt(first)).collect();
        let exact = names.iter().find_map(|name| pictures.exact(name));
        let found = exact.or_else(|| names.iter().find_map(|name| pictures.alike(name)));
        let Some(path) = found else {
            let folder = pictures.folder().display();
            let what =
                format!("expected an image `{}` in {folder}, found none", line.escape_debug());
            faults.add(Error::Line { path: list.into(), line: *number, what })?;
            continue;
        };
        if !seen.insert(path.clone()) {
            tracing::warn!("{}:{number}: `{line}` is named more than once", list.display());
            continue;
        }
        let below = path.strip_prefix(pictures.folder()).unwrap_or(&path);
        let name = below.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
        images.push(Listed { path, name });
    }
    faults.close(list, "images", lines.len())?;
    Ok(images)
}

/// The file names that a name stands for.
fn spelt(name: &str) -> Vec<String> {
    if is_image(name) {
        return vec![name.into()];
    }
    EXTENSIONS.iter().map(|extension| format!("{name}.{extension}")).collect()
}
