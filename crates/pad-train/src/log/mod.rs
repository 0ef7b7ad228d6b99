//! Logs, as hooks: [`JsonLines`] for programs, [`TensorBoard`] for curves and pictures, [`Progress`] for who waits.
//!
//! They write what hooks before them measured, so they are added last.

mod jsonl;
mod progress;
mod tensorboard;

pub use jsonl::JsonLines;
pub use progress::Progress;
pub use tensorboard::{EventFile, TensorBoard};
