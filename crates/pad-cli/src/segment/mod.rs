//! Semantic segmentation: its settings, its images, a run of it, and what is done with the result.

pub mod data;
pub mod eval;
pub mod inference;
pub mod model;
pub mod predict;
pub mod settings;
pub mod train;

pub use settings::Segment;
