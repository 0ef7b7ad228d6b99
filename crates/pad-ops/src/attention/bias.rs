//! Attention with an additive bias on the logits: relative positions.

use candle_core::Tensor;

use super::{expect_packed, reference};
use crate::{Error, Result, check};

/// What is added to the logits of every head.
#[derive(Clone, Debug)]
pub enum AttentionBias {
    /// The same for every image: (H, N, N), query then key (relative position tables, as in BEiT).
    PerHead(Tensor),
    /// A part for the key's row and one for its column, each from the query's content (ViTDet, MViTv2): the key at
    /// row `i`, column `j` of a grid of `height` x `width` tokens gets `rows[.., i] + columns[.., j]`.
    Decomposed {
        /// (B, H, N, grid height).
        rows: Tensor,
        /// (B, H, N, grid width); the product of both last axes is N.
        columns: Tensor,
    },
}

impl AttentionBias {
    /// Fails unless it fits `b` images of `n` tokens with `heads` heads, like `qkv` in dtype and device.
    fn expect(&self, op: &'static str, qkv: &Tensor, heads: usize) -> Result<()> {
        let (b, n, _) = qkv.dims3()?;
        match self {
            Self::PerHead(bias) => {
                check::expect_shape(op, "bias", bias, &[heads, n, n])?;
                check::expect_like(op, "bias", bias, qkv)
            }
            Self::Decomposed { rows, columns } => {
                let (height, width) =
                    (check::last_dim(op, "rows", rows)?, check::last_dim(op, "columns", columns)?);
                check::expect_shape(op, "rows", rows, &[b, heads, n, height])?;
                check::expect_shape(op, "columns", columns, &[b, heads, n, width])?;
                check::expect_like(op, "rows", rows, qkv)?;
                check::expect_like(op, "columns", columns, qkv)?;
                if height * width == n {
                    return Ok(());
                }
                Err(Error::Value {
                    op,
                    arg: "bias",
                    expected: format!("a grid of {n} tokens"),
                    found: format!("{height} x {width}"),
                })
            }
        }
    }
}

/// [`attention_packed`](crate::attention_packed) with `softmax(scale q k^T + bias)`; gradients reach `qkv` and the
/// bias.
///
/// # Shapes
/// `qkv` (B, N, 3 D), `bias` as [`AttentionBias`] says; result (B, N, D).
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`], [`Error::Device`], [`Error::Value`].
pub fn attention_packed_biased(
    qkv: &Tensor,
    num_heads: usize,
    bias: &AttentionBias,
) -> Result<Tensor> {
    const OP: &str = "attention_packed_biased";
    expect_packed(OP, qkv, num_heads)?;
    bias.expect(OP, qkv, num_heads)?;
    reference::attention_packed_biased(qkv, num_heads, bias)
}
