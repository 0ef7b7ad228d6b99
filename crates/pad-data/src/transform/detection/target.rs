//! What a detector learns to find.

use candle_core::Device;
use pad_ops::ImageSize;

use super::ObjectMask;
use crate::{Result, ahead::ToDevice};

/// Objects of an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Left, top, right and bottom edge of each box, pixels, continuous (the box of one pixel has
    /// sides of 1): inside the image, of an area above 0. May be empty.
    pub boxes: Vec<[f32; 4]>,
    /// Class of each box.
    pub labels: Vec<u32>,
    /// Pixels of each box's object, where the set has them.
    pub masks: Vec<ObjectMask>,
}

/// Labels of a batch of images that are at the upper left of their places, zeros beside and below.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DetectionTargets {
    /// Height and width of each image in its place.
    pub sizes: Vec<ImageSize>,
    /// Objects of each image.
    pub targets: Vec<Target>,
}

impl ToDevice for DetectionTargets {
    /// Unchanged: the host works on boxes and masks.
    fn to_device(self, _: &Device) -> Result<Self> {
        Ok(self)
    }
}
