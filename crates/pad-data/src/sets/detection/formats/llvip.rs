//! LLVIP, its infrared images.

use std::path::Path;

use super::{
    super::{
        BoxClasses,
        entry::{DetectionOptions, Opened},
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
    let (images, annotations) = (root.join("infrared").join(split), root.join("Annotations"));
    voc::read(&images, &annotations, options, Some(&BoxClasses::llvip()))
}
