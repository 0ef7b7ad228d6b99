//! Sets of images.

pub mod detection;
pub(crate) mod folder;
mod images;
pub(crate) mod natural;
pub(crate) mod rois;
pub mod segmentation;
mod source;

pub(crate) use self::source::no_image;
pub use self::{
    folder::{ImageFolder, Layout, Source},
    images::{Crop, ImageDataset, ImageDatasetConfig},
    rois::{gray_levels, search_rois},
    source::ImageSource,
};
