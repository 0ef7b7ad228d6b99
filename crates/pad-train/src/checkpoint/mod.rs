//! Checkpoints: folders that are written atomically.
//!
//! ```text
//! run/
//!   checkpoint-00000120/
//!     model.safetensors       trained variables by name, f32 (or what they are), with the caller's metadata
//!     optimizer.safetensors   AdamW::state
//!     averages.safetensors    averages of the variables, in a run that keeps them (Trainer::with_ema)
//!     state.json              where the run stands, which step was the best, the hooks' states, size and
//!                             checksum of the others and of itself
//!   checkpoint-00000240/
//!   best                      name of the best one, for people: the newest state.json decides
//!   checkpoint-00000200.damaged/    set aside by a run that found it altered or incomplete
//!   .checkpoint-00000360.partial/   left by a crash; ignored, removed by the next run
//!   .lock                     held by the process that writes here
//! ```
//! A checkpoint is written into a `.partial` folder, every file synced, the folder renamed, its
//! parent synced. State is written last and holds the checksums (CRC-32C) of the rest, so a folder
//! that opens is complete and unaltered. Only `state.json` is ever replaced in a checkpoint that is
//! there, whole: when the hooks of an epoch have been called after it was written.

mod find;
mod format;
mod load;
mod lock;
#[cfg(test)]
mod lost_best;
mod save;
mod tensors_file;
#[cfg(test)]
mod tests;

pub use find::{Which, best, latest, open};
pub use load::TrainingCheckpoint;
pub use lock::FolderLock;
pub(crate) use save::Marks;
pub use save::{CheckpointConfig, Checkpoints, Every};
