//! Detection and segmentation heads for vision transformers in candle.
//!
//! - [`backbone`]: feature maps of any ViT: the downstream forms of the original (relative positions, learned position
//!   table, attention in windows) or a plain one, and the pyramids over them.
//! - [`detection`]: proposals, heads on boxes, losses, training; COCO evaluation.
//! - [`layers`]: convolutions with batch norm, as heads are made of.
//! - [`segmentation`]: UPerNet, FCN and linear heads, losses, inference in windows, training, metrics.

pub mod backbone;
pub mod detection;
mod error;
pub mod layers;
pub mod segmentation;

pub use error::{Error, Result};

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
