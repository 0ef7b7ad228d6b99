#![doc = include_str!("../README.md")]

pub use pad_adapter::{
    Adapter, AdapterConfig, AdapterNorm, Error, Fusion, Result, Scale, checkpoint, params, vit,
};
pub use pad_data as data;
pub use pad_heads as heads;
pub use pad_ops::{self as ops, ImageSize, Keep, MatmulPrecision, Mode, rng};
pub use pad_ssl as ssl;
pub use pad_train as train;
