//! What every candle training run needs: parameter groups, AdamW with state, schedules, checkpoints, logs.
//!
//! - [`Parameter`] and [`Groups`]: what trains, with rates of its own; parameters that thaw late.
//! - [`AdamW`]: PyTorch's arithmetic, one multi-threaded pass per parameter on the CPU, a state that can be saved.
//! - [`Schedule`]: warm-up and cosine, per iteration.
//! - [`Trainer`]: the loop, over a [`Task`] and its [`Batches`]; everything else is a [`Hook`].
//! - [`checkpoint`]: folders that are whole or absent; a resumed run equals an uninterrupted one, bit for bit.
//! - [`log`]: JSON lines, TensorBoard events, a progress bar.

mod adamw;
pub mod checkpoint;
mod error;
mod gradients;
pub mod log;
mod parameter;
mod schedule;
mod trainer;

pub use adamw::{AdamW, AdamWConfig};
pub use error::{Error, Result, Source};
pub use gradients::Gradients;
pub use parameter::{Group, Groups, Parameter, weight_decay_for};
pub use schedule::{Schedule, scaled_lr};
pub use trainer::{
    Batches, Epoch, Hook, Losses, Outcome, Progress, StepInfo, Task, TrainConfig, Trainer,
};
