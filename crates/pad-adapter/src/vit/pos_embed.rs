//! Position tables: 2D sine-cosine ones, and any table on any grid by bicubic interpolation.

use candle_core::{DType, Device, Tensor};

use super::PatchGrid;
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
/// bicubically as PyTorch's `interpolate(mode="bicubic", align_corners=False)` does (a = -0.75,
/// half-pixel centres, edges repeated). Written as two matrix products, so it is differentiable.
///
/// # Shapes
/// `table` (1, 1 + L, D) on grid `from`; result (1, 1 + L', D) on grid `to`.
///
/// # Errors
/// [`Error::Config`] if `table` does not belong to `from`.
pub fn interpolate_table(table: &Tensor, from: PatchGrid, to: PatchGrid) -> Result<Tensor> {
    let (_, rows, d) = table.dims3()?;
    if rows != from.len() + 1 {
        let fault = format!("the table has {rows} rows, expected 1 + {from}");
        return Err(Error::Config { what: "position table", faults: vec![fault] });
    }
    if from == to {
        return Ok(table.clone());
    }
    let dtype = table.dtype();
    let table = table.to_dtype(DType::F32)?;
    let class = table.narrow(1, 0, 1)?;
    let patches = table.narrow(1, 1, from.len())?;
    let weights = |from: usize, to: usize| bicubic_weights(from, to, table.device());
    // (h', h) (h, w d) -> (h', w, d), then the same along columns.
    let patches = patches.reshape((from.height, from.width * d))?;
    let tall = weights(from.height, to.height)?.matmul(&patches)?;
    let tall = tall.reshape((to.height, from.width, d))?.transpose(0, 1)?.contiguous()?;
    let tall = tall.reshape((from.width, to.height * d))?;
    let wide = weights(from.width, to.width)?.matmul(&tall)?;
    let wide = wide.reshape((to.width, to.height, d))?.transpose(0, 1)?.contiguous()?;
    let patches = wide.reshape((1, to.len(), d))?;
    Ok(Tensor::cat(&[class, patches], 1)?.to_dtype(dtype)?)
}

/// Row `i`: the weights of the `from` samples in sample `i` of `to`.
fn bicubic_weights(from: usize, to: usize, device: &Device) -> Result<Tensor> {
    const A: f64 = -0.75;
    let kernel = |x: f64| {
        let x = x.abs();
        if x <= 1.0 {
            ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            ((x - 5.0) * x + 8.0) * x * A - 4.0 * A
        } else {
            0.0
        }
    };
    let mut weights = vec![0.0_f32; to * from];
    for (i, row) in weights.chunks_exact_mut(from).enumerate() {
        let centre = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let first = centre.floor();
        for tap in -1..=2 {
            let place = first + f64::from(tap);
            let clamped = place.clamp(0.0, (from - 1) as f64) as usize;
            row[clamped] += kernel(centre - place) as f32;
        }
    }
    Ok(Tensor::from_vec(weights, (to, from), device)?)
}
