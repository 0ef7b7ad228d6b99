//! Both half blocks on devices: each one operator, over the kernels of `kernel.cu` and `attention`'s,
//! and the device's own matrix products. Low-rank adapters are merged into their layers there, once
//! a step; those that drop values are composed.

mod adapter;
mod attention;
mod kernels;
mod layer;
mod mlp;

use candle_core::Tensor;

use super::precision::Keep;
use super::weights::{AttentionWeights, MlpActivation, MlpWeights};
use crate::{Mode, Result, attention::device::fits, gpu};

/// [`attention_branch`](crate::attention_branch); `None` if the kernels do not take these operands.
pub(super) fn attention_branch(
    op: &'static str,
    x: &Tensor,
    weights: &AttentionWeights,
    keep: Keep,
) -> Result<Option<Tensor>> {
    let factors = weights.residual.factors.as_ref();
    let operands = std::iter::once(x).chain(weights.tensors()).chain(factors);
    let plain = weights.rope.is_none() && weights.inner_norm.is_none() && weights.skip;
    if !plain || !gpu::has_kernel(operands) || !fits(&attention::sizes(x, weights.num_heads)?) {
        return Ok(None);
    }
    let Some(weights) = weights.merged()? else { return Ok(None) };
    let (x, weights) = (x.contiguous()?, weights.contiguous()?);
    Ok(Some(attention::apply(op, &x, &weights, keep)?))
}

/// [`mlp_branch`](crate::mlp_branch); `None` if the kernels do not take these operands.
pub(super) fn mlp_branch(
    op: &'static str,
    x: &Tensor,
    weights: &MlpWeights,
    mode: Mode,
    keep: Keep,
) -> Result<Option<Tensor>> {
    let plain =
        weights.activation == MlpActivation::Gelu && weights.inner_norm.is_none() && weights.skip;
    let factors = weights.residual.factors.as_ref();
    let operands = std::iter::once(x).chain(weights.tensors()).chain(factors);
    if !plain || !gpu::has_kernel(operands) {
        return Ok(None);
    }
    let Some(weights) = weights.merged()? else { return Ok(None) };
    let (x, weights) = (x.contiguous()?, weights.contiguous()?);
    Ok(Some(mlp::apply(op, &x, &weights, mode, keep)?))
}
