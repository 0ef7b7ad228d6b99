//! Both branches composed of this crate's operators, which choose their own paths: any device and
//! floating dtype.

use candle_core::{DType, Tensor};

use super::weights::{
    AdapterScale, AdapterWeights, AttentionWeights, LinearWeights, MatmulPrecision, MlpWeights,
    NormWeights,
};
use crate::{Mode, Result, attention_packed, dropout, fuse_patchwise, gelu, layer_norm, linear};

fn norm(x: &Tensor, weights: &NormWeights) -> Result<Tensor> {
    layer_norm(x, &weights.weight, &weights.bias, weights.eps)
}

/// In [`MatmulPrecision::Bf16`] operands and result are bf16, as PyTorch's autocast has them: what
/// stands between two layers moves half the memory. Sums, norms and the residual stream stay as
/// they are.
fn dense(x: &Tensor, weights: &LinearWeights, precision: MatmulPrecision) -> Result<Tensor> {
    let dtype = match precision {
        MatmulPrecision::F32 => x.dtype(),
        MatmulPrecision::Bf16 => DType::BF16,
    };
    let bias = weights.bias.as_ref().map(|bias| bias.to_dtype(dtype)).transpose()?;
    linear(&x.to_dtype(dtype)?, &weights.weight.to_dtype(dtype)?, bias.as_ref())
}

/// [`attention_branch`](crate::attention_branch) operator by operator.
///
/// # Shapes
/// `x` (B, N, D) -> the same.
///
/// # Errors
/// As the operators that it is composed of.
pub fn attention_branch(x: &Tensor, weights: &AttentionWeights) -> Result<Tensor> {
    let qkv = dense(&norm(x, &weights.norm)?, &weights.qkv, weights.precision)?;
    let attended = attention_packed(&qkv, weights.num_heads)?;
    let projected = dense(&attended, &weights.proj, weights.precision)?;
    Ok((x + projected.to_dtype(x.dtype())?)?)
}

/// [`mlp_branch`](crate::mlp_branch) operator by operator.
///
/// # Shapes
/// `x` (B, N, D) -> the same.
///
/// # Errors
/// As the operators that it is composed of.
pub fn mlp_branch(x: &Tensor, weights: &MlpWeights, mode: Mode) -> Result<Tensor> {
    let hidden = gelu(&dense(&norm(x, &weights.norm)?, &weights.fc1, weights.precision)?)?;
    let mlp = dense(&hidden, &weights.fc2, weights.precision)?;
    let y = (x + mlp.to_dtype(x.dtype())?)?;
    match &weights.adapter {
        Some(adapted) => {
            let delta = adapter(x, &mlp, adapted, weights.precision, mode)?;
            Ok((y + delta.to_dtype(x.dtype())?)?)
        }
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
        AdapterScale::Learnable(scale) => Ok(a.broadcast_mul(&scale.to_dtype(a.dtype())?)?),
        AdapterScale::Patchwise { gate, fusion } => {
            fuse_patchwise(&a, mlp, &gate.to_dtype(a.dtype())?, *fusion)
        }
    }
}
