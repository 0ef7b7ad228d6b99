//! Sets of images: folders and lists, with and without labels.
//!
//! | set | samples |
//! |---|---|
//! | [`ImageFolder`], [`ShardSet`](crate::shards::ShardSet), [`open_images`] | images |
//! | [`WithRois`] | images with regions of interest |
//! | [`ClassFolder`](classification::ClassFolder) | images of classes, a folder for each class |
//! | [`segmentation`] | images with a class for every pixel |
//! | [`detection`] | images with boxes around objects |

pub mod classification;
pub mod detection;
mod faults;
pub(crate) mod folder;
mod format;
mod info;
pub(crate) mod layout;
pub(crate) mod natural;
mod open;
mod rois;
pub mod segmentation;
mod splits;
mod text;
pub(crate) mod walk;

pub use self::{
    folder::{ImageFolder, Layout},
    info::{ImageInfo, StoredFile},
    open::open_images,
    rois::{RoiImage, WithRois, gray_levels, read_rois, search_rois},
};
pub(crate) use crate::dataset::no_such_sample as no_image;
