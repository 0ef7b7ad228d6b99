//! Regions of interest of a grey image: the rectangles that MSIP crops around.
//!
//! | step | file | source |
//! |---|---|---|
//! | blur, graph, segments | `smooth`, `graph`, `tile`, `segments`, [`felzenszwalb()`] | Felzenszwalb and Huttenlocher 2004, as scikit-image 0.26 computes it |
//! | boxes and histograms of the segments | `regions`, `texture` | selectivesearch 0.4 |
//! | grouping of the most similar regions | [`selective_search()`] | Uijlings et al. 2013, as selectivesearch 0.4 computes it |
//! | filter | [`filter()`] | arXiv 2312.08192, `roi.py` of the original |
//! | one text file per image | [`read`], [`write()`] | the original's `roi` folders |
//!
//! [`rois`] runs all steps but the last. The result equals the reference's, rectangle for
//! rectangle, because every comparison uses the same rounded numbers: grey stands for three equal
//! colour channels, sums have the same order, and ties are broken the same way. An image is
//! processed by one thread; give each thread a [`Workspace`].
//!
//! # Quirks that are kept
//!
//! The regions equal the reference's only if its quirks are repeated:
//!
//! | name | what the reference does | what one would expect |
//! |---|---|---|
//! | brightness alone | the colour histogram's range is 0..255 for hue, saturation and value, but the first two are 0..1: all of them fall into the first bin | three informative histograms; for grey images nothing is lost |
//! | two texture bins | the texture histogram's range is 0..1 although its patterns are 0..255: only the patterns 0 and 1 are counted, which most regions do not contain | ten bins over all patterns: [`Histograms::Corrected`] |
//! | corner neighbours | two segments are neighbours if the box of the later has a corner strictly inside the box of the earlier: a box inside a later one, equal boxes and crossing boxes are not neighbours | segments that touch; as it is, some regions never merge |
//! | one pixel short | `width` and `height` are last minus first pixel | a pixel more |
//! | threshold in `f32` | a segment's threshold is rounded to `f32` before it is compared with a cost in `f64` | one precision |
//! | first dot | the RoI file of `frame.01.png` is `frame.txt` ([`ImageFolder::roi_path`](crate::sets::ImageFolder::roi_path)) | `frame.01.txt`; shared files are refused |
//!
//! Not kept: RoI files are in sorted order, the reference's in that of a Python set (a crop draws
//! from the list, so the draws of a run differ, not their distribution); a region outside its image
//! is an error, not skipped.
//!
//! ```
//! use pad_data::roi::{RoiConfig, Roi, rois};
//! use pad_ops::ImageSize;
//!
//! // A bright square of 60x60 pixels on a dark ground.
//! let size = ImageSize::new(100, 120);
//! let gray: Vec<u8> = (0..size.area())
//!     .map(|i| (i / 120, i % 120))
//!     .map(|(y, x)| if (20..80).contains(&y) && (30..90).contains(&x) { 200 } else { 40 })
//!     .collect();
//! let found = rois(&gray, size, &RoiConfig::default())?;
//! assert!(found.contains(&Roi { x: 30, y: 20, width: 59, height: 59 }));
//! # Ok::<(), pad_data::Error>(())
//! ```

mod felzenszwalb;
mod file;
mod filter;
#[cfg(test)]
mod golden;
mod graph;
mod order;
mod regions;
mod segments;
mod selective_search;
mod smooth;
mod texture;
mod tile;

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

pub use felzenszwalb::{FelzenszwalbConfig, Labels, felzenszwalb};
pub use file::{parse_file, read, write};
pub use filter::{RoiFilter, filter};
pub use regions::{Histograms, Merge, Region};
pub use selective_search::{SelectiveSearchConfig, selective_search};

use crate::{Error, Result};
use segments::Segmenter;
use selective_search::Grouping;

/// A rectangle of pixels. As in the reference, `width` and `height` are last minus first pixel: one
/// less than the number of columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Roi {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns, less one.
    pub width: u32,
    /// Rows, less one.
    pub height: u32,
}

impl Roi {
    /// Returns whether the rectangle lies inside an image of `size`.
    pub fn is_inside(&self, size: ImageSize) -> bool {
        let inside = |first: u32, extent: u32, limit: usize| {
            u64::from(first) + u64::from(extent) <= limit as u64
        };
        inside(self.x, self.width, size.width) && inside(self.y, self.height, size.height)
    }
}

/// Formats a line of a RoI file: `x,y,width,height`.
impl std::fmt::Display for Roi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{},{},{}", self.x, self.y, self.width, self.height)
    }
}

/// The configuration of [`rois`]. The defaults are the paper's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoiConfig {
    /// The search for regions.
    pub search: SelectiveSearchConfig,
    /// The filter of regions.
    pub filter: RoiFilter,
}

/// The buffers of one thread, reused for every image: about 60 bytes per pixel of the largest
/// image.
#[derive(Debug, Default)]
pub struct Workspace {
    segmenter: Segmenter,
    grouping: Grouping,
}

impl Workspace {
    /// Returns an empty workspace; its buffers grow on use.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs [`selective_search()`] in these buffers.
    ///
    /// # Errors
    /// As [`selective_search()`].
    pub fn selective_search(
        &mut self,
        gray: &[u8],
        size: ImageSize,
        config: &SelectiveSearchConfig,
    ) -> Result<Vec<Region>> {
        check_image(gray, size)?;
        config.felzenszwalb.check()?;
        let count = self.segmenter.run(gray, size.width, &config.felzenszwalb);
        let labels = &self.segmenter.labels;
        Ok(self.grouping.run(gray, size, labels, count, config.histograms))
    }

    /// Runs [`rois`] in these buffers.
    ///
    /// # Errors
    /// As [`rois`].
    pub fn rois(&mut self, gray: &[u8], size: ImageSize, config: &RoiConfig) -> Result<Vec<Roi>> {
        config.filter.check()?;
        Ok(filter(&self.selective_search(gray, size, &config.search)?, &config.filter))
    }
}

/// Returns the regions of interest of a grey image, without duplicates, sorted by
/// `(x, y, width, height)`.
///
/// `gray` holds `size.height` rows of `size.width` bytes.
///
/// # Errors
/// [`Error::Setting`] if `gray` is empty, above 2^30 pixels or not of that size, or a setting is
/// out of range.
pub fn rois(gray: &[u8], size: ImageSize, config: &RoiConfig) -> Result<Vec<Roi>> {
    Workspace::new().rois(gray, size, config)
}

/// Checks that `gray` is an image of `size`.
fn check_image(gray: &[u8], size: ImageSize) -> Result<()> {
    let area = size.height.checked_mul(size.width);
    let Some(area @ 1..=graph::MAX_PIXELS) = area else {
        return Err(Error::Setting {
            name: "size",
            expected: format!("1 to {} pixels", graph::MAX_PIXELS),
            found: size.to_string(),
        });
    };
    if gray.len() != area {
        return Err(Error::Setting {
            name: "gray",
            expected: format!("{area} bytes for {size} pixels"),
            found: format!("{} bytes", gray.len()),
        });
    }
    Ok(())
}
