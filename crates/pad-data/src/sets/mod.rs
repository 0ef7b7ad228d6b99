//! Sets of images on disk.

mod folder;
mod images;
mod natural;

pub use self::{
    folder::{ImageFolder, Layout, Source},
    images::{Crop, ImageDataset, ImageDatasetConfig},
};
