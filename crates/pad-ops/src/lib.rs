//! Differentiable operators of vision transformers for candle: correct gradients first, fast on the
//! CPU.
//!
//! Each is a function of tensors, as candle's own, and takes part in `backward`: tokens are (B, N,
//! D), images and maps (B, C, H, W). [`nn`] has the layers of `candle_nn` over them, under the same
//! names; [`Mode`] and [`rng`] say whether dropout acts and what it draws; a ViT made of them, with
//! adapters, is in the crate `pad-ir-adapter`.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! let logits = Var::new(&[[0_f32, 0.0]], &Device::Cpu)?;
//! let shares = pad_ops::softmax(&logits)?;
//! assert_eq!(shares.to_vec2::<f32>()?, [[0.5, 0.5]]);
//! // The gradient of the first share: s (1 - s), and as much taken from the other.
//! let gradients = shares.narrow(1, 0, 1)?.sum_all()?.backward()?;
//! assert_eq!(gradients.get(&logits).unwrap().to_vec2::<f32>()?, [[0.25, -0.25]]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | operator | gradient to | saved for the backward | fast path | reference |
//! |---|---|---|---|---|
//! | [`layer_norm`] | x, weight, bias | operands | CPU f32 | [`reference::layer_norm`] |
//! | [`softmax`] | x | result | CPU f32 | [`reference::softmax`] |
//! | [`linear`] | x, weight, bias, each only if it tracks something | operands | CPU f32; no frozen gradient on any device | [`reference::linear`] |
//! | [`linear_with`] (low-rank adapters beside a layer) | x, every weight | operands | composed | inside the branches |
//! | [`low_rank_update`] | weight, factors, each only if it tracks something | factors | CPU f32 | [`reference::low_rank_update`] |
//! | [`gelu`] | x | operand | CPU f32 | [`reference::gelu`] |
//! | [`gelu_tanh`], [`quick_gelu`] | x | operand | CPU f32 | [`reference::gelu_tanh`], [`reference::quick_gelu`] |
//! | [`rms_norm`] | x, weight | operands | CPU f32 | [`reference::rms_norm`] |
//! | [`rope`], [`rope_packed`] | x | tables | CPU f32 | [`reference::rope`], [`reference::rope_packed`] |
//! | [`swiglu`] | x | operand | CPU f32 | [`reference::swiglu`] |
//! | [`dropout`], [`drop_path`] | x | nothing (drawn again from the key) | CPU f32 | [`reference::dropout`] |
//! | [`attention`], [`attention_with`] | q, k, v, bias | operands | CPU f32, f16, bf16 | [`reference::attention_with`] |
//! | [`attention_packed`] | qkv | operand | CPU f32 | [`reference::attention_packed`] |
//! | [`attention_packed_biased`] | qkv, bias | operands | CPU f32 | [`reference::attention_packed_biased`] |
//! | [`attention_branch`] | x, every weight | x, qkv (recomputed on demand) | CPU f32 | [`reference::attention_branch`] |
//! | [`mlp_branch`] | x, every weight | x, hidden layer (recomputed on demand) | CPU f32 | [`reference::mlp_branch`] |
//! | [`fuse_patchwise`] | adapter, mlp, gate | operands | CPU f32 | [`reference::fuse_patchwise`] |
//! | [`gather_tokens`] | x | indices | CPU f32 | [`reference::gather_tokens`] |
//! | [`masked_mse`] | pred | operands | CPU f32 | [`reference::masked_mse`] |
//! | [`conv2d`], [`conv2d_with`] | x, weight, bias, each only if it tracks something | operands | CPU f32 | [`reference::conv2d_with`] |
//! | [`conv_transpose2x2`] | x, weight, bias, each only if it tracks something | operands | CPU f32 | [`reference::conv_transpose2x2`] |
//! | [`max_pool2d`] | x | operand | CPU f32 | [`reference::max_pool2d`] |
//! | [`adaptive_avg_pool2d`] | x | nothing | CPU f32 | [`reference::adaptive_avg_pool2d`] |
//! | [`resize_bilinear`] | x | nothing | CPU f32 | [`reference::resize_bilinear`] |
//! | [`batch_norm2d`], [`batch_norm2d_with`], [`batch_norm2d_synced`] | x, weight, bias | operands, two numbers a channel | CPU f32 | [`reference::batch_norm2d`] |
//! | [`roi_align`] | maps | weights of rows and columns | CPU f32 | [`reference::roi_align`] |
//! | [`window_partition`], [`window_unpartition`] | x | nothing | CPU f32 | [`reference::window_partition`], [`reference::window_unpartition`] |
//! | [`nms`], [`batched_nms`], [`box_iou`] (of `pad-metrics`) | none | nothing | CPU f32 | in the tests |
//! | [`channel_norm2d`] | x, weight, bias | operands, two numbers a pixel | CPU f32 | [`reference::channel_norm2d`] |
//! | [`cross_entropy2d`] | logits | operand, a label and a weight a pixel | CPU f32 | [`reference::cross_entropy2d`] |
//!
//! # Why not candle's own
//! `candle_nn::LayerNorm` (contiguous input), `ops::softmax_last_dim`, rotary embeddings and `sdpa`
//! are custom operations without a backward: they cut the graph *silently*. Through a residual
//! connection the gradient that arrives is wrong rather than absent. Everything here is checked
//! against finite differences through a residual.
//!
//! # What is promised
//! The same bits for any number of threads. An operand that tracks nothing (a frozen weight) gets
//! no gradient and costs no work. Inputs that the fast path does not take (other dtypes, other
//! devices) take the reference. Operators with weights ([`linear`], [`layer_norm`], the branches and
//! others that `tests/contract.rs` lists) take half precision with weights in f32, and the other way
//! round: the result has the dtype of the first operand, each gradient that of its own. A batch without
//! images, tokens or channels gives an empty result, with gradients of zeros, except where the
//! result would be 0 / 0 ([`batch_norm2d`], [`masked_mse`]): an error. Constants that mean nothing
//! (a negative or NaN `eps`, a probability above 1) are errors that name the operator, as wrong
//! shapes and dtypes are. On CUDA devices (feature `cuda`) [`layer_norm`],
//! [`softmax`], [`linear`]'s bias, [`gelu`], [`fuse_patchwise`] and [`roi_align`] run kernels of
//! ours, in f32 and bf16; the others, and other devices, take the reference. `PAD_CPU=portable` in
//! the environment turns vector instructions off.

