//! SODA, in the layout of Pascal VOC.

use std::path::{Path, PathBuf};

use super::super::{
    Classes,
    entry::{Opened, SegmentationOptions, entries, list_of},
};
use crate::sets::format::Format;

pub(super) const FORMAT: Format<SegmentationOptions, Opened> = Format {
    name: "soda",
    looks_for: Some("ImageSets/Segmentation/SPLIT.txt"),
    matches: |root, split| list(root, split).is_file(),
    open: |root, split, options| {
        let (images, masks) = (root.join("JPEGImages"), root.join("SegmentationClass"));
        Ok(Opened {
            entries: entries(&list(root, split), &images, &masks, options.max_faulty)?,
            classes: options.classes_of(Classes::soda)?,
            fourth_channel: false,
        })
    },
};

fn list(root: &Path, split: &str) -> PathBuf {
    list_of(&root.join("ImageSets/Segmentation"), split)
}
