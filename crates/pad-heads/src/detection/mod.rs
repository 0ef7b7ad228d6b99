//! Object detection: ViTDet's Faster R-CNN (Li et al., 2022) and COCO evaluation.

mod batch;
pub mod boxes;
pub mod coco;

pub use batch::{Boxes, Detection, DetectionBatch, Target, rescaled};
