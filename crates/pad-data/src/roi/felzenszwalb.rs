//! Graph-based segmentation as a function of its own.

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use super::{check_image, segments::Segmenter, smooth::MAX_SIGMA};
use crate::{Error, Result};

/// Settings of [`felzenszwalb()`]. The defaults are the paper's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FelzenszwalbConfig {
    /// Larger values give larger segments: a segment of `n` pixels stays open for costs up to `scale / 255 / n` above
    /// the largest inside it. Default 600.
    pub scale: f64,
    /// Standard deviation of the blur before, pixels, 0 to 64. Default 0.9.
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
    /// # Errors
    /// [`Error::Setting`] for a scale or a sigma outside its range.
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |name, expected: String, found: f64| {
            Err(Error::Setting { name, expected, found: found.to_string() })
        };
        if !(self.scale.is_finite() && self.scale >= 0.0) {
            return refuse("scale", "a finite number from 0".into(), self.scale);
        }
        if !(0.0..=MAX_SIGMA).contains(&self.sigma) {
            return refuse("sigma", format!("0 to {MAX_SIGMA}"), self.sigma);
        }
        Ok(())
    }
}

/// A segment number for each pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Size of the image.
    pub size: ImageSize,
    /// Segments; every number below is used.
    pub count: u32,
    /// Row by row, one number per pixel, in the order in which segments first appear.
    pub labels: Vec<u32>,
}

/// Segments of an 8-bit grey image, taken as three equal channels: scikit-image's `felzenszwalb`, label for label.
///
/// Edges join each pixel with its eight neighbours and are visited by rising cost `sqrt(3 d²)` of the blurred image in
/// 0..1. Two segments become one if the cost is below `inner + scale / 255 / size` of both, rounded to `f32`, where
/// `inner` is the last cost that was accepted inside. A second visit joins whatever has fewer than `min_size` pixels.
/// Source: Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", 2004.
///
/// Equal costs are visited by direction (right, down, down-right, up-right), then by row and column; the reference
/// leaves their order to an unstable sort.
///
/// # Errors
/// [`Error::Setting`] if `gray` is empty, too large (2^30 pixels) or not of that size, or a setting is out of range.
pub fn felzenszwalb(gray: &[u8], size: ImageSize, config: &FelzenszwalbConfig) -> Result<Labels> {
    check_image(gray, size)?;
    config.check()?;
    let mut segmenter = Segmenter::default();
    let count = segmenter.run(gray, size.width, config);
    Ok(Labels { size, count, labels: segmenter.labels })
}
