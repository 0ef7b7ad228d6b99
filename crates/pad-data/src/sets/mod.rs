//! Sets of images.

mod folder;
mod images;
mod natural;
mod source;

pub use self::{
    folder::{ImageFolder, Layout, Source},
    images::{Crop, ImageDataset, ImageDatasetConfig},
    source::ImageSource,
};
