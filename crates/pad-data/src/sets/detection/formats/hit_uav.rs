//! HIT-UAV.

use std::path::{Path, PathBuf};

use super::{
    super::{
        BoxClasses,
        entry::{DetectionOptions, Opened},
    },
    coco,
};
use crate::{Result, sets::format::Format};

/// The folder of its COCO files, as its authors publish it.
const PUBLISHED: &str = "normal_json";

/// The folders inside [`PUBLISHED`] look like those of COCO, and are read as such without a name of
/// the format.
pub(super) const FORMAT: Format<DetectionOptions, Opened> = Format {
    name: "hit-uav",
    looks_for: Some("normal_json/annotations"),
    matches: |root, _| root.join(PUBLISHED).join("annotations").is_dir(),
    open,
};

fn open(root: &Path, split: &str, options: &DetectionOptions) -> Result<Opened> {
    let published = root.join(PUBLISHED);
    let root = if published.is_dir() { &published } else { root };
    let images: [PathBuf; 4] =
        [root.join(split).join("images"), root.join(split), root.join("images"), root.into()];
    let annotations = root.join("annotations").join(format!("{split}.json"));
    coco::read(&annotations, &images, options, Some(&BoxClasses::hit_uav()))
}
