//! Sines and cosines of places, and which channels they turn.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, check};

/// The channels of a head that are rotated together.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{RopePairs, RopeTables, rope};
/// // Heads of four: the first pair makes a quarter turn, the second none.
/// let turned = |pairs| -> pad_ops::Result<Vec<f32>> {
///     let sin = Tensor::new(&[[1_f32, 0.0]], &Device::Cpu)?;
///     let cos = Tensor::new(&[[0_f32, 1.0]], &Device::Cpu)?;
///     let x = Tensor::new(&[[[[1_f32, 0.0, 0.0, 0.0]]]], &Device::Cpu)?;
///     Ok(rope(&x, &RopeTables { sin, cos, pairs })?.flatten_all()?.to_vec1()?)
/// };
/// assert_eq!(turned(RopePairs::Halves)?, [0.0, 0.0, 1.0, 0.0]); // channels 0 and 2
/// assert_eq!(turned(RopePairs::Neighbours)?, [0.0, 1.0, 0.0, 0.0]); // channels 0 and 1
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RopePairs {
    /// Channel `i` and channel `i + E / 2` (DINOv3).
    Halves,
    /// Channel `2 i` and channel `2 i + 1` (EVA-02, PE).
    Neighbours,
}

/// Sines and cosines of every place's angles, one row a token.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::AxialRope;
/// let tables = AxialRope::dinov3().tables([2, 3], 8, &Device::Cpu)?;
/// assert_eq!((tables.tokens()?, tables.sin.dims()), (6, &[6, 4][..]));
/// // Two of the six places, for an image of which only these are kept.
/// let kept = tables.at(&Tensor::new(&[[0_u32, 5]], &Device::Cpu)?)?;
/// assert_eq!((kept.tokens()?, kept.sin.dims()), (2, &[1, 2, 4][..]));
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RopeTables {
    /// (N', E / 2), or (B, N', E / 2) for places that differ between images. `f32`.
    pub sin: Tensor,
    /// As `sin`.
    pub cos: Tensor,
    /// The channels that are rotated together.
    pub pairs: RopePairs,
}

impl RopeTables {
    /// The tables of the places `ids` alone.
    ///
    /// # Shapes
    /// `ids` (B, K), `u32`; result (B, K, E / 2).
    ///
    /// # Errors
    /// Tables that belong to single images already; an index beyond the places.
    pub fn at(&self, ids: &Tensor) -> Result<Self> {
        const OP: &str = "rope tables";
        check::expect_rank(OP, "sin", &self.sin, 2, "(N, E / 2)")?;
        let (b, k) = ids.dims2()?;
        let half = self.sin.dim(1)?;
        let flat = ids.flatten_all()?;
        let pick = |table: &Tensor| -> Result<Tensor> {
            Ok(table.index_select(&flat, 0)?.reshape((b, k, half))?)
        };
        Ok(Self { sin: pick(&self.sin)?, cos: pick(&self.cos)?, pairs: self.pairs })
    }

    /// The number of tokens that are rotated, the last ones.
    ///
    /// # Errors
    /// Tables of another rank.
    pub fn tokens(&self) -> Result<usize> {
        let dims = self.sin.dims();
        match dims.len() {
            2 | 3 => Ok(dims[dims.len() - 2]),
            _ => Err(check::shape_error(
                "rope",
                "sin",
                &self.sin,
                "(N, E / 2) or (B, N, E / 2)".into(),
            )),
        }
    }

    /// Checks that the tables are of heads of `head_dim` values, for the last of `n` tokens of `b`
    /// images.
    pub(crate) fn expect(
        &self,
        op: &'static str,
        like: &Tensor,
        (b, n, head_dim): (usize, usize, usize),
    ) -> Result<()> {
        if !head_dim.is_multiple_of(2) {
            return Err(Error::Value {
                op,
                arg: "head width",
                expected: "an even number".into(),
                found: head_dim.to_string(),
            });
        }
        let tokens = self.tokens()?;
        let shape = match self.sin.rank() {
            2 => vec![tokens, head_dim / 2],
            _ => vec![b, tokens, head_dim / 2],
        };
        for (arg, table) in [("sin", &self.sin), ("cos", &self.cos)] {
            check::expect_shape(op, arg, table, &shape)?;
            if !table.device().same_device(like.device()) {
                return Err(Error::Device {
                    op,
                    arg,
                    expected: like.device().location(),
                    found: table.device().location(),
                });
            }
        }
        if tokens <= n {
            return Ok(());
        }
        Err(Error::Value {
            op,
            arg: "places",
            expected: format!("at most {n}, the number of tokens"),
            found: tokens.to_string(),
        })
    }

    /// The same tables as the kernels need them.
    pub(crate) fn contiguous(&self) -> Result<Self> {
        let of = |table: &Tensor| -> Result<Tensor> {
            Ok(table.to_dtype(candle_core::DType::F32)?.contiguous()?)
        };
        Ok(Self { sin: of(&self.sin)?, cos: of(&self.cos)?, pairs: self.pairs })
    }
}
