//! FLIR ADAS, versions 1 and 2, its thermal images.

use std::path::{Path, PathBuf};

use super::{
    super::{
        BoxClasses,
        entry::{DetectionOptions, Opened},
    },
    coco,
};
use crate::{Result, sets::format::Format};

pub(super) const FORMAT: Format<DetectionOptions, Opened> = Format {
    name: "flir",
    looks_for: Some("images_thermal_SPLIT/coco.json or SPLIT/thermal_annotations.json"),
    matches: |root, split| second(root, split).is_dir() || first(root, split).is_file(),
    open,
};

/// The folder of a split of version 2.
fn second(root: &Path, split: &str) -> PathBuf {
    root.join(format!("images_thermal_{split}"))
}

/// The annotations of a split of version 1.
fn first(root: &Path, split: &str) -> PathBuf {
    root.join(split).join("thermal_annotations.json")
}

fn open(root: &Path, split: &str, options: &DetectionOptions) -> Result<Opened> {
    let classes = BoxClasses::flir();
    let second = second(root, split);
    if second.is_dir() {
        return coco::read(&second.join("coco.json"), &[second], options, Some(&classes));
    }
    coco::read(&first(root, split), &[root.join(split)], options, Some(&classes))
}