mod adamw;
mod adaptive_avg_pool2d;
mod attention;
mod batch_norm2d;
mod boxes;
mod branch;
mod channel_norm2d;
pub mod check;
mod conv2d;
mod conv_transpose2x2;
mod cpu;
mod cross_entropy2d;
pub mod device;
mod dropout;
mod empty;
mod error;
pub mod fs;
mod fuse_patchwise;
mod gather_tokens;
mod gelu;
mod gpu;
mod layer_norm;
mod levels;
mod linear;
mod low_rank;
pub mod machine;
mod masked_mse;
mod max_pool2d;
mod mode;
pub mod nn;
mod paths;
mod planes;
mod products;
mod resize_bilinear;
mod rms_norm;
pub mod rng;
mod roi_align;
mod rope;
mod softmax;
mod swiglu;
pub mod text;
mod threads;
mod windows;

pub use adamw::{
    AdamWStep, AdamWSteps, AdamWUpdate, ComingNorms, DeviceNorms, StepNorms, adamw_step,
    sums_of_squares,
};
pub use adaptive_avg_pool2d::adaptive_avg_pool2d;
pub use attention::{
    AttentionBias, AttentionOptions, attention, attention_packed, attention_packed_biased,
    attention_with,
};
pub use batch_norm2d::{Moments, SumOver, batch_norm2d, batch_norm2d_synced, batch_norm2d_with};
pub use boxes::{batched_nms, box_iou, nms};
pub use branch::{
    AdapterScale, AdapterWeights, AttentionWeights, Keep, LinearWeights, LowRankWeights,
    MatmulPrecision, MlpActivation, MlpWeights, NormWeights, ResidualWeights, attention_branch,
    linear_with, mlp_branch,
};
pub use channel_norm2d::channel_norm2d;
pub use conv_transpose2x2::conv_transpose2x2;
pub use conv2d::{Conv2dOptions, conv2d, conv2d_with};
pub use cpu::{
    level::{check_cpu_level, cpu_level},
    nary::backward,
    scratch::release_buffers,
};
pub use cross_entropy2d::{CrossEntropy, HardPixels, PixelMean, cross_entropy2d};
pub use dropout::{drop_path, drop_path_factors, dropout};
pub use error::{Error, Result};
pub use fuse_patchwise::{Fusion, fuse_patchwise, patchwise_scales};
pub use gather_tokens::gather_tokens;
pub use gelu::{gelu, gelu_tanh, quick_gelu};
pub use layer_norm::layer_norm;
pub use levels::look_up_levels;
pub use linear::linear;
pub use low_rank::{LowRankUpdate, low_rank_update};
pub use masked_mse::{masked_mse, normalize_patches};
pub use max_pool2d::max_pool2d;
pub use mode::Mode;
pub use pad_metrics::ImageSize;
pub use resize_bilinear::resize_bilinear;
pub use rms_norm::rms_norm;
pub use roi_align::{ImageBox, RoiAlign, roi_align};
pub use rope::{
    AxialRope, RopeAxes, RopeCoordinates, RopePairs, RopeSpan, RopeTables, rope, rope_packed,
};
pub use softmax::softmax;
pub use swiglu::swiglu;
pub use threads::join_workers;
pub use windows::{Windows, window_partition, window_unpartition};

