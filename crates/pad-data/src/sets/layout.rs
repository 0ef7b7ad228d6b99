//! Names of folders in MSIP's layout.

use std::collections::BTreeSet;

/// The folder of a source's images.
pub(crate) const THERMAL: &str = "thermal";

/// The folder of a source's regions of interest, beside that of its images.
pub(crate) const ROI: &str = "roi";

/// Names of the RoI files of a set's images.
///
/// The reference takes an image's name up to its first dot. Where several images have the same one
/// (time stamps: `12.48.00.png`, `12.48.01.png`), or where such a file exists, it is the name
/// without its extension.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoiNames {
    /// Names by the reference that several images have.
    shared: BTreeSet<String>,
}

impl RoiNames {
    /// Of images of these names below the root.
    pub(crate) fn of<'a>(images: impl Iterator<Item = &'a str>) -> Self {
        let (mut seen, mut shared) = (BTreeSet::new(), BTreeSet::new());
        for name in images.filter_map(first_dot) {
            if let Some(again) = seen.replace(name) {
                shared.insert(again);
            }
        }
        Self { shared }
    }

    /// The name for an image, below the root too; see
    /// [`ImageFolder::roi_path`](super::ImageFolder::roi_path). `exists` says whether there is a
    /// file of a name.
    pub(crate) fn name(&self, image: &str, exists: impl Fn(&str) -> bool) -> Option<String> {
        let (whole, short) = (last_dot(image)?, first_dot(image)?);
        let takes_whole = whole == short || self.shared.contains(&short) || exists(&whole);
        Some(if takes_whole { whole } else { short })
    }
}

/// With the image's name without its extension.
fn last_dot(image: &str) -> Option<String> {
    with_stem(image, |file| file.rsplit_once('.').map_or(file, |(stem, _)| stem))
}

/// With the image's name up to its first dot.
fn first_dot(image: &str) -> Option<String> {
    with_stem(image, |file| file.split('.').next().unwrap_or_default())
}

/// MSIP's layout is recognised by `thermal` as the first folder or the second.
fn with_stem(image: &str, stem: fn(&str) -> &str) -> Option<String> {
    let mut folders: Vec<&str> = image.split('/').collect();
    let stem = stem(folders.pop()?);
    let file = format!("{stem}.txt");
    match folders.as_mut_slice() {
        [first, ..] if *first == THERMAL => *first = ROI,
        [_, second, ..] if *second == THERMAL => *second = ROI,
        _ => folders.insert(0, ROI),
    }
    folders.push(&file);
    Some(folders.join("/"))
}
