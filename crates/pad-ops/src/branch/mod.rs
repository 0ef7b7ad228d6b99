//! The two halves of a pre-norm transformer block, each as one operator: `x + g attention(LN(x))`
//! and `x + s A(x) + g MLP(LN(x))`, `A` being PAD's adapter, `g` layer scale and drop path. Rotary
//! positions, the kinds of GELU, SwiGLU, norms inside attention and MLP, missing biases and low-rank
//! adapters beside the layers are options of the weights.
//!
//! One operator instead of ten knows what a composition cannot: a frozen weight's input need not be
//! kept, norms and GELUs are cheaper computed again than kept, residuals and biases are added in
//! passes that run anyway, and no gradient is summed into a tensor of zeros. Saved for the
//! backward: `x`, the packed queries, keys and values; `x`, the hidden layer before GELU, and with
//! an adapter its bottleneck and the MLP's output (those of a layer's width times three or four in
//! bf16 where the products run in it). With [`Keep::Nothing`] only `x`: the rest is computed again
//! (activation checkpointing, Chen et al., 2016).

mod activation;
mod adapter;
mod attention;
mod dense;
mod device;
mod layer_weights;
mod low_rank;
mod low_rank_weights;
mod mlp;
mod precision;
mod recompute;
mod reference;
mod residual;
mod saved;
mod weights;

use candle_core::Tensor;
use half::bf16;

pub use layer_weights::{LinearWeights, NormWeights};
pub use low_rank_weights::LowRankWeights;
pub use precision::{Keep, MatmulPrecision};
pub use reference::{
    attention_branch as attention_branch_reference, linear_with, mlp_branch as mlp_branch_reference,
};
pub use weights::{
    AdapterScale, AdapterWeights, AttentionWeights, MlpActivation, MlpWeights, ResidualWeights,
};

use crate::{Mode, Result, check, cpu::has_kernel};

/// Computes `x + g proj(attention(rope(qkv(LN(x)))))`: rotary positions, a norm in front of `proj`
/// and the factor `g` (layer scale, drop path) where the weights have them; without `x` where they
/// say so.
///
/// # Shapes
/// `x` (B, N, D) -> the same. One floating dtype.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), `DType`, `Device` or `Value` naming the weight that does
/// not fit.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{AttentionWeights, Keep, LinearWeights, NormWeights, attention_branch};
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// let norm = NormWeights { weight: (zeros(&[2])? + 1.0)?, bias: zeros(&[2])?, eps: 1e-6 };
/// let qkv = LinearWeights::new(zeros(&[6, 2])?, None);
/// let bias = Tensor::new(&[1_f32, -1.0], &Device::Cpu)?;
/// let proj = LinearWeights::new(zeros(&[2, 2])?, Some(bias));
/// let weights = AttentionWeights::new(norm, qkv, proj, 1);
/// // Without queries, keys and values the branch adds the projection's bias.
/// let x = Tensor::new(&[[[3_f32, 4.0], [5.0, 6.0]]], &Device::Cpu)?;
/// let y = attention_branch(&x, &weights, Keep::Activations)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[4.0, 3.0], [6.0, 5.0]]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn attention_branch(x: &Tensor, weights: &AttentionWeights, keep: Keep) -> Result<Tensor> {
    const OP: &str = "attention_branch";
    check::expect_rank(OP, "x", x, 3, "(B, N, D)")?;
    check::expect_float(OP, "x", x)?;
    weights.check(OP, x)?;
    if let Some(y) = device::attention_branch(OP, x, weights, keep)? {
        return Ok(y);
    }
    if !has_kernel(x) || x.elem_count() == 0 {
        let branch = weights.clone();
        let compose = move |x: &Tensor| reference::attention_branch(x, &branch);
        return recompute::composed(OP, x, &weights.tensors(), keep, compose);
    }
    let (x, weights) = (x.contiguous()?, weights.contiguous()?);
    match weights.precision {
        MatmulPrecision::F32 => attention::apply::<f32>(OP, &x, &weights, keep),
        MatmulPrecision::Bf16 => attention::apply::<bf16>(OP, &x, &weights, keep),
    }
}

/// Computes `x + g MLP(LN(x))`, with an adapter `x + s A(x) + g MLP(LN(x))`; `MLP` is
/// `fc2(activation(fc1(..)))`, with a norm in front of `fc2` where the weights have one. The
/// adapter's gate sees the MLP's result without `g` (layer scale, drop path).
///
/// # Shapes
/// `x` (B, N, D) -> the same. One floating dtype.
///
/// # Errors
/// As [`attention_branch`].
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{Keep, LinearWeights, MlpWeights, Mode, NormWeights, mlp_branch};
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// let norm = NormWeights { weight: (zeros(&[2])? + 1.0)?, bias: zeros(&[2])?, eps: 1e-6 };
/// let fc1 = LinearWeights::new(zeros(&[4, 2])?, None);
/// let bias = Tensor::new(&[1_f32, -1.0], &Device::Cpu)?;
/// let fc2 = LinearWeights::new(zeros(&[2, 4])?, Some(bias));
/// let x = Tensor::new(&[[[3_f32, 4.0]]], &Device::Cpu)?;
/// let y = mlp_branch(&x, &MlpWeights::new(norm, fc1, fc2), Mode::Eval, Keep::Activations)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[4.0, 3.0]]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn mlp_branch(x: &Tensor, weights: &MlpWeights, mode: Mode, keep: Keep) -> Result<Tensor> {
    const OP: &str = "mlp_branch";
    check::expect_rank(OP, "x", x, 3, "(B, N, D)")?;
    check::expect_float(OP, "x", x)?;
    weights.check(OP, x)?;
    if let Some(y) = device::mlp_branch(OP, x, weights, mode, keep)? {
        return Ok(y);
    }
    if !has_kernel(x) || x.elem_count() == 0 {
        let branch = weights.clone();
        let compose = move |x: &Tensor| reference::mlp_branch(x, &branch, mode);
        return recompute::composed(OP, x, &weights.tensors(), keep, compose);
    }
    let (x, weights) = (x.contiguous()?, weights.contiguous()?);
    match weights.precision {
        MatmulPrecision::F32 => mlp::apply::<f32>(OP, &x, &weights, mode, keep),
        MatmulPrecision::Bf16 => mlp::apply::<bf16>(OP, &x, &weights, mode, keep),
    }
}
