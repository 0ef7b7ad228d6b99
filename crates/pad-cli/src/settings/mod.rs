//! Settings of the trainers: one list for all that every run needs, one for each trainer, merged
//! from defaults, a recipe and flags.

pub mod flags;
mod help;
pub mod list;
pub mod merge;
pub mod names;
pub mod paths;
pub mod recipes;
pub mod run;
#[cfg(test)]
mod tests;
pub mod trainer;
pub mod values;

pub use flags::{Flags, Start};
pub use merge::{Given, Settings};
pub use run::RunSettings;
pub use trainer::Trainer;
