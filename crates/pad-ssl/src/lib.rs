//! Self-supervised pre-training of vision transformers on infrared images: MAE with patchwise-scale adapters (PAD).
//!
//! - [`Mae`]: the masked autoencoder, in the four steps of its paper (mask, encode, decode, compare).
//! - [`Mask`]: which patches are removed, drawn from keys or from given noise.
//! - [`Paradigm`]: which weights train, and how: PAD, full continual pre-training, from scratch.
//! - [`Pretraining`]: an objective as a training task, and its loss on held-out images.
//! - [`Objective`]: what any self-supervised objective over a masked encoder implements.

mod error;
mod mae;
mod mask;
mod objective;
mod paradigm;
mod pretraining;

pub use error::{Error, Result};
pub use mae::{Mae, MaeConfig, patchify, unpatchify};
pub use mask::Mask;
pub use objective::Objective;
pub use paradigm::{Paradigm, Rate};
pub use pretraining::{HeldOutLoss, ImageBatch, LoaderBatches, Pretraining};
