//! The formula in candle operations and our softmax, each of which has a correct gradient.

use candle_core::Tensor;

use super::bias::AttentionBias;
use crate::{Result, products::matmul, softmax};

/// Computes `softmax(scale q k^T + bias) v`: any device and floating dtype, any additive bias.
///
/// # Shapes
/// `q` (B, H, N, E); `k`, `v` (B, H, M, E); `bias` broadcast to (B, H, N, M); result (B, H, N, E).
///
/// # Errors
/// Any error of candle.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    scale: f64,
) -> Result<Tensor> {
    let logits = matmul(&(q.contiguous()? * scale)?, &k.contiguous()?.t()?)?;
    let logits = match bias {
        Some(bias) => logits.broadcast_add(bias)?,
        None => logits,
    };
    Ok(matmul(&softmax(&logits)?, &v.contiguous()?)?)
}

/// [`attention_packed`](crate::attention_packed) through [`attention`]: any device and floating
/// dtype.
///
/// # Shapes
/// `qkv` (B, N, 3 D); result (B, N, D).
///
/// # Errors
/// Any error of candle.
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
