//! Both branches composed of this crate's operators, which choose their own paths: any device and floating dtype.

use candle_core::Tensor;

use super::weights::{
    AdapterScale, AdapterWeights, AttentionWeights, LinearWeights, MlpWeights, NormWeights,
};
use crate::{Mode, Result, attention_packed, dropout, fuse_patchwise, gelu, layer_norm, linear};

fn norm(x: &Tensor, weights: &NormWeights) -> Result<Tensor> {
    layer_norm(x, &weights.weight, &weights.bias, weights.eps)
}

fn dense(x: &Tensor, weights: &LinearWeights) -> Result<Tensor> {
    linear(x, &weights.weight, weights.bias.as_ref())
}

/// [`attention_branch`](crate::attention_branch) operator by operator.
///
/// # Shapes
/// `x` (B, N, D) -> the same.
///
/// # Errors
/// Whatever the operators refuse.
pub fn attention_branch(x: &Tensor, weights: &AttentionWeights) -> Result<Tensor> {
    let qkv = dense(&norm(x, &weights.norm)?, &weights.qkv)?;
    Ok((x + dense(&attention_packed(&qkv, weights.num_heads)?, &weights.proj)?)?)
}

/// [`mlp_branch`](crate::mlp_branch) operator by operator.
///
/// # Shapes
/// `x` (B, N, D) -> the same.
///
/// # Errors
/// Whatever the operators refuse.
pub fn mlp_branch(x: &Tensor, weights: &MlpWeights, mode: Mode) -> Result<Tensor> {
    let hidden = gelu(&dense(&norm(x, &weights.norm)?, &weights.fc1)?)?;
    let mlp = dense(&hidden, &weights.fc2)?;
    let y = (x + &mlp)?;
    match &weights.adapter {
        Some(weights) => Ok((y + adapter(x, &mlp, weights, mode)?)?),
        None => Ok(y),
    }
}

fn adapter(x: &Tensor, mlp: &Tensor, weights: &AdapterWeights, mode: Mode) -> Result<Tensor> {
    let x = match &weights.norm {
        Some(weights) => norm(x, weights)?,
        None => x.clone(),
    };
    let bottleneck = dropout(&dense(&x, &weights.down)?.relu()?, weights.dropout, mode)?;
    let a = dense(&bottleneck, &weights.up)?;
    match &weights.scale {
        AdapterScale::Fixed(scale) => Ok((a * *scale)?),
        AdapterScale::Learnable(scale) => Ok(a.broadcast_mul(scale)?),
        AdapterScale::Patchwise { gate, fusion } => fuse_patchwise(&a, mlp, gate, *fusion),
    }
}
