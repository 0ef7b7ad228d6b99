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
//! | first dot | the RoI file of `frame.01.png` is `frame.txt` ([`ImageFolder::roi_path`](crate::sets::ImageFolder::roi_path)) | `frame.01.txt`, which is used where several images would share a file |
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

mod config;
mod felzenszwalb;
mod file;
mod filter;
#[cfg(test)]
mod golden;
mod graph;
mod gray;
mod grouping;
mod order;
mod rectangle;
mod regions;
mod segments;
mod selective_search;
mod smooth;
mod texture;
mod tile;
mod workspace;

pub use config::{FelzenszwalbConfig, RoiConfig, SelectiveSearchConfig};
pub use felzenszwalb::{Labels, felzenszwalb};
pub use file::{parse_file, read, write};
pub use filter::{RoiFilter, filter};
pub use rectangle::Roi;
pub use regions::{Histograms, Merge, Region};
pub use selective_search::selective_search;
pub use workspace::{Workspace, rois};
