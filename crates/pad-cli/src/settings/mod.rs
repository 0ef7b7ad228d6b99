//! Settings of the trainers: one list for all that every run needs, one for each trainer, merged
//! from defaults, a recipe and flags.

pub mod flags;
pub mod list;
pub mod merge;
pub mod recipes;
pub mod run;
#[cfg(test)]
mod tests;
pub mod values;

pub use flags::{Flags, Start};
pub use merge::{Settings, Trainer};
pub use run::RunSettings;

pub use crate::run::Result;
