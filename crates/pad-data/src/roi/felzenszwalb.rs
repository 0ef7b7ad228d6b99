//! Graph-based segmentation.

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use super::{check_image, segments::Segmenter, smooth::MAX_SIGMA};
use crate::{Error, Result};

/// The configuration of [`felzenszwalb()`]. The defaults are the paper's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FelzenszwalbConfig {
    /// Larger values give larger segments: a segment of `n` pixels can be joined at costs up to
    /// `scale / 255 / n` above its largest inner cost. Default 600.
    pub scale: f64,
    /// Standard deviation of the Gaussian blur applied first, pixels, 0 to 64. Default 0.9.
    pub sigma: f64,
    /// Segments with fewer pixels are joined to a neighbour. Default 30.
    pub min_size: u32,
}

impl Default for FelzenszwalbConfig {
    fn default() -> Self {
        Self { scale: 600.0, sigma: 0.9, min_size: 30 }
    }
}

impl FelzenszwalbConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] for a scale or a sigma outside its range.
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |name, expected: String, found: f64| {
            Err(Error::Setting { name, expected, found: found.to_string() })
        };
        if !(self.scale.is_finite() && self.scale >= 0.0) {
            return refuse("scale", "a finite number of at least 0".into(), self.scale);
        }
        if !(0.0..=MAX_SIGMA).contains(&self.sigma) {
            return refuse("sigma", format!("0 to {MAX_SIGMA}"), self.sigma);
        }
        Ok(())
    }
}

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
/// [`Error::Setting`] if `gray` is empty, above 2^30 pixels or not of that size, or a setting is
/// out of range.
pub fn felzenszwalb(gray: &[u8], size: ImageSize, config: &FelzenszwalbConfig) -> Result<Labels> {
    check_image(gray, size)?;
    config.check()?;
    let mut segmenter = Segmenter::default();
    let count = segmenter.run(gray, size.width, config);
    Ok(Labels { size, count, labels: segmenter.labels })
}
