//! The decoded samples of one component.

use pad_ops::ImageSize;

/// Samples of one component, padded to whole blocks.
pub(super) struct Plane {
    pub(super) samples: Vec<u8>,
    pub(super) stride: usize,
    /// Samples that belong to the image.
    pub(super) size: ImageSize,
    /// Whether any coefficient is not zero; a chroma plane without one is neutral.
    pub(super) coloured: bool,
}

impl Plane {
    /// The samples of an image of size `size` without padding.
    pub(super) fn into_samples(mut self, size: ImageSize) -> Vec<u8> {
        if self.stride != size.width {
            for row in 1..size.height {
                let start = row * self.stride;
                self.samples.copy_within(start..start + size.width, row * size.width);
            }
        }
        self.samples.truncate(size.area());
        self.samples
    }
}
