//! Infrared image data for training: 8- and 16-bit images, MSIP, augmentations, a threaded loader, rendered scenes.

mod error;
pub mod image;
pub mod rect;
pub mod resize;
pub mod roi;
pub mod transform;
pub mod window;

pub use error::{Error, Result};
