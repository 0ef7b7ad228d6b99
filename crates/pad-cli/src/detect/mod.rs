//! Object detection: its settings, its images, and what is done with the result.

pub mod data;
pub mod predict;
pub mod settings;
pub mod show;
pub mod task;
pub mod thresholds;

pub use settings::Detect;
