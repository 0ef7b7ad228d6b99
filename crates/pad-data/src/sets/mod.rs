//! Sets of images.

pub mod detection;
pub(crate) mod folder;
mod images;
mod list;
pub(crate) mod natural;
pub(crate) mod rois;
pub mod segmentation;
mod source;

pub(crate) use self::source::no_image;
pub use self::{
    folder::{ImageFolder, Layout},
    images::{Crop, ImageDataset, ImageDatasetConfig},
    list::{ImageList, Source},
    rois::{gray_levels, search_rois},
    source::ImageSource,
};
