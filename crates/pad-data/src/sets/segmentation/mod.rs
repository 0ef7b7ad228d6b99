//! Sets of images with a class for every pixel.
//!
//! | set | what |
//! |---|---|
//! | [`SegmentationSet::open`] | a folder with `images`, `masks` and `classes.toml` (see [`Classes`]), SODA, or MFNet |
//! | [`SegmentationScenes`] | rendered scenes |

mod classes;
mod entry;
mod files;
mod formats;
mod mask;
#[cfg(feature = "scenes")]
mod scenes;
mod survey;

use std::sync::Arc;

use pad_ops::ImageSize;

#[cfg(feature = "scenes")]
pub use self::scenes::SegmentationScenes;
pub use self::{
    classes::Classes, entry::SegmentationOptions, files::SegmentationSet,
    formats::SegmentationFormat, mask::read_mask, survey::LabelSurvey,
};
use crate::{Error, Result, dataset::Sample, image::Image};

/// A class for every pixel of an image. Clones share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassMap {
    size: ImageSize,
    classes: Arc<Vec<u8>>,
}

impl ClassMap {
    /// A map from `size.area()` classes, row-major.
    ///
    /// # Errors
    /// [`Error::Setting`] for any other number of classes, and for an empty map.
    pub fn new(size: ImageSize, classes: Vec<u8>) -> Result<Self> {
        if classes.is_empty() || size.height.checked_mul(size.width) != Some(classes.len()) {
            return Err(Error::Setting {
                name: "classes",
                expected: format!("at least one and exactly {size} pixels"),
                found: format!("{} pixels", classes.len()),
            });
        }
        Ok(Self { size, classes: Arc::new(classes) })
    }

    /// Height and width, pixels.
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// The class of every pixel, row-major.
    pub fn classes(&self) -> &[u8] {
        &self.classes
    }

    /// The classes, without a copy unless a clone shares them.
    pub fn into_classes(self) -> Vec<u8> {
        Arc::unwrap_or_clone(self.classes)
    }
}

/// An image with a class for every pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentationImage {
    /// The image, as it is stored.
    pub image: Image,
    /// Classes of its set, or the ignored label.
    pub labels: ClassMap,
}

impl Sample for SegmentationImage {
    type Classes = Classes;
    type Info = ();

    fn bytes(&self) -> u64 {
        self.image.bytes() + self.labels.classes.len() as u64
    }
}
