//! What the EXIF block of a file says of its pixels.

use super::{orientation::Orientation, tiff::ifd::Directories};

/// Tags of the first directory.
const MAKE: u16 = 271;
const ORIENTATION: u16 = 274;

/// What of an EXIF block counts here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exif {
    pub(super) orientation: Orientation,
    /// Maker of the camera; empty if unknown.
    pub(super) make: String,
}

impl Exif {
    /// Reads a block (without the name that JPEG puts in front of it). A damaged one says nothing,
    /// as for other readers: it describes pixels, it does not hold any.
    pub(super) fn parse(block: &[u8]) -> Self {
        // Some writers put JPEG's name in front of PNG's block as well.
        let block = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
        let first = Directories::of(block).and_then(|all| all.iter().next());
        let Some(first) = first else { return Self::default() };
        Self {
            orientation: Orientation::of_tag(first.number(ORIENTATION).ok().flatten()),
            make: first.text(MAKE).unwrap_or_default(),
        }
    }
}
