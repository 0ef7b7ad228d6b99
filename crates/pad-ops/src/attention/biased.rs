//! Attention with an additive bias on the logits: relative positions.

use candle_core::{Result as CandleResult, Tensor};

use super::{
    bias::AttentionBias,
    biased_cpu::Bias,
    layout::{Sizes, expect_packed},
    reference,
};
use crate::{
    Result,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
    empty,
};

/// Computes [`attention_packed`](crate::attention_packed) with `softmax(scale q k^T + bias)`;
/// gradients reach `qkv` and the bias.
///
/// # Shapes
/// `qkv` (B, N, 3 D), `bias` as in [`AttentionBias`]; result (B, N, D).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), `DType`, `Device` or `Value`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{AttentionBias, attention_packed_biased};
/// let qkv = Tensor::new(&[[[0_f32, 1.0, 2.0], [0.0, 5.0, 4.0]]], &Device::Cpu)?;
/// let none = f32::NEG_INFINITY; // the first token sees itself alone
/// let bias = Tensor::new(&[[[0_f32, none], [0.0, 0.0]]], &Device::Cpu)?;
/// let y = attention_packed_biased(&qkv, 1, &AttentionBias::PerHead(bias))?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[2.0], [3.0]]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn attention_packed_biased(
    qkv: &Tensor,
    num_heads: usize,
    bias: &AttentionBias,
) -> Result<Tensor> {
    const OP: &str = "attention_packed_biased";
    expect_packed(OP, qkv, num_heads)?;
    bias.expect(OP, qkv, num_heads)?;
    let (b, n, width) = qkv.dims3()?;
    let d = width / 3;
    if qkv.elem_count() == 0 {
        let operands = match bias {
            AttentionBias::PerHead(bias) | AttentionBias::Keys(bias) => vec![qkv, bias],
            AttentionBias::Decomposed { rows, columns } => vec![qkv, rows, columns],
        };
        return Ok(empty::result((b, n, d), &operands)?);
    }
    if !has_kernel(qkv) {
        return reference::attention_packed_biased(qkv, num_heads, bias);
    }
    let sizes = Sizes { b, n, d, heads: num_heads, head_dim: d / num_heads };
    let qkv = qkv.contiguous()?;
    let (params, grid) = match bias {
        AttentionBias::PerHead(bias) | AttentionBias::Keys(bias) => {
            (vec![bias.contiguous()?], None)
        }
        AttentionBias::Decomposed { rows, columns } => {
            let grid = Some((rows.dim(3)?, columns.dim(3)?));
            (vec![rows.contiguous()?, columns.contiguous()?], grid)
        }
    };
    let of_keys = matches!(bias, AttentionBias::Keys(_));
    let biased = Biased { qkv: qkv.clone(), params, grid, of_keys, sizes };
    let out = biased.with_bias(|bias| Ok(bias.forward(&slices::borrow(&qkv)?, &sizes)))?;
    let params = biased.params.clone();
    let params: Vec<&Tensor> = params.iter().collect();
    Ok(nary::apply(OP, &qkv, &params, out, (b, n, d).into(), biased)?)
}

struct Biased {
    qkv: Tensor,
    /// The bias, or its rows and columns.
    params: Vec<Tensor>,
    /// Height and width of the grid of rows and columns.
    grid: Option<(usize, usize)>,
    /// Whether the bias is one of keys.
    of_keys: bool,
    sizes: Sizes,
}

impl Biased {
    fn with_bias<R>(&self, work: impl FnOnce(Bias<'_>) -> CandleResult<R>) -> CandleResult<R> {
        let values = self.params.iter().map(slices::borrow).collect::<CandleResult<Vec<_>>>()?;
        match (&values[..], self.grid) {
            ([rows, columns], Some((height, width))) => {
                work(Bias::Decomposed { rows, columns, height, width })
            }
            ([bias, ..], _) if self.of_keys => work(Bias::Keys(bias)),
            ([bias, ..], _) => work(Bias::PerHead(bias)),
            ([], _) => candle_core::bail!("attention_packed_biased: no bias"),
        }
    }
}

impl Backward for Biased {
    fn backward(&self, d_y: &[f32], d_x: bool, wanted: &[bool]) -> CandleResult<Gradients> {
        let qkv = slices::borrow(&self.qkv)?;
        let any = wanted.contains(&true);
        let (d_qkv, bias) =
            self.with_bias(|bias| Ok(bias.backward(&qkv, d_y, &self.sizes, any)))?;
        let d_params = [bias.first, bias.second].into_iter().zip(wanted);
        let d_params = d_params.map(|(gradient, &wanted)| wanted.then_some(gradient)).collect();
        Ok(Gradients { d_x: d_x.then_some(d_qkv), d_params })
    }
}
