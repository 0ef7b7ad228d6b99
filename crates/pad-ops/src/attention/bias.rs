//! The bias of relative positions: its forms, and what fits them.

use candle_core::Tensor;

use crate::{Error, Result, check};

/// The bias that is added to the logits of every head.
#[derive(Clone, Debug)]
pub enum AttentionBias {
    /// The same for every image: (H, N, N), query then key (relative position tables, as in BEiT).
    PerHead(Tensor),
    /// The same for every query and head: (B, N), one for each key. Minus infinity hides a key
    /// (padding); one key of each image must stay.
    Keys(Tensor),
    /// A part for the key's row and one for its column, each from the query's content (ViTDet,
    /// MViTv2): the key at row `i`, column `j` of a grid of `height` x `width` tokens gets
    /// `rows[.., i] + columns[.., j]`.
    Decomposed {
        /// (B, H, N, grid height).
        rows: Tensor,
        /// (B, H, N, grid width); the product of both last axes is N.
        columns: Tensor,
    },
}

impl AttentionBias {
    /// Checks that it fits `b` images of `n` tokens with `heads` heads, like `qkv` in dtype and
    /// device.
    pub(super) fn expect(&self, op: &'static str, qkv: &Tensor, heads: usize) -> Result<()> {
        let (b, n, _) = qkv.dims3()?;
        match self {
            Self::PerHead(bias) => {
                check::expect_shape(op, "bias", bias, &[heads, n, n])?;
                check::expect_like(op, "bias", bias, qkv)
            }
            Self::Keys(bias) => {
                check::expect_shape(op, "bias", bias, &[b, n])?;
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
