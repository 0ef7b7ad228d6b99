//! Sets of images.

mod folder;
mod images;
mod natural;
mod source;

pub(crate) use self::source::no_image;
pub use self::{
    folder::{ImageFolder, Layout, Source},
    images::{Crop, ImageDataset, ImageDatasetConfig},
    source::ImageSource,
};
