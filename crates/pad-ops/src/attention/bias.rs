//! The bias of relative positions: its forms, and what fits them.

use candle_core::Tensor;

use crate::{Error, Result, check};

/// The bias that is added to the logits of every head.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{AttentionBias, attention_packed_biased};
/// // One image, one head, two tokens side by side: rows and columns of a grid of 1 x 2.
/// let qkv = Tensor::new(&[[[0_f32, 0.0, 2.0], [0.0, 0.0, 4.0]]], &Device::Cpu)?;
/// let rows = Tensor::zeros((1, 1, 2, 1), DType::F32, &Device::Cpu)?;
/// let columns = Tensor::new(&[[[[0_f32, 3_f32.ln()], [0.0, 0.0]]]], &Device::Cpu)?;
/// let y = attention_packed_biased(&qkv, 1, &AttentionBias::Decomposed { rows, columns })?;
/// let y = y.flatten_all()?.to_vec1::<f32>()?;
/// assert!((y[0] - 3.5).abs() < 1e-6 && (y[1] - 3.0).abs() < 1e-6); // 1 : 3, then 1 : 1
/// # Ok::<(), pad_ops::Error>(())
/// ```
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
