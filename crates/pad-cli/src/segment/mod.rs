//! Semantic segmentation: its settings, its images, and what is done with the result.

pub mod data;
pub mod inference;
pub mod predict;
pub mod settings;
pub mod task;

pub use settings::Segment;
