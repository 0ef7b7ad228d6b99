//! Graph-based segmentation.

use pad_ops::ImageSize;

use super::{FelzenszwalbConfig, gray::check_image, segments::Segmenter};
use crate::Result;

/// A segment label for each pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Size of the image.
    pub size: ImageSize,
    /// The number of segments; labels are below it.
    pub count: u32,
    /// The label of each pixel, row-major. Segments are numbered in order of their first pixel.
    pub labels: Vec<u32>,
}

/// Segments an 8-bit grey image, treated as three equal channels: scikit-image's `felzenszwalb`,
/// label for label.
///
/// Edges join each pixel with its eight neighbours and are visited by increasing cost `sqrt(3 d²)`
/// of the blurred image in 0..1. Two segments become one if the cost is below
/// `inner + scale / 255 / size` of both, rounded to `f32`, where `inner` is the last cost accepted
/// inside. A second visit joins segments of fewer than `min_size` pixels. Source: Felzenszwalb and
/// Huttenlocher, "Efficient Graph-Based Image Segmentation", 2004.
///
/// Equal costs are visited by direction (right, down, down-right, up-right), then by row and
/// column; the reference leaves their order to an unstable sort.
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting) if `gray` is empty, above 2^30 pixels or not of that size, or a setting is
/// out of range.
pub fn felzenszwalb(gray: &[u8], size: ImageSize, config: &FelzenszwalbConfig) -> Result<Labels> {
    check_image(gray, size)?;
    config.check()?;
    let mut segmenter = Segmenter::default();
    let count = segmenter.run(gray, size.width, config);
    Ok(Labels { size, count, labels: segmenter.labels })
}
