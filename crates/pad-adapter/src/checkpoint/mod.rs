//! Checkpoints in and out: safetensors and `.pth`, fitted to a model, and adapter-only files;
//! [`Backbone`] opens weights from anywhere.

mod adapter_contents;
mod adapter_file;
mod backbone;
mod blocks;
mod describe;
pub(crate) mod digest;
mod expect_finite;
pub(crate) mod finite;
mod fit;
mod formats;
mod hub;
#[cfg(feature = "hub")]
mod hub_files;
mod identity;
mod index;
mod known_names;
mod merge;
mod peft;
mod peft_patterns;
mod pickle;
mod pickle_objects;
mod pooling;
mod pth;
mod pth_legacy;
mod read;
mod sniff;
mod state_dict;
mod stats;
mod storages;
mod write;

pub use adapter_contents::{AdapterContents, save_adapter};
pub use adapter_file::{AdapterFile, BACKBONE};
pub use backbone::{Backbone, BackboneOptions, Reader};
pub use formats::{Change, ConversionReport, Format};
pub use peft::PeftAdapter;
pub use read::Checkpoint;
pub use stats::InputStats;
pub use write::{FloatType, save};
