//! The formula in candle operations and our softmax, each of which has a correct gradient.

use candle_core::Tensor;

use super::{bias::AttentionBias, options::AttentionOptions};
use crate::{Result, empty, products::matmul, softmax};

/// Computes `softmax(scale q k^T + bias) v`: any device and floating dtype, any additive bias.
///
/// # Shapes
/// `q` (B, H, N, E); `k` (B, H, M, E); `v` (B, H, M, F); `bias` broadcast to (B, H, N, M); result
/// (B, H, N, F).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let q = Tensor::zeros((1, 1, 1, 2), DType::F64, &Device::Cpu)?;
/// let k = Tensor::zeros((1, 1, 2, 2), DType::F64, &Device::Cpu)?;
/// let v = Tensor::new(&[[[[2_f64], [4.0]]]], &Device::Cpu)?;
/// let y = pad_ops::reference::attention(&q, &k, &v, None, 1.0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, [3.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    scale: f64,
) -> Result<Tensor> {
    let shape = [q.dim(0)?, q.dim(1)?, q.dim(2)?, v.dim(3)?];
    if empty::is_empty(&shape) {
        let mut operands = vec![q, k, v];
        operands.extend(bias);
        return Ok(empty::result(shape.to_vec(), &operands)?);
    }
    let logits = matmul(&(q.contiguous()? * scale)?, &k.contiguous()?.t()?)?;
    let logits = match bias {
        Some(bias) => logits.broadcast_add(bias)?,
        None => logits,
    };
    Ok(matmul(&softmax(&logits)?, &v.contiguous()?)?)
}

/// [`attention_with`](crate::attention_with) through [`attention`]: any device and floating dtype;
/// the N x M matrix is kept for the backward.
///
/// # Shapes
/// As [`attention_with`](crate::attention_with).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{AttentionOptions, reference};
/// let q = Tensor::zeros((1, 1, 2, 1), DType::F64, &Device::Cpu)?;
/// let v = Tensor::new(&[[[[2_f64], [4.0]]]], &Device::Cpu)?;
/// let causal = AttentionOptions { causal: true, scale: 1.0 };
/// let y = reference::attention_with(&q, &q, &v, None, &causal)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, [2.0, 3.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn attention_with(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let (_, heads, queries, _) = q.dims4()?;
    let keys = k.dim(2)?;
    let (k, v) = (repeated(k, heads)?, repeated(v, heads)?);
    let mask = match options.causal {
        true => Some(causal_mask(queries, keys, q)?),
        false => None,
    };
    let bias = match (bias, mask) {
        (Some(bias), Some(mask)) => Some(bias.broadcast_add(&mask)?),
        (bias, mask) => bias.cloned().or(mask),
    };
    attention(q, &k, &v, bias.as_ref(), options.scale)
}

/// Every head of keys as often as heads of queries share it.
fn repeated(keys: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, groups, m, width) = keys.dims4()?;
    if groups == heads || groups == 0 {
        return Ok(keys.clone());
    }
    let each = keys.unsqueeze(2)?.broadcast_as((b, groups, heads / groups, m, width))?;
    Ok(each.contiguous()?.reshape((b, heads, m, width))?)
}

/// (N, M): 0 where a query sees a key, else minus infinity.
fn causal_mask(queries: usize, keys: usize, like: &Tensor) -> Result<Tensor> {
    let ahead = keys.saturating_sub(queries);
    let value = |at: usize| match at % keys <= at / keys + ahead {
        true => 0.0_f32,
        false => f32::NEG_INFINITY,
    };
    let mask: Vec<f32> = (0..queries * keys).map(value).collect();
    Ok(Tensor::from_vec(mask, (queries, keys), like.device())?.to_dtype(like.dtype())?)
}

/// [`attention_packed`](crate::attention_packed) through [`attention`]: any device and floating
/// dtype.
///
/// # Shapes
/// `qkv` (B, N, 3 D); result (B, N, D).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let qkv = Tensor::new(&[[[0_f64, 1.0, 2.0], [0.0, 5.0, 4.0]]], &Device::Cpu)?;
/// let y = pad_ops::reference::attention_packed(&qkv, 1)?;
/// assert_eq!(y.to_vec3::<f64>()?, [[[3.0], [3.0]]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn attention_packed(qkv: &Tensor, num_heads: usize) -> Result<Tensor> {
    packed(qkv, num_heads, None)
}

/// [`attention_packed_biased`](crate::attention_packed_biased) through [`attention`]: any device
/// and floating dtype.
///
/// # Shapes
/// `qkv` (B, N, 3 D); result (B, N, D).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{AttentionBias, reference};
/// let qkv = Tensor::new(&[[[0_f64, 1.0, 2.0], [0.0, 5.0, 4.0]]], &Device::Cpu)?;
/// let bias = AttentionBias::PerHead(Tensor::zeros((1, 2, 2), DType::F64, &Device::Cpu)?);
/// let y = reference::attention_packed_biased(&qkv, 1, &bias)?;
/// assert_eq!(y.to_vec3::<f64>()?, [[[3.0], [3.0]]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn attention_packed_biased(
    qkv: &Tensor,
    num_heads: usize,
    bias: &AttentionBias,
) -> Result<Tensor> {
    let bias = match bias {
        AttentionBias::PerHead(bias) => bias.unsqueeze(0)?,
        AttentionBias::Keys(bias) => bias.unsqueeze(1)?.unsqueeze(1)?,
        AttentionBias::Decomposed { rows, columns } => {
            let (b, h, n, height) = rows.dims4()?;
            let width = columns.dim(3)?;
            rows.unsqueeze(4)?.broadcast_add(&columns.unsqueeze(3)?)?.reshape((
                b,
                h,
                n,
                height * width,
            ))?
        }
    };
    packed(qkv, num_heads, Some(&bias))
}

fn packed(qkv: &Tensor, num_heads: usize, bias: Option<&Tensor>) -> Result<Tensor> {
    let (b, n, width) = qkv.dims3()?;
    let d = width / 3;
    let head_dim = d / num_heads;
    let heads = qkv.reshape((b, n, 3, num_heads, head_dim))?.permute((2, 0, 3, 1, 4))?;
    let (q, k, v) = (heads.get(0)?, heads.get(1)?, heads.get(2)?);
    let out = attention(&q, &k, &v, bias, (head_dim as f64).powf(-0.5))?;
    Ok(out.transpose(1, 2)?.reshape((b, n, d))?)
}
