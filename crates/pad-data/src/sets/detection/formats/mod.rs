//! Formats of images with boxes. A new one is a file here and a line in [`FORMATS`].

pub(super) mod coco;
mod cvat;
mod flir;
mod hit_uav;
mod label_studio;
mod llvip;
pub(super) mod voc;
pub(super) mod yolo;

use std::path::Path;

use super::entry::{DetectionOptions, Opened};
use crate::{
    Result,
    sets::format::{Format, chosen, named_format},
};

/// All formats. Where a folder is opened without a name of one, the first that it looks like is
/// taken.
static FORMATS: [Format<DetectionOptions, Opened>; 8] = [
    flir::FORMAT,
    llvip::FORMAT,
    hit_uav::FORMAT,
    label_studio::FORMAT,
    coco::FORMAT,
    cvat::FORMAT,
    voc::FORMAT,
    yolo::FORMAT,
];

/// How a folder of images with boxes is arranged, by name: see
/// [`DetectionSet::open`](super::DetectionSet::open).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DetectionFormat(Option<&'static str>);

named_format!(DetectionFormat, FORMATS);

/// Reads a split of a folder.
pub(super) fn open(
    root: &Path,
    split: &str,
    format: DetectionFormat,
    options: &DetectionOptions,
) -> Result<Opened> {
    (chosen(&FORMATS, format.0, root, split)?.open)(root, split, options)
}
