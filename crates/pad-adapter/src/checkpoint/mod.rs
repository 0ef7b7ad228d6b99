//! Checkpoints in and out: safetensors and `.pth`, fitted to a model, and adapter-only files.

mod adapter_file;
mod fit;
mod hub;
mod read;
mod write;

pub use adapter_file::{AdapterFile, save_adapter};
pub use read::Checkpoint;
pub use write::{FloatType, save};
