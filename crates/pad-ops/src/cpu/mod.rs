//! What all CPU kernels share: vector dispatch, fixed chunking, slices of tensors, matrix products.
//!
//! Kernels work on contiguous `f32` (what a forward keeps may be bf16: [`real`]). Everything else
//! (other dtypes, other devices) takes the operator's reference path, which is made of candle
//! operations.

pub(crate) mod bf16;
pub(crate) mod level;
mod mat;
pub(crate) mod matmul;
pub(crate) mod nary;
pub(crate) mod real;
pub(crate) mod rows;
pub(crate) mod scratch;
pub(crate) mod slices;
pub(crate) mod special;
pub(crate) mod tiled;
#[cfg(target_arch = "x86_64")]
pub(crate) mod transpose;
#[cfg(target_arch = "x86_64")]
mod unpacked;
pub(crate) mod vector;

use candle_core::{DType, Tensor};

/// Whether `tensor` can take the kernels of this module.
pub(crate) fn has_kernel(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32 && !crate::paths::reference_only()
}
