//! Layers with the names, constructors and parameter names of `candle_nn`, over the operators of
//! this crate: a model whose `use candle_nn::{LayerNorm, Linear, layer_norm, linear}` becomes
//! `use pad_ops::nn::{..}` reads the same files and trains, frozen weights cost no work, and
//! activations in half precision go with weights in `f32`.
//!
//! ```
//! use candle_core::{DType, Device, Module, Tensor};
//! use candle_nn::{VarBuilder, VarMap};
//! use pad_ops::nn::{Linear, layer_norm, linear};
//!
//! let vars = VarMap::new();
//! let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
//! let (first, norm) = (linear(4, 3, vb.pp("first"))?, layer_norm(3, 1e-5, vb.pp("norm"))?);
//! let x = Tensor::ones((2, 4), DType::F32, &Device::Cpu)?;
//! let y = norm.forward(&first.forward(&x)?)?;
//! let grads = y.sqr()?.sum_all()?.backward()?;
//! assert_eq!(vars.all_vars().len(), 4);
//! assert!(vars.all_vars().iter().all(|var| grads.get(var).is_some()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod conv;
mod dropout;
mod linear;
mod norm;

pub use conv::{Conv2d, conv2d, conv2d_no_bias};
pub use dropout::Dropout;
pub use linear::{Linear, linear, linear_b, linear_no_bias};
pub use norm::{LayerNorm, layer_norm, layer_norm_no_bias};