/// The same operators as compositions of candle operations: the oracle of the tests, and the path
/// of devices and dtypes without a kernel.
pub mod reference {
    pub use crate::{
        adamw::adamw_step_reference as adamw_step,
        adaptive_avg_pool2d::adaptive_avg_pool2d_reference as adaptive_avg_pool2d,
        attention::{
            attention_packed_biased_reference as attention_packed_biased,
            attention_packed_reference as attention_packed, attention_reference as attention,
            attention_with_reference as attention_with,
        },
        batch_norm2d::{
            batch_norm2d_reference as batch_norm2d,
            batch_norm2d_with_reference as batch_norm2d_with,
        },
        branch::{
            attention_branch_reference as attention_branch, mlp_branch_reference as mlp_branch,
        },
        channel_norm2d::channel_norm2d_reference as channel_norm2d,
        conv_transpose2x2::conv_transpose2x2_reference as conv_transpose2x2,
        conv2d::{conv2d_reference as conv2d, conv2d_with_reference as conv2d_with},
        cross_entropy2d::cross_entropy2d_reference as cross_entropy2d,
        dropout::dropout_reference as dropout,
        fuse_patchwise::fuse_patchwise_reference as fuse_patchwise,
        gather_tokens::gather_tokens_reference as gather_tokens,
        gelu::{
            gelu_reference as gelu, gelu_tanh_reference as gelu_tanh,
            quick_gelu_reference as quick_gelu,
        },
        layer_norm::layer_norm_reference as layer_norm,
        linear::linear_reference as linear,
        low_rank::low_rank_update_reference as low_rank_update,
        masked_mse::masked_mse_reference as masked_mse,
        max_pool2d::max_pool2d_reference as max_pool2d,
        paths::only,
        resize_bilinear::resize_bilinear_reference as resize_bilinear,
        rms_norm::rms_norm_reference as rms_norm,
        roi_align::roi_align_reference as roi_align,
        rope::{rope_packed_reference as rope_packed, rope_reference as rope},
        softmax::softmax_reference as softmax,
        swiglu::swiglu_reference as swiglu,
        windows::{
            window_partition_reference as window_partition,
            window_unpartition_reference as window_unpartition,
        },
    };
}

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
