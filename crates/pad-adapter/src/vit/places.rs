//! Where the tokens of an attention lie, for what depends on it: rotary positions, relative
//! biases, padding.

use candle_core::Tensor;
use pad_ops::{AttentionBias, RopeTables};

use super::{PatchGrid, RelativeResize, relative};
use crate::Result;

/// The places of the tokens that a block gets, from [`ViT::places`](super::ViT::places). The
/// default is for networks whose attention does not depend on them.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::vit::Places;
/// use pad_ops::AxialRope;
/// assert!(Places::default().rope().is_none());
/// // Rotary positions of 2 x 3 patches for heads of 8 values.
/// let tables = AxialRope::dinov3().tables([2, 3], 8, &Device::Cpu)?;
/// let places = Places::rotary(Some(tables));
/// assert_eq!(places.rope().unwrap().sin.dims(), [6, 4]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Places {
    pub(super) rope: Option<RopeTables>,
    /// The same for every block.
    pub(super) bias: Option<AttentionBias>,
    /// For blocks with tables of their own.
    pub(super) relative: Option<RelativePlaces>,
}

impl Places {
    /// Places with rotary positions alone: those of the last tokens, as many as the tables have.
    pub fn rotary(tables: Option<RopeTables>) -> Self {
        Self { rope: tables, ..Self::default() }
    }

    /// The rotary positions.
    pub fn rope(&self) -> Option<&RopeTables> {
        self.rope.as_ref()
    }

    /// Whether attention goes without a bias, so that a block runs as one operator.
    pub(super) fn is_unbiased(&self) -> bool {
        self.bias.is_none() && self.relative.is_none()
    }
}

/// What turns a block's table into its biases.
#[derive(Clone, Debug)]
pub(super) struct RelativePlaces {
    /// The grid of the tables.
    pub(super) from: PatchGrid,
    /// The grid of the images.
    pub(super) to: PatchGrid,
    pub(super) resize: RelativeResize,
    /// (N * N), into the table of `to`.
    pub(super) index: Tensor,
}

impl RelativePlaces {
    /// The biases of a table (rows, H).
    pub(super) fn bias(&self, table: &Tensor) -> Result<AttentionBias> {
        let table = self.resize.table(table, self.from, self.to)?;
        Ok(AttentionBias::PerHead(relative::relative_bias(&table, &self.index)?))
    }
}
