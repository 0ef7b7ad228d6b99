//! LLVIP, its infrared images.

use std::path::Path;

use super::{
    super::{
        BoxClasses,
        entry::{DetectionOptions, Opened},
        listed::of_folder,
    },
    voc,
};
use crate::{Result, sets::format::Format};

pub(super) const FORMAT: Format<DetectionOptions, Opened> = Format {
    name: "llvip",
    looks_for: Some("infrared and Annotations"),
    matches: |root, _| root.join("Annotations").is_dir() && root.join("infrared").is_dir(),
    open,
};

fn open(root: &Path, split: &str, options: &DetectionOptions) -> Result<Opened> {
    let images = options.images.clone().unwrap_or_else(|| root.join("infrared").join(split));
    let annotations = root.join("Annotations");
    voc::read(of_folder(&images)?, &annotations, options, Some(&BoxClasses::llvip()))
}
