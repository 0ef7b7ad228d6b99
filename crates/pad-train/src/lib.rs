//! A training loop for any candle model: parameter groups, optimisers with saved state, learning
//! rate schedules, gradient accumulation, checkpoints, logs.
//!
//! A program brings a [`Task`] (a batch in, a scalar loss out) and [`Batches`]; [`Trainer`] runs
//! them, with accumulation, clipping, checkpoints and logs where they are set. The example below is
//! a whole run; that of [`Trainer`] writes checkpoints and a log and is resumed.
//!
//! | module | what |
//! |---|---|
//! | [`parameter`] | a variable, how fast it learns, how much it decays, when it thaws |
//! | [`gradients`] | one optional gradient per parameter: accumulation, norm, clipping |
//! | [`optimizer`] | any optimiser, with a saved state: SGD, Lion, RMSprop, or your own |
//! | [`adamw`] | AdamW, one pass over memory |
//! | [`schedule`] | the learning rate at every step: shapes, and combinations of them |
//! | [`task`] | what a program provides: a loss and batches |
//! | [`stream`] | batches out of the passes of a loader, with epochs of any length |
//! | [`trainer`] | the loop |
//! | [`state`] | the state of a run, and its settings |
//! | [`hook`] | everything that is not the step |
//! | [`collective`] | many processes that train one model |
//! | [`checkpoint`] | folders that are written atomically |
//! | [`log`] | JSON lines, TensorBoard, progress bar |
//!
//! A run that was stopped and resumed gives the same bits as one that was not, on the CPU, with any
//! number of threads: see [`trainer`].
//!
//! A loop without [`Trainer`] needs no more than [`Gradients`] and an [`Optimizer`]: see the crate's
//! README and `docs/training.md`.
//!
//! ```
//! use pad_train::{
//!     AdamW, AdamWConfig, BatchIter, Batches, BoxError, Losses, Mode, Parameter, Schedule, Task, Trainer,
//!     TrainerConfig, candle_core::{self, Device, Tensor, Var},
//! };
//! /// Learns the mean of its batches.
//! struct Mean(Var);
//! impl Task for Mean {
//!     type Batch = Tensor;
//!     fn losses(&self, batch: &Tensor, _: Mode) -> Result<Losses, BoxError> {
//!         Ok(Losses::new(batch.broadcast_sub(&self.0)?.sqr()?.mean_all()?))
//!     }
//!     fn images_in(&self, batch: &Tensor) -> usize { batch.elem_count() }
//! }
//! struct Ones;
//! impl Batches for Ones {
//!     type Batch = Tensor;
//!     fn per_epoch(&self) -> usize { 50 }
//!     fn epoch(&mut self, _: usize, first: usize) -> Result<BatchIter<'_, Tensor>, BoxError> {
//!         Ok(Box::new((first..50).map(|_| Ok(Tensor::ones(4, candle_core::DType::F32, &Device::Cpu)?))))
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mean = Var::new(&[0_f32], &Device::Cpu)?;
//! let optimizer = AdamW::new(vec![Parameter::new("mean", mean.clone())], AdamWConfig::default())?;
//! let config = TrainerConfig { epochs: 4, ..Default::default() };
//! Trainer::new(config, Schedule::Constant { lr: 0.05 }, optimizer)?.run(&Mean(mean.clone()), &mut Ones)?;
//! assert!((mean.to_vec1::<f32>()?[0] - 1.0).abs() < 0.01);
//! # Ok(())
//! # }
//! ```

pub mod adamw;
pub mod checkpoint;
pub mod collective;
pub mod ema;
mod error;
pub mod gradients;
pub mod hook;
mod hooks;
pub mod log;
pub mod optimizer;
mod outcome;
pub mod parameter;
mod reach;
pub mod schedule;
pub mod state;
pub mod stream;
mod tally;
pub mod task;
pub mod trainer;
mod unread;

pub use adamw::{AdamW, AdamWConfig};
pub use checkpoint::{CheckpointConfig, Checkpoints, Every, TrainingCheckpoint};
pub use collective::{Collective, LocalGroup, SingleProcess};
pub use ema::{Ema, EmaConfig};
pub use error::{BoxError, Error, Result, TensorFaults, WrongTensor};
pub use gradients::Gradients;
pub use hook::{EpochInfo, Flow, Hook, StepInfo, TrainerView};
pub use optimizer::{
    ByRule, Lion, LionConfig, Optimizer, RmsProp, RmsPropConfig, Sgd, SgdConfig, StepBegun,
    StepReport, UpdateRule,
};
pub use outcome::{Outcome, RunEnd};
pub use parameter::{Parameter, ParameterSummary, weight_decay_for};
pub use reach::UnusedParameters;
pub use schedule::{
    Anneal, LrFn, LrSchedule, MultiStep, OneCycle, Schedule, Sequential, WarmUp, lr_for_batch,
};
pub use state::{TrainerConfig, TrainerState};
pub use stream::EpochStream;
pub use task::{BatchIter, Batches, Losses, Share, Task};
pub use trainer::Trainer;

// What the signatures above are made of, so that this crate is enough.
pub use candle_core;
pub use pad_ops::{ImageSize, Mode, rng::Key};

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
