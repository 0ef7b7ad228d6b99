//! The mapping from downloaded files to files of the set.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    pattern::{Found, find, joined},
    source::{Order, SourceSpec},
};
use crate::{
    Error, Result,
    sets::{folder::list, natural},
};

/// An image to be placed in the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedImage {
    /// The downloaded file.
    pub from: PathBuf,
    /// Its path below the download's folder, with `/` on every system.
    pub original: String,
    /// Its path below the set's folder: `NAME/thermal/...`.
    pub to: String,
}

/// The images to be placed from one source, before any image is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePlan {
    /// The rules of the source.
    pub source: SourceSpec,
    /// The folder of its download.
    pub download: PathBuf,
    /// The images, in the order of their frames.
    pub images: Vec<PlacedImage>,
}

impl SourcePlan {
    /// Returns the folder of a source's download below the folder of all downloads.
    ///
    /// # Errors
    /// [`Error::NoDownload`]; [`Error::Io`].
    pub fn locate(source: &SourceSpec, downloads: &Path) -> Result<PathBuf> {
        let entries = list(downloads)?;
        let named = |name: &&str| {
            entries
                .iter()
                .find(|entry| entry.name.eq_ignore_ascii_case(name) && entry.path.is_dir())
                .map(|entry| entry.path.clone())
        };
        source.downloads.iter().find_map(named).ok_or_else(|| Error::NoDownload {
            path: downloads.into(),
            source_name: source.name.into(),
            looked_for: source.downloads.join(", "),
        })
    }

    /// Lists the images of `source` in `download`, selects every [`step`](SourceSpec::step)-th and
    /// names them. A name consists of the folders matched by the pattern's stars and the file's own
    /// name, so that it does not depend on other files: `set00/V001/00010.jpg` becomes
    /// `set00_V001_00010.jpg`. Inner dots become dashes.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be read or is reached twice by links;
    /// [`Error::NoDownload`] if no pattern finds an image; [`Error::SameStem`];
    /// [`Error::Unsupported`] for a name with control characters or backslashes; [`Error::Setting`]
    /// for a step of 0.
    pub fn new(source: &SourceSpec, download: &Path) -> Result<Self> {
        if source.step == 0 {
            return Err(Error::Setting {
                name: "step",
                expected: "at least 1".into(),
                found: "0".into(),
            });
        }
        let mut files = Vec::new();
        for pattern in source.folders {
            files = find(download, pattern)?;
            if !files.is_empty() {
                break;
            }
        }
        if files.is_empty() {
            let looked_for: Vec<String> =
                source.folders.iter().map(|folder| format!("images in `{folder}`")).collect();
            return Err(Error::NoDownload {
                path: download.into(),
                source_name: source.name.into(),
                looked_for: looked_for.join(", "),
            });
        }
        let mut files: Vec<(String, Found)> =
            files.into_iter().map(|file| (joined(&file.folder, &file.name), file)).collect();
        match source.order {
            Order::Whole => files.sort_by(|a, b| natural::compare(&a.0, &b.0)),
            // By folder first: files of a subfolder must not come between the frames of its parent.
            Order::EachFolder => files.sort_by(|(_, a), (_, b)| {
                natural::compare(&a.folder, &b.folder)
                    .then_with(|| natural::compare(&a.name, &b.name))
            }),
        }
        let taken = match source.order {
            Order::Whole => files.into_iter().step_by(source.step).collect(),
            Order::EachFolder => {
                let mut videos: Vec<Vec<(String, Found)>> = Vec::new();
                for file in files {
                    match videos.last_mut() {
                        Some(video)
                            if video.last().is_some_and(|last| last.1.folder == file.1.folder) =>
                        {
                            video.push(file);
                        }
                        _ => videos.push(vec![file]),
                    }
                }
                let frames =
                    videos.into_iter().flat_map(|video| video.into_iter().step_by(source.step));
                frames.collect::<Vec<_>>()
            }
        };
        let mut stems: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut images = Vec::with_capacity(taken.len());
        for (original, file) in taken {
            let (stem, extension) = file.name.rsplit_once('.').unwrap_or((&file.name, ""));
            let mut parts = file.stars.clone();
            parts.push(stem.to_string());
            let stem = parts.join("_").replace('.', "-");
            // A manifest that is read on every system can hold neither.
            if original.chars().any(|letter| letter.is_control() || letter == '\\') {
                let what = "a name with a control character or backslash".into();
                return Err(Error::Unsupported { path: file.path, what });
            }
            let extension = if source.border > 0 { "png".into() } else { extension.to_lowercase() };
            let to = format!("{}/thermal/{stem}.{extension}", source.name);
            if let Some(first) = stems.insert(stem.clone(), file.path.clone()) {
                return Err(Error::SameStem { first, second: file.path, stem });
            }
            images.push(PlacedImage { from: file.path, original, to });
        }
        Ok(Self { source: source.clone(), download: download.into(), images })
    }
}
