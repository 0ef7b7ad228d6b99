//! Logs, as hooks: [`JsonLines`] for programs, [`TensorBoard`] for curves and pictures,
//! [`ProgressBar`] for the terminal.
//!
//! They write what hooks before them measured, so they are added last.

mod jsonl;
mod pace;
mod progress_bar;
mod tensorboard;

pub use jsonl::JsonLines;
pub use pace::{Pace, duration};
pub use progress_bar::ProgressBar;
pub use tensorboard::{EventFile, TensorBoard};
