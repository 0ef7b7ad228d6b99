//! Where images come from: a folder, or anything that can give an image by number.

use std::path::PathBuf;

use super::ImageFolder;
use crate::{
    Error, Result,
    image::{DecodeOptions, Image, decode_collapsed},
};

/// A list of images. What image `index` is never changes: loaders ask from several threads, in any order.
pub trait ImageSource: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A name for messages. Any string for an index beyond the end.
    fn name(&self, index: usize) -> String;

    /// The file that holds the regions of interest of image `index`, if this source keeps them in files: for messages.
    fn roi_file(&self, index: usize) -> Option<PathBuf> {
        let _ = index;
        None
    }

    /// Image `index`, with one channel where all are equal, if that is known.
    ///
    /// # Errors
    /// Whatever is wrong with it; [`Error::Setting`] if there is no such image.
    fn load(&self, index: usize, options: &DecodeOptions) -> Result<Image>;
}

impl ImageSource for ImageFolder {
    fn len(&self) -> usize {
        self.len()
    }

    fn name(&self, index: usize) -> String {
        self.name(index).unwrap_or("(no such image)").to_string()
    }

    fn roi_file(&self, index: usize) -> Option<PathBuf> {
        self.roi_path(index)
    }

    fn load(&self, index: usize, options: &DecodeOptions) -> Result<Image> {
        decode_collapsed(self.path(index).ok_or_else(|| no_image(index, self.len()))?, options)
    }
}

/// The refusal of an index beyond the end.
pub(crate) fn no_image(index: usize, images: usize) -> Error {
    Error::Setting { name: "index", expected: format!("below {images}"), found: index.to_string() }
}
