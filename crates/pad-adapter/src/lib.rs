//! Patchwise-scale adapters for vision transformers in candle, and the ViT that hosts them.
//!
//! An [`Adapter`] stands parallel to a block's MLP, `x + s * A(x) + MLP(LN(x))`, and brings about
//! 1% of the weights; the rest stays frozen. It fits any transformer: [`Adapter::delta`] takes the
//! residual stream after attention and the MLP's raw output and returns what to add. Tokens are
//! (B, N, D), class token first, or of any leading axes; images (B, C, H, W), normalised with the
//! [statistics](checkpoint::InputStats) that the weights were trained with.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use pad_adapter::{AdapterConfig, params::{ParamStore, Role}, vit::{ViT, ViTConfig}};
//! use pad_ops::{Mode, rng::Key};
//!
//! // A small ViT whose adapters train; `ParamStore::from_checkpoint` starts it on weights.
//! let adapter = Some(AdapterConfig::default());
//! let config = ViTConfig { adapter, ..ViTConfig::new(16, 64, 2, 1) };
//! let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_trained(Role::is_adapter);
//! let vit = store.build(|vb| ViT::new(&config, vb))?;
//! assert_eq!(store.planned().len(), 2 * 7); // variables for an optimiser, 7 in each block
//!
//! let images = Tensor::zeros((1, 3, 64, 96), DType::F32, &Device::Cpu)?;
//! assert_eq!(vit.forward(&images, Mode::Eval)?.dims(), [1, 1 + 4 * 6, 64]);
//! # Ok::<(), pad_adapter::Error>(())
//! ```
//!
//! In a network of your own: [`Adapter`], then [`params::ParamStore`], then
//! [`checkpoint::save_adapter`]. With published weights: [`checkpoint::Backbone::open`], then
//! [`vit::ViT`].
//!
//! - [`AdapterConfig`], [`Scale`], [`Fusion`]: the variants that the paper compares, and its
//!   default.
//! - [`AdapterKind`], [`LoraConfig`]: what it is compared with, under the same roles, files and
//!   digests: LoRA, rsLoRA and DoRA, AdaptFormer's, Houlsby's and Pfeiffer's bottlenecks.
//! - [`vit`]: a ViT with presets, any image size, features of chosen blocks, scales for pictures.
//! - [`params`]: a `VarBuilder` backend with strict loading, plans of what trains, counts, and
//!   several named adapters in one model.
//! - [`checkpoint`]: weights from files, folders, the hub and runs; safetensors out; adapter-only
//!   files, of this ViT or of your own model, that know their backbone.
//!
//! Models of candle-transformers use candle's layer norm and softmax, which have no backward and
//! silently cut the graph: adapters inside them get *wrong* gradients. Use them for inference
//! only, or replace those layers by [`vit::layers`] and [`pad_ops::attention_packed`]; the example
//! `adapter_in_your_vit` shows both.

mod adapter;
pub mod checkpoint;
mod error;
mod kind;
mod lora;
pub mod params;
mod placement;
mod scale;
pub mod vit;

pub use adapter::{Adapter, AdapterConfig, AdapterNorm};
pub use error::{Error, Result};
pub use kind::AdapterKind;
pub use lora::{LoraConfig, LoraSize, LoraTarget, LoraTargets};
pub use placement::{AdapterActivation, AdapterPlacement};
pub use scale::{Fusion, Scale};

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
