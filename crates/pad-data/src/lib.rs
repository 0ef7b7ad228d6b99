//! Infrared image data for training: 8- and 16-bit images, MSIP, augmentations, a threaded loader, rendered scenes.

pub mod dataset;
pub mod draw;
mod error;
pub mod image;
pub mod loader;
pub mod rect;
pub mod resize;
pub mod roi;
pub mod sets;
pub mod stats;
pub mod transform;
pub mod window;

pub use error::{Error, Result};
