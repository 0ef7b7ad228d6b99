//! Detection and segmentation heads for vision transformers in candle, and for any other network
//! with feature maps.
//!
//! Images are (B, C, H, W), normalised, of any size. Class maps are (B, H, W), 255 where nothing is
//! labelled; boxes are left, top, right and bottom edge in pixels, continuous: a pixel is 1 wide.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use pad_adapter::{params::ParamStore, vit::ViTConfig};
//! use pad_heads::segmentation::{Segmentor, SegmentorConfig};
//! use pad_ops::{ImageSize, rng::Key};
//!
//! // A linear probe for three classes on a small ViT.
//! let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
//! let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
//! let segmentor = store.build(|vb| Segmentor::new(&SegmentorConfig::probe(vit, 3), vb))?;
//! let images = Tensor::zeros((1, 3, 40, 48), DType::F32, &Device::Cpu)?;
//! assert_eq!(segmentor.logits(&images)?.dims(), [1, 3, 40, 48]);
//! # Ok::<(), pad_heads::Error>(())
//! ```
//!
//! Where to start: [`segmentation::Segmentor`] and [`detection::Detector`] are the networks, with
//! losses and predictions; [`segmentation::SegmentationModel`] and [`detection::DetectionModel`]
//! add classes, files and stored images.
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
