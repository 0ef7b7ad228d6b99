//! Detection and segmentation heads for vision transformers in candle.
//!
//! - [`backbone`]: feature maps of any ViT: the downstream forms of the original (relative
//!   positions, learned position table, attention in windows) or a plain one, and the pyramids over
//!   them.
//! - [`detection`]: proposals, box and mask heads, losses, training; COCO evaluation.
//! - [`layers`]: the convolutions and norms of heads.
//! - [`segmentation`]: UPerNet, FCN and linear heads, losses, inference in windows, training,
//!   metrics.
//!
//! What both tasks share: [`TaskModel`] is a network with its classes and parameters, which opens
//! and saves files; [`Start`] and [`Trained`] say how a model starts and what trains,
//! [`parameters`] is what an optimiser gets, [`Evaluation`] measures between epochs.

pub mod backbone;
pub mod detection;
mod error;
mod evaluation;
pub mod layers;
mod limits;
mod macs;
mod model;
mod plan;
pub mod segmentation;
mod speed;
mod start;
mod titles;
mod unreadable;

pub use error::{Error, Result};
pub use evaluation::{Best, Evaluation, EvaluationReport, Evaluator};
pub use model::{NetworkTask, TaskModel, TaskNetwork};
pub use plan::{Trained, parameters};
pub use speed::Speed;
pub use start::Start;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
