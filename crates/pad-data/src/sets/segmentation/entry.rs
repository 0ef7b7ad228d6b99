//! Input and output of the readers of formats.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Classes;
use crate::{Error, Result, sets::folder::is_image};

/// How a labelled set is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentationOptions {
    /// The classes. `None`: those of the format.
    pub classes: Option<Classes>,
}

/// One image and its labels.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) image: PathBuf,
    pub(super) mask: PathBuf,
}

/// What the reader of a format gives.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) entries: Vec<Entry>,
    pub(super) classes: Classes,
    /// Whether the image is the fourth channel of its file.
    pub(super) fourth_channel: bool,
}

/// The entries that a list names, one a line, with or without an extension.
///
/// # Errors
/// [`Error::Io`]; [`Error::Entry`] for an empty list; [`Error::Line`] for a name without an image
/// or mask, or named twice.
pub(super) fn entries(list: &Path, images: &Path, masks: &Path) -> Result<Vec<Entry>> {
    let text = fs::read_to_string(list).map_err(|cause| Error::Io { path: list.into(), cause })?;
    let (image_files, mask_files) = (by_stem(images)?, by_stem(masks)?);
    let mut entries = Vec::new();
    let mut lines = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let name = if is_image(line) { stem(line) } else { line };
        let fault = |what| Error::Line { path: list.into(), line: index + 1, what };
        let missing = |what: &str, folder: &Path| {
            fault(format!("expected {what} `{name}` in {}, found none", folder.display()))
        };
        if let Some(first) = lines.insert(name.to_string(), index + 1) {
            return Err(fault(format!("expected a new name, found `{name}` of line {first}")));
        }
        let image = image_files.get(name).ok_or_else(|| missing("an image", images))?;
        let mask = mask_files.get(name).ok_or_else(|| missing("a mask", masks))?;
        entries.push(Entry {
            name: name.into(),
            image: images.join(image),
            mask: masks.join(mask),
        });
    }
    if entries.is_empty() {
        let what = "expected names of images, found none".into();
        return Err(Error::Entry { path: list.into(), what });
    }
    Ok(entries)
}

/// The file name without its extension.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// The image files of a folder, by the name without its extension; the first in order, where
/// several share it.
fn by_stem(folder: &Path) -> Result<BTreeMap<String, String>> {
    let io = |cause| Error::Io { path: folder.into(), cause };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        if let Ok(name) = entry.map_err(io)?.file_name().into_string()
            && is_image(&name)
        {
            names.push(name);
        }
    }
    // Last to first, so that the first remains.
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names.into_iter().map(|name| (stem(&name).to_string(), name)).collect())
}
