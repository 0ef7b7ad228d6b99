//! Both branches composed of this crate's operators, which choose their own paths: any device and
//! floating dtype.

use candle_core::{DType, Tensor};

use super::weights::{
    AdapterScale, AdapterWeights, AttentionWeights, LinearWeights, MatmulPrecision, MlpActivation,
    MlpWeights, NormWeights, ResidualWeights,
};
use crate::{
    Mode, Result, attention_packed, dropout, fuse_patchwise, gelu, gelu_tanh, layer_norm, linear,
    quick_gelu, rope_packed, swiglu,
};

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
    let qkv = match &weights.rope {
        Some(tables) => rope_packed(&qkv, weights.num_heads, tables)?,
        None => qkv,
    };
    let attended = attention_packed(&qkv, weights.num_heads)?;
    let attended = match &weights.inner_norm {
        Some(weights) => norm(&attended.to_dtype(x.dtype())?, weights)?,
        None => attended,
    };
    let projected = dense(&attended, &weights.proj, weights.precision)?;
    Ok((x + residual(&projected.to_dtype(x.dtype())?, &weights.residual)?)?)
}

fn residual(branch: &Tensor, weights: &ResidualWeights) -> Result<Tensor> {
    let branch = match &weights.gamma {
        Some(gamma) => branch.broadcast_mul(gamma)?,
        None => branch.clone(),
    };
    match &weights.factors {
        Some(factors) => {
            let factors = factors.detach().reshape((factors.elem_count(), 1, 1))?;
            Ok(branch.broadcast_mul(&factors)?)
        }
        None => Ok(branch),
    }
}

/// [`mlp_branch`](crate::mlp_branch) operator by operator.
///
/// # Shapes
/// `x` (B, N, D) -> the same.
///
/// # Errors
/// As the operators that it is composed of.
pub fn mlp_branch(x: &Tensor, weights: &MlpWeights, mode: Mode) -> Result<Tensor> {
    let hidden = dense(&norm(x, &weights.norm)?, &weights.fc1, weights.precision)?;
    let hidden = match weights.activation {
        MlpActivation::Gelu => gelu(&hidden)?,
        MlpActivation::GeluTanh => gelu_tanh(&hidden)?,
        MlpActivation::QuickGelu => quick_gelu(&hidden)?,
        MlpActivation::SwiGlu => swiglu(&hidden)?,
    };
    let hidden = match &weights.inner_norm {
        Some(weights) => norm(&hidden.to_dtype(x.dtype())?, weights)?,
        None => hidden,
    };
    let mlp = dense(&hidden, &weights.fc2, weights.precision)?;
    let y = (x + residual(&mlp.to_dtype(x.dtype())?, &weights.residual)?)?;
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
