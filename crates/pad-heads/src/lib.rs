//! Detection and segmentation heads for vision transformers in candle.
//!
//! - [`backbone`]: feature maps of any ViT: the downstream form of the original (relative positions, learned position
//!   table) or a plain one, and the pyramid over them.
//! - [`detection`]: COCO evaluation of boxes.
//! - [`layers`]: convolutions with batch norm, as heads are made of.
//! - [`segmentation`]: UPerNet, FCN and linear heads, losses, inference in windows, training, metrics.

pub mod backbone;
pub mod detection;
mod error;
pub mod layers;
pub mod segmentation;

pub use error::{Error, Result};
