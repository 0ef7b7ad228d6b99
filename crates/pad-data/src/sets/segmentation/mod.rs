//! Sets of images with a class for every pixel.
//!
//! | source | what |
//! |---|---|
//! | [`SegmentationSet::folder`] | `images/`, `masks/`, `train.txt`, `val.txt`, `test.txt`, `classes.toml` (see [`Classes`]) |
//! | [`SegmentationSet::soda`] | SODA in the layout of Pascal VOC, 21 classes |
//! | [`SegmentationSet::mfnet`] | MFNet, 9 classes; the thermal channel of its 4-channel pictures, or a `thermal` folder |
//! | [`SegmentationScenes`] | rendered scenes |

mod classes;
mod files;
mod loader;
mod mask;
#[cfg(feature = "scenes")]
mod scenes;

use pad_ops::ImageSize;

#[cfg(feature = "scenes")]
pub use self::scenes::SegmentationScenes;
pub use self::{
    classes::Classes,
    files::SegmentationSet,
    loader::{SegmentationBatch, SegmentationBatches, SegmentationLoader},
    mask::read_mask,
};
use crate::{
    Error, Result,
    image::{DecodeOptions, Image},
};

/// A class for every pixel of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassMap {
    size: ImageSize,
    classes: Vec<u8>,
}

impl ClassMap {
    /// A map from `size.area()` classes, row-major.
    ///
    /// # Errors
    /// [`Error::Setting`] if their number is another, or 0.
    pub fn new(size: ImageSize, classes: Vec<u8>) -> Result<Self> {
        if classes.is_empty() || size.height.checked_mul(size.width) != Some(classes.len()) {
            return Err(Error::Setting {
                name: "classes",
                expected: format!("at least one and exactly {size} pixels"),
                found: format!("{} pixels", classes.len()),
            });
        }
        Ok(Self { size, classes })
    }

    /// Height and width, pixels.
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// The class of every pixel, row-major.
    pub fn classes(&self) -> &[u8] {
        &self.classes
    }

    /// The classes, taken out.
    pub fn into_classes(self) -> Vec<u8> {
        self.classes
    }
}

/// A list of labelled images. What image `index` is never changes: loaders ask from several threads, in any order.
pub trait SegmentationSource: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of image `index`, for results and messages. Any string for an index beyond the end.
    fn name(&self, index: usize) -> String;

    /// The classes, and which label is no class.
    fn classes(&self) -> &Classes;

    /// Image `index` as it is stored, and its labels: classes of [`SegmentationSource::classes`] or its `ignore`.
    ///
    /// # Errors
    /// Whatever is wrong with the image or its labels; [`Error::Setting`] if there is no such image.
    fn load(&self, index: usize, options: &DecodeOptions) -> Result<(Image, ClassMap)>;
}
