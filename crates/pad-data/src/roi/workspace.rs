//! All steps in the buffers of one thread.

use pad_ops::ImageSize;

use super::{
    Region, Roi, RoiConfig, SelectiveSearchConfig, filter::filter, gray::check_image,
    grouping::Grouping, segments::Segmenter,
};
use crate::Result;

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

    /// Runs [`selective_search()`](super::selective_search()) in these buffers.
    ///
    /// # Errors
    /// As [`selective_search()`](super::selective_search()).
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
/// [`Error::Setting`](crate::Error::Setting) if `gray` is empty, above 2^30 pixels or not of that size, or a setting is
/// out of range.
pub fn rois(gray: &[u8], size: ImageSize, config: &RoiConfig) -> Result<Vec<Roi>> {
    Workspace::new().rois(gray, size, config)
}
