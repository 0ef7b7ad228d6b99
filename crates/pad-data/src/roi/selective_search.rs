//! The search for regions.

use pad_ops::ImageSize;

use super::{Region, SelectiveSearchConfig, Workspace};
use crate::Result;

/// Returns all regions of an 8-bit grey image, treated as three equal channels, in order of
/// creation: the segments by their first pixel, then the merged regions. They equal those of
/// selectivesearch 0.4.
///
/// As there, two segments are neighbours if the box of the later has a corner strictly inside the
/// box of the earlier; a merged region inherits the neighbours of both. The most similar pair is
/// merged; among equals, the pair that became known last. Source: Uijlings et al., "Selective
/// Search for Object Recognition", 2013.
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting) if `gray` is empty, above 2^30 pixels or not of that
/// size, or a setting is out of range.
pub fn selective_search(
    gray: &[u8],
    size: ImageSize,
    config: &SelectiveSearchConfig,
) -> Result<Vec<Region>> {
    Workspace::new().selective_search(gray, size, config)
}
