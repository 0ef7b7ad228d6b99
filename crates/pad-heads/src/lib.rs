//! Detection and segmentation heads for vision transformers in candle.

pub mod detection;
pub mod segmentation;
