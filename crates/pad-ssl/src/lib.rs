//! Self-supervised pre-training of vision transformers on infrared images: MAE with patchwise-scale adapters (PAD).
//!
//! - [`Mae`]: the masked autoencoder, in the four steps of its paper (mask, encode, decode, compare).
//! - [`Mask`]: which patches are removed, drawn from keys or from given noise.
//! - [`Paradigm`]: which weights train, and how: PAD, full continual pre-training, from scratch.
//! - [`Pretraining`]: an objective as a training task, and its loss on held-out images.
//! - [`Objective`]: what any self-supervised objective over a masked encoder implements; besides [`Mae`] there are
//!   [`Milan`], [`SimMim`] and [`FeatureTarget`].
//! - [`Masking`]: how patches are chosen, for any of them.
//! - [`Teacher`]: frozen encoders to learn from, CLIP's image tower ([`ClipTeacher`]) among them.
//! - [`probe`]: what frozen features are worth: nearest neighbours and a linear layer.

mod error;
mod feature_target;
mod mae;
mod mask;
mod masked_encoder;
mod masking;
mod memory;
mod milan;
mod objective;
mod paradigm;
mod pretraining;
pub mod probe;
mod simmim;
mod teacher;

pub use error::{Error, Result};
pub use feature_target::{FeatureDraw, FeatureLoss, FeatureTarget, FeatureTargetConfig};
pub use mae::{Mae, MaeConfig};
pub use mask::Mask;
pub use masking::{MaskedBy, Masking};
pub use memory::StepMemory;
pub use milan::{ClipConfig, ClipTeacher, Milan, MilanConfig, MilanDraw};
pub use objective::{AnyObjective, Objective};
pub use pad_adapter::vit::{patchify, unpatchify};
pub use paradigm::Paradigm;
pub use pretraining::{HeldOutLoss, Pretraining};
pub use simmim::{SimMim, SimMimConfig};
pub use teacher::{Teacher, TeacherFn, TeacherTokens};

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
