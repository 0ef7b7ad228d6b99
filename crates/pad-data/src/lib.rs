//! Infrared image data for training: 8- and 16-bit images, MSIP, augmentations, a threaded loader, rendered scenes.

mod error;
pub mod roi;

pub use error::{Error, Result};
