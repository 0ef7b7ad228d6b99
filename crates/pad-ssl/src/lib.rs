//! Self-supervised pre-training of vision transformers on infrared images: MAE with patchwise-scale
//! adapters (PAD).
//!
//! | | |
//! |---|---|
//! | [`Objective`] | an objective: a draw of random decisions and a loss. [`Mae`], [`Milan`], [`SimMim`] and [`FeatureTarget`] implement it |
//! | [`ObjectiveKind`], [`Network`] | objectives by name, and a network of any of them |
//! | [`Mask`], [`Masking`], [`MaskedBy`] | which patches are removed, and how they are chosen |
//! | [`Paradigm`] | which weights train: PAD, all of them, from scratch, the decoder alone |
//! | [`PretrainingModel`] | network and parameters at the start of a run, and the files it leaves |
//! | [`Mae::open`], [`open_encoder`] | models from files of a run or of another program |
//! | [`Pretraining`], [`HeldOutLoss`] | an objective as a task for pad-train, and its loss on held-out images |
//! | [`Teacher`], [`TeacherModel`], [`ClipTeacher`] | frozen encoders to learn from |
//! | [`StepMemory`] | the memory of a run before it starts |
//! | [`pictures`] | reconstructions, patchwise scales, crops and masks as pictures |
//! | [`embed`], [`probe`] | features of images, and what an encoder is worth: nearest neighbours, a linear layer, fine-tuning |

mod cosine;
pub mod embed;
mod error;
mod feature_loss;
mod feature_target;
pub mod files;
mod held_out;
mod in_order;
mod kind;
mod mae;
mod mae_config;
mod mask;
mod masked_by;
mod masked_encoder;
mod masking;
mod memory;
mod milan;
mod model;
mod names;
mod network;
mod objective;
mod open;
mod paradigm;
pub mod pictures;
mod pool;
mod pretraining;
pub mod probe;
mod renormalize;
mod simmim;
mod stored;
mod student;
mod teacher;
mod teacher_file;

pub use error::{Error, Result};
pub use feature_loss::FeatureLoss;
pub use feature_target::{FeatureDraw, FeatureTarget, FeatureTargetConfig};
pub use files::SaveOptions;
pub use held_out::HeldOutLoss;
pub use kind::ObjectiveKind;
pub use mae::Mae;
pub use mae_config::MaeConfig;
pub use mask::Mask;
pub use masked_by::MaskedBy;
pub use masking::Masking;
pub use memory::{MemorySettings, StepMemory};
pub use milan::{ClipConfig, ClipTeacher, Milan, MilanConfig, MilanDraw};
pub use model::{PretrainingConfig, PretrainingModel};
pub use network::Network;
pub use objective::{AnyObjective, Objective};
pub use open::{OpenOptions, OpenedEncoder, OpenedMae, open_encoder};
pub use pad_adapter::vit::{patchify, unpatchify};
pub use paradigm::{Paradigm, ParadigmKind, parameters};
pub use pool::Pool;
pub use pretraining::Pretraining;
pub use simmim::{SimMim, SimMimConfig};
pub use stored::{DecoderSource, StoredMae, read_backbone};
pub use student::NetworkConfig;
pub use teacher::{Teacher, TeacherFn, TeacherModel, TeacherTokens};
pub use teacher_file::TeacherOptions;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
