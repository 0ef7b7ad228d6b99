//! Pre-training: its settings, its images, a run of it.

pub mod images;
pub mod model;
pub mod pictures;
pub mod settings;
pub mod teacher;
pub mod train;

#[cfg(test)]
mod recipe_tests;

pub use settings::Pretrain;
