//! Computes detection and segmentation metrics: COCO AP, mIoU, NMS, masks. No tensor library.
//!
//! | module | what |
//! |---|---|
//! | [`boxes`] | intersection over union, non-maximum suppression |
//! | [`coco`] | COCO's twelve numbers, of boxes and of masks |
//! | [`confusion`] | mIoU and accuracies of class maps |
//! | [`rle`] | masks of objects as COCO keeps them: runs and outlines |
//! | [`rect`] | rectangles of whole pixels |

pub mod boxes;
pub mod coco;
pub mod confusion;
mod error;
pub mod rect;
pub mod rle;
mod size;

pub use error::{BoxesError, CocoError, MaskError, MetricsError};
pub use size::ImageSize;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
