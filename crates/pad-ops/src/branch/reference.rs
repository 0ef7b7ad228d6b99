//! Both branches composed of this crate's operators, which choose their own paths: any device and floating dtype.

use candle_core::{DType, Tensor};

use super::weights::{
    AdapterScale, AdapterWeights, AttentionWeights, LinearWeights, MatmulPrecision, MlpWeights,
    NormWeights,
};
use crate::{Mode, Result, attention_packed, dropout, fuse_patchwise, gelu, layer_norm, linear};

fn norm(x: &Tensor, weights: &NormWeights) -> Result<Tensor> {
    layer_norm(x, &weights.weight, &weights.bias, weights.eps)
}

fn dense(x: &Tensor, weights: &LinearWeights, precision: MatmulPrecision) -> Result<Tensor> {
    let round = |t: &Tensor| -> Result<Tensor> {
        match precision {
            MatmulPrecision::F32 => Ok(t.clone()),
            MatmulPrecision::Bf16 => Ok(t.to_dtype(DType::BF16)?.to_dtype(t.dtype())?),
        }
    };
    linear(&round(x)?, &round(&weights.weight)?, weights.bias.as_ref())
}

/// [`attention_branch`](crate::attention_branch) operator by operator.
///
/// # Shapes
/// `x` (B, N, D) -> the same.
///
/// # Errors
/// Whatever the operators refuse.
pub fn attention_branch(x: &Tensor, weights: &AttentionWeights) -> Result<Tensor> {
    let qkv = dense(&norm(x, &weights.norm)?, &weights.qkv, weights.precision)?;
    Ok((x + dense(&attention_packed(&qkv, weights.num_heads)?, &weights.proj, weights.precision)?)?)
}

/// [`mlp_branch`](crate::mlp_branch) operator by operator.
///
/// # Shapes
/// `x` (B, N, D) -> the same.
///
/// # Errors
/// Whatever the operators refuse.
pub fn mlp_branch(x: &Tensor, weights: &MlpWeights, mode: Mode) -> Result<Tensor> {
    let hidden = gelu(&dense(&norm(x, &weights.norm)?, &weights.fc1, weights.precision)?)?;
    let mlp = dense(&hidden, &weights.fc2, weights.precision)?;
    let y = (x + &mlp)?;
    match &weights.adapter {
        Some(adapted) => Ok((y + adapter(x, &mlp, adapted, weights.precision, mode)?)?),
        None => Ok(y),
    }
}

fn adapter(
    x: &Tensor,
    mlp: &Tensor,
    weights: &AdapterWeights,
    precision: MatmulPrecision,
    mode: Mode,
) -> Result<Tensor> {
    let x = match &weights.norm {
        Some(weights) => norm(x, weights)?,
        None => x.clone(),
    };
    let bottleneck = dropout(&dense(&x, &weights.down, precision)?.relu()?, weights.dropout, mode)?;
    let a = dense(&bottleneck, &weights.up, precision)?;
    match &weights.scale {
        AdapterScale::Fixed(scale) => Ok((a * *scale)?),
        AdapterScale::Learnable(scale) => Ok(a.broadcast_mul(scale)?),
        AdapterScale::Patchwise { gate, fusion } => fuse_patchwise(&a, mlp, gate, *fusion),
    }
}
