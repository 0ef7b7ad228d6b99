//! Checkpoints in and out: safetensors and `.pth`, fitted to a model, and adapter-only files.

mod adapter_file;
mod describe;
mod fit;
mod formats;
mod hub;
#[cfg(feature = "hub")]
mod hub_files;
mod pickle;
mod pth;
mod read;
mod write;

pub use adapter_file::{AdapterFile, save_adapter};
pub use formats::{Change, ConversionReport, Format};
pub use read::Checkpoint;
pub use write::{FloatType, save};
