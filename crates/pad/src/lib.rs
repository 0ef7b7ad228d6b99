#![doc = include_str!("../README.md")]

pub mod assets;
mod error;

pub use candle_core as candle;
pub use candle_nn;
pub use error::{Error, Result};
pub use pad_adapter::{
    Adapter, AdapterActivation, AdapterConfig, AdapterKind, AdapterNorm, AdapterPlacement, Fusion,
    LoraConfig, LoraSize, LoraTarget, LoraTargets, Scale, checkpoint, params, vit,
};
pub use pad_data as data;
pub use pad_heads as heads;
pub use pad_metrics as metrics;
pub use pad_ops::{self as ops, ImageSize, MatmulPrecision, Mode, rng};
pub use pad_ssl as ssl;
pub use pad_train::{self as train, BoxError};
