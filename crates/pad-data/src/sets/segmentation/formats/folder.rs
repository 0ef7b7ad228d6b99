//! The folder format: images, masks, and a file that names the classes.

use super::super::{
    Classes,
    entry::{Opened, SegmentationOptions, entries},
};
use crate::sets::format::Format;

/// The file that names the classes.
const CLASSES: &str = "classes.toml";

pub(super) const FORMAT: Format<SegmentationOptions, Opened> = Format {
    name: "folder",
    looks_for: Some(CLASSES),
    matches: |root, _| root.join(CLASSES).is_file(),
    open: |root, split, options| {
        let (classes, images, masks) = Classes::read(&root.join(CLASSES))?;
        let list = root.join(format!("{split}.txt"));
        Ok(Opened {
            entries: entries(&list, &root.join(images), &root.join(masks))?,
            classes: options.classes.clone().unwrap_or(classes),
            fourth_channel: false,
        })
    },
};
