//! MFNet.

use std::path::{Path, PathBuf};

use super::super::{
    Classes,
    entry::{Opened, SegmentationOptions, entries},
};
use crate::sets::format::Format;

pub(super) const FORMAT: Format<SegmentationOptions, Opened> = Format {
    name: "mfnet",
    looks_for: Some("SPLIT.txt and labels"),
    matches: |root, split| list(root, split).is_file() && root.join("labels").is_dir(),
    open: |root, split, options| {
        let thermal = root.join("thermal");
        let fourth_channel = !thermal.is_dir();
        let images = if fourth_channel { root.join("images") } else { thermal };
        Ok(Opened {
            entries: entries(&list(root, split), &images, &root.join("labels"))?,
            classes: options.classes.clone().unwrap_or_else(Classes::mfnet),
            fourth_channel,
        })
    },
};

fn list(root: &Path, split: &str) -> PathBuf {
    root.join(format!("{split}.txt"))
}
