//! Foreign checkpoints: a table of names for each format, one engine that reads the tables.

mod clip;
mod convert;
mod format;
mod mmselfsup;
mod ours;
mod report;
mod rule;
mod transformers;
mod unwrap;
mod wrappers;

pub use format::Format;
pub use report::{Change, ConversionReport};
