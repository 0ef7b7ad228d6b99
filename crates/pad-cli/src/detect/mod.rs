//! Object detection: its settings, its images, a run of it, and what is done with the result.

pub mod data;
pub mod eval;
pub mod model;
pub mod predict;
pub mod settings;
pub mod show;
pub mod thresholds;
pub mod train;

pub use settings::Detect;
