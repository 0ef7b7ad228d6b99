//! Configurations of the segmentation, the search and the whole.

use serde::{Deserialize, Serialize};

use super::{Histograms, RoiFilter, smooth::MAX_SIGMA};
use crate::{Error, Result};

/// The configuration of [`felzenszwalb()`](super::felzenszwalb()). The defaults are the paper's.
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

/// The configuration of [`selective_search()`](super::selective_search()). The defaults are the paper's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectiveSearchConfig {
    /// The segmentation.
    pub felzenszwalb: FelzenszwalbConfig,
    /// The texture histograms.
    pub histograms: Histograms,
}

/// The configuration of [`rois`](super::rois). The defaults are the paper's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoiConfig {
    /// The search for regions.
    pub search: SelectiveSearchConfig,
    /// The filter of regions.
    pub filter: RoiFilter,
}
