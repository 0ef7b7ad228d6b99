//! Logs as hooks: JSON lines, TensorBoard events, a progress bar.

mod jsonl;
mod progress;
mod tensorboard;

pub use jsonl::JsonLines;
pub use progress::ProgressBar;
pub use tensorboard::TensorBoard;
