//! HIT-UAV.

use std::path::Path;

use super::{
    super::{
        BoxClasses,
        entry::{DetectionOptions, Opened, first_folder},
    },
    coco,
};
use crate::{Result, sets::format::Format};

/// Its folders look like those of COCO.
pub(super) const FORMAT: Format<DetectionOptions, Opened> =
    Format { name: "hit-uav", looks_for: None, matches: |_, _| false, open };

fn open(root: &Path, split: &str, options: &DetectionOptions) -> Result<Opened> {
    let images = first_folder(root, &[Path::new(split).join("images"), split.into()]);
    let annotations = root.join("annotations").join(format!("{split}.json"));
    coco::read(&annotations, &images, options, Some(&BoxClasses::hit_uav()))
}
