//! Position tables: 2D sine-cosine ones, and any table on any grid.

use candle_core::{DType, Device, Tensor};

use super::{PatchGrid, TableResize, axes};
use crate::{Error, Result};

/// The fixed 2D sine-cosine table of MAE, with a zero row for the class token in front.
///
/// The first half of a row encodes the column (the original's "w goes first"), the second half the
/// row; each half is sines, then cosines, of `position / 10000^(i / (D / 4))`.
///
/// # Shapes
/// (1, 1 + L, `embed_dim`), `f32`.
///
/// # Errors
/// [`Error::Config`] unless 4 divides `embed_dim`.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::vit::{PatchGrid, sin_cos_table};
/// let table = sin_cos_table(4, PatchGrid::new(1, 2), &Device::Cpu)?.to_vec3::<f32>()?;
/// assert_eq!(table[0][0], [0.0; 4]); // the class token
/// assert_eq!(table[0][1], [0.0, 1.0, 0.0, 1.0]); // column 0, row 0
/// assert_eq!(table[0][2], [1_f32.sin(), 1_f32.cos(), 0.0, 1.0]); // column 1, row 0
/// # Ok::<(), pad_adapter::Error>(())
/// ```
pub fn sin_cos_table(embed_dim: usize, grid: PatchGrid, device: &Device) -> Result<Tensor> {
    if embed_dim == 0 || !embed_dim.is_multiple_of(4) {
        let fault = format!("`embed_dim` is {embed_dim}, expected a multiple of 4");
        return Err(Error::Config { what: "position table", faults: vec![fault] });
    }
    let quarter = embed_dim / 4;
    let mut table = vec![0.0_f32; embed_dim]; // class token
    for row in 0..grid.height {
        for column in 0..grid.width {
            for position in [column, row] {
                let angle = |i: usize| position as f64 / 10_000_f64.powf(i as f64 / quarter as f64);
                table.extend((0..quarter).map(|i| angle(i).sin() as f32));
                table.extend((0..quarter).map(|i| angle(i).cos() as f32));
            }
        }
    }
    Ok(Tensor::from_vec(table, (1, 1 + grid.len(), embed_dim), device)?)
}

/// A position table on another grid: the class token's row unchanged, the rest interpolated
/// bicubically ([`TableResize::Bicubic`]).
///
/// # Shapes
/// `table` (1, 1 + L, D) on grid `from`; result (1, 1 + L', D) on grid `to`.
///
/// # Errors
/// [`Error::Config`] if `table` does not belong to `from`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_adapter::vit::{PatchGrid, interpolate_table};
/// // The class token's row, then one patch's: that of every patch of a larger grid.
/// let table = Tensor::new(&[[[7_f32], [2.0]]], &Device::Cpu)?;
/// let larger = interpolate_table(&table, PatchGrid::new(1, 1), PatchGrid::new(1, 2))?;
/// assert_eq!(larger.flatten_all()?.to_vec1::<f32>()?, [7.0, 2.0, 2.0]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
pub fn interpolate_table(table: &Tensor, from: PatchGrid, to: PatchGrid) -> Result<Tensor> {
    TableResize::Bicubic.table(table, 1, from, to)
}

impl TableResize {
    /// A position table on another grid: the first `prefix` rows unchanged, the rest interpolated.
    /// Written as two matrix products, so it is differentiable.
    ///
    /// # Shapes
    /// `table` (1, `prefix` + L, D) on grid `from`; result (1, `prefix` + L', D) on grid `to`.
    ///
    /// # Errors
    /// [`Error::Config`] if `table` does not belong to `from`, or for an empty grid.
    pub fn table(
        self,
        table: &Tensor,
        prefix: usize,
        from: PatchGrid,
        to: PatchGrid,
    ) -> Result<Tensor> {
        let (_, rows, d) = table.dims3()?;
        if rows != from.len() + prefix || from.is_empty() || to.is_empty() {
            let fault = match prefix {
                0 => format!("the table has {rows} rows, expected {from}, for the grid {to}"),
                _ => format!("the table has {rows} rows, expected {prefix} + {from}"),
            };
            return Err(Error::Config { what: "position table", faults: vec![fault] });
        }
        if from == to {
            return Ok(table.clone());
        }
        let dtype = table.dtype();
        let table = table.to_dtype(DType::F32)?;
        let patches = table.narrow(1, prefix, from.len())?;
        let weights = |from: usize, to: usize| -> Result<Tensor> {
            let weights = axes::weights(self, from, to);
            Ok(Tensor::from_vec(weights, (to, from), table.device())?)
        };
        // (h', h) (h, w d) -> (h', w, d), then the same along columns.
        let patches = patches.reshape((from.height, from.width * d))?;
        let tall = weights(from.height, to.height)?.matmul(&patches)?;
        let tall = tall.reshape((to.height, from.width, d))?.transpose(0, 1)?.contiguous()?;
        let tall = tall.reshape((from.width, to.height * d))?;
        let wide = weights(from.width, to.width)?.matmul(&tall)?;
        let wide = wide.reshape((to.width, to.height, d))?.transpose(0, 1)?.contiguous()?;
        let patches = wide.reshape((1, to.len(), d))?;
        if prefix == 0 {
            return Ok(patches.to_dtype(dtype)?);
        }
        Ok(Tensor::cat(&[table.narrow(1, 0, prefix)?, patches], 1)?.to_dtype(dtype)?)
    }
}
