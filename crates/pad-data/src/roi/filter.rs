//! The filter from regions to regions of interest.

use serde::{Deserialize, Serialize};

use super::{Region, Roi};
use crate::{Error, Result};

/// The conditions for a region to become a region of interest. The defaults are the paper's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoiFilter {
    /// Minimum number of pixels of the region itself (not of its rectangle). Default 600.
    pub min_pixels: u32,
    /// Minimum width and height of the rectangle. Default 40.
    pub min_side: u32,
    /// Maximum ratio of the longer to the shorter side. Default 3.
    pub max_aspect: f64,
}

impl Default for RoiFilter {
    fn default() -> Self {
        Self { min_pixels: 600, min_side: 40, max_aspect: 3.0 }
    }
}

impl RoiFilter {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] for a `max_aspect` below 1.
    pub(super) fn check(&self) -> Result<()> {
        // Also fails for NaN.
        if self.max_aspect >= 1.0 {
            return Ok(());
        }
        Err(Error::Setting {
            name: "max_aspect",
            expected: "at least 1".into(),
            found: self.max_aspect.to_string(),
        })
    }

    fn keeps(&self, region: &Region) -> bool {
        let Roi { width, height, .. } = region.rect;
        let longer = f64::from(width.max(height));
        // A rectangle without area has no aspect ratio: it is left out for any `min_side`.
        let shorter = width.min(height);
        region.pixels >= self.min_pixels
            && shorter >= self.min_side.max(1)
            && longer / f64::from(shorter) <= self.max_aspect
    }
}

/// Returns the rectangles of the regions that pass, without duplicates, sorted by
/// `(x, y, width, height)`.
pub fn filter(regions: &[Region], filter: &RoiFilter) -> Vec<Roi> {
    let mut rois: Vec<Roi> =
        regions.iter().filter(|region| filter.keeps(region)).map(|region| region.rect).collect();
    rois.sort_unstable();
    rois.dedup();
    rois
}
