//! Semantic segmentation.

pub mod metrics;
