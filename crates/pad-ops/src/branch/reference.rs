//! Both branches composed of this crate's operators, which choose their own paths: any device and
//! floating dtype.

use candle_core::{D, DType, Tensor};

use super::{
    layer_weights::{LinearWeights, NormWeights},
    low_rank_weights,
    precision::MatmulPrecision,
    weights::{
        AdapterScale, AdapterWeights, AttentionWeights, MlpActivation, MlpWeights, ResidualWeights,
    },
};
use crate::{
    Mode, Result, attention_packed, check, dropout, fuse_patchwise, gelu, gelu_tanh, layer_norm,
    linear, quick_gelu, rope_packed, swiglu,
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
    composed(&x.to_dtype(dtype)?, weights, bias.as_ref())
}

/// Computes a linear layer with its low-rank adapters: `f (W x + s B A dropout(x)) + bias`, with
/// `f` and the products on the rows that each adapts.
///
/// # Shapes
/// `x` (.., I) -> (.., O). One floating dtype.
///
/// # Errors
/// Weights that do not fit `x`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{LinearWeights, LowRankWeights, linear_with};
/// let tensor = |rows: &[[f32; 2]]| {
///     Tensor::from_slice(rows.as_flattened(), (rows.len(), 2), &Device::Cpu)
/// };
/// let a = tensor(&[[1.0, 10.0]])?;
/// let b = Tensor::new(&[[2_f32]], &Device::Cpu)?;
/// let layer = LinearWeights::new(tensor(&[[1.0, 0.0], [0.0, 1.0]])?, None)
///     .with_low_rank(vec![LowRankWeights::new(a, b, 0.5, 1)]);
/// // The second row gets 0.5 * 2 * (1 + 10 * 3).
/// assert_eq!(linear_with(&tensor(&[[1.0, 3.0]])?, &layer)?.to_vec2::<f32>()?, [[1.0, 34.0]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn linear_with(x: &Tensor, weights: &LinearWeights) -> Result<Tensor> {
    const OP: &str = "linear_with";
    check::expect_rank(OP, "weight", &weights.weight, 2, "(O, I)")?;
    let (outputs, inputs) = weights.weight.dims2()?;
    low_rank_weights::check(OP, x, [outputs, inputs], &weights.low_rank)?;
    composed(x, weights, weights.bias.as_ref())
}

/// The layer in the dtype of `x`, with `bias` in place of its own.
fn composed(x: &Tensor, weights: &LinearWeights, bias: Option<&Tensor>) -> Result<Tensor> {
    let dtype = x.dtype();
    let weight = weights.weight.to_dtype(dtype)?;
    if weights.low_rank.is_empty() {
        return linear(x, &weight, bias);
    }
    let outputs = weight.dim(0)?;
    let mut y = linear(x, &weight, None)?;
    for part in &weights.low_rank {
        let inner = linear(&dropout(x, part.dropout, part.mode)?, &part.a.to_dtype(dtype)?, None)?;
        let added = (linear(&inner, &part.b.to_dtype(dtype)?, None)? * part.scale)?;
        let behind = outputs - part.first_row - part.b.dim(0)?;
        y = (y + added.pad_with_zeros(D::Minus1, part.first_row, behind)?)?;
    }
    if let Some(factors) = low_rank_weights::factors(&weights.weight, &weights.low_rank)? {
        y = y.broadcast_mul(&factors.to_dtype(dtype)?)?;
    }
    Ok(match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    })
}

/// [`attention_branch`](crate::attention_branch) operator by operator.
///
/// # Shapes
/// `x` (B, N, D) -> the same.
///
/// # Errors
/// As the operators that it is composed of.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{AttentionWeights, LinearWeights, NormWeights, reference};
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F64, &Device::Cpu);
/// let norm = NormWeights { weight: zeros(&[2])?, bias: zeros(&[2])?, eps: 1e-6 };
/// let (qkv, proj) = (zeros(&[6, 2])?, zeros(&[2, 2])?);
/// let (qkv, proj) = (LinearWeights::new(qkv, None), LinearWeights::new(proj, None));
/// let x = Tensor::new(&[[[3_f64, 4.0]]], &Device::Cpu)?;
/// let y = reference::attention_branch(&x, &AttentionWeights::new(norm, qkv, proj, 1))?;
/// assert_eq!(y.to_vec3::<f64>()?, [[[3.0, 4.0]]]); // nothing is added
/// # Ok::<(), pad_ops::Error>(())
/// ```
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
    with_stream(x, residual(&projected.to_dtype(x.dtype())?, &weights.residual)?, weights.skip)
}

fn with_stream(x: &Tensor, branch: Tensor, skip: bool) -> Result<Tensor> {
    if skip { Ok((x + branch)?) } else { Ok(branch) }
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
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{LinearWeights, MlpWeights, Mode, NormWeights, reference};
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F64, &Device::Cpu);
/// let norm = NormWeights { weight: zeros(&[2])?, bias: zeros(&[2])?, eps: 1e-6 };
/// let (fc1, fc2) = (zeros(&[4, 2])?, zeros(&[2, 4])?);
/// let (fc1, fc2) = (LinearWeights::new(fc1, None), LinearWeights::new(fc2, None));
/// let x = Tensor::new(&[[[3_f64, 4.0]]], &Device::Cpu)?;
/// let y = reference::mlp_branch(&x, &MlpWeights::new(norm, fc1, fc2), Mode::Eval)?;
/// assert_eq!(y.to_vec3::<f64>()?, [[[3.0, 4.0]]]); // nothing is added
/// # Ok::<(), pad_ops::Error>(())
/// ```
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
    let y = residual(&mlp.to_dtype(x.dtype())?, &weights.residual)?;
    let y = with_stream(x, y, weights.skip)?;
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
