//! Object detection.

pub mod coco;
