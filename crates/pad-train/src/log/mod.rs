//! Logs, as hooks: [`JsonLines`] for programs, [`TensorBoard`] for curves and pictures,
//! `ProgressBar` (feature `progress`, on by default) for the terminal.
//!
//! They write what hooks before them measured, so they are added last.

mod jsonl;
mod pace;
#[cfg(feature = "progress")]
mod progress_bar;
mod tensorboard;

pub use jsonl::JsonLines;
pub use pace::{Pace, duration};
#[cfg(feature = "progress")]
pub use progress_bar::ProgressBar;
pub use tensorboard::{EventFile, TensorBoard};
