//! Formats of images with class maps. A new one is a file here and a line in [`FORMATS`].

mod folder;
mod mfnet;
mod soda;

use std::path::Path;

use super::entry::{Opened, SegmentationOptions};
use crate::{
    Result,
    sets::format::{Format, chosen, named_format},
};

/// All formats. Where a folder is opened without a name of one, the first that it looks like is
/// taken.
static FORMATS: [Format<SegmentationOptions, Opened>; 3] =
    [folder::FORMAT, soda::FORMAT, mfnet::FORMAT];

/// How a folder of images with class maps is arranged, by name: see
/// [`SegmentationSet::open`](super::SegmentationSet::open).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentationFormat(Option<&'static str>);

named_format!(SegmentationFormat, FORMATS);

/// Reads a split of a folder.
pub(super) fn open(
    root: &Path,
    split: &str,
    format: SegmentationFormat,
    options: &SegmentationOptions,
) -> Result<Opened> {
    (chosen(&FORMATS, format.0, root, split)?.open)(root, split, options)
}
