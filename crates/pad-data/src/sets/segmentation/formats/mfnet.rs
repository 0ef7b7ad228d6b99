//! MFNet.

use super::super::{
    Classes,
    entry::{Opened, SegmentationOptions, entries, list_of},
};
use crate::sets::format::Format;

pub(super) const FORMAT: Format<SegmentationOptions, Opened> = Format {
    name: "mfnet",
    looks_for: Some("SPLIT.txt and labels"),
    matches: |root, split| list_of(root, split).is_file() && root.join("labels").is_dir(),
    open: |root, split, options| {
        let thermal = root.join("thermal");
        let fourth_channel = !thermal.is_dir();
        let images = if fourth_channel { root.join("images") } else { thermal };
        Ok(Opened {
            entries: entries(
                &list_of(root, split),
                &images,
                &root.join("labels"),
                options.max_faulty,
            )?,
            classes: options.classes_of(Classes::mfnet)?,
            fourth_channel,
        })
    },
};
