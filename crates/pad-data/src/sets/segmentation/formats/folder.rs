//! The folder format: images, masks, and a file that names the classes.

use std::path::Path;

use super::super::{
    Classes,
    entry::{Entry, Opened, SegmentationOptions, entries, list_of, paired},
};
use crate::{
    Result,
    sets::{format::Format, splits::place_of},
};

/// The file that names the classes.
const CLASSES: &str = "classes.toml";

pub(super) const FORMAT: Format<SegmentationOptions, Opened> = Format {
    name: "folder",
    looks_for: Some(CLASSES),
    matches: |root, _| root.join(CLASSES).is_file(),
    open: |root, split, options| {
        let (classes, images, masks) = Classes::read(&root.join(CLASSES))?;
        Ok(Opened {
            entries: part(root, split, &root.join(images), &root.join(masks), options)?,
            classes: options.classes_of(|| classes)?,
            fourth_channel: false,
        })
    },
};

/// The entries of the list of a part; without one those of its folders.
fn part(
    root: &Path,
    split: &str,
    images: &Path,
    masks: &Path,
    options: &SegmentationOptions,
) -> Result<Vec<Entry>> {
    let list = list_of(root, split);
    let folder = place_of(split, |name| vec![images.join(name)], Path::is_dir);
    match folder {
        Some((name, images)) if !list.is_file() => {
            paired(&images, &masks.join(name), options.max_faulty)
        }
        _ => entries(&list, images, masks, options.max_faulty),
    }
}
