//! Foreign checkpoints: a table of names for each format, one engine that reads the tables.

mod authors;
mod clip;
mod convert;
mod export;
mod format;
mod mmselfsup;
mod origin;
mod ours;
mod report;
mod rework;
mod rule;
mod timm;
mod transformers;
mod unwrap;
mod wrappers;

pub use format::Format;
pub(super) use origin::Origin;
pub use report::{Change, ConversionReport};
