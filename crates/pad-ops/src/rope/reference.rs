//! The rotation in candle operations, each of which has a correct gradient.

use candle_core::{D, Tensor};

use super::tables::{RopePairs, RopeTables};
use crate::{Result, products::wide};

/// [`rope`](crate::rope) as a composition of candle operations: any device and floating dtype.
///
/// # Shapes
/// `x` (B, H, N, E) -> the same.
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{RopePairs, RopeTables, reference};
/// let one_by_one = |value: f32| Tensor::new(&[[value]], &Device::Cpu);
/// let (sin, cos) = (one_by_one(1.0)?, one_by_one(0.0)?);
/// let tables = RopeTables { sin, cos, pairs: RopePairs::Neighbours };
/// let x = Tensor::new(&[[[[3_f32, 4.0]]]], &Device::Cpu)?;
/// let y = reference::rope(&x, &tables)?.flatten_all()?.to_vec1::<f32>()?;
/// assert_eq!(y, [-4.0, 3.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn rope(x: &Tensor, tables: &RopeTables) -> Result<Tensor> {
    let (_, _, n, head_dim) = x.dims4()?;
    let (dtype, places, half) = (x.dtype(), tables.tokens()?, head_dim / 2);
    let wide = wide(dtype);
    let rest = n - places;
    let rotated = x.narrow(2, rest, places)?.to_dtype(wide)?;
    // (N', E / 2) -> (1, 1, N', E / 2); (B, N', E / 2) -> (B, 1, N', E / 2).
    let table = |table: &Tensor| -> Result<Tensor> {
        let table = table.to_dtype(wide)?;
        Ok(match table.rank() {
            2 => table.unsqueeze(0)?.unsqueeze(0)?,
            _ => table.unsqueeze(1)?,
        })
    };
    let (sin, cos) = (table(&tables.sin)?, table(&tables.cos)?);
    let (a, b) = match tables.pairs {
        RopePairs::Halves => (rotated.narrow(3, 0, half)?, rotated.narrow(3, half, half)?),
        RopePairs::Neighbours => {
            let (b, h, n, _) = rotated.dims4()?;
            let pairs = rotated.contiguous()?.reshape(vec![b, h, n, half, 2])?;
            (pairs.narrow(4, 0, 1)?.squeeze(4)?, pairs.narrow(4, 1, 1)?.squeeze(4)?)
        }
    };
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    let rotated = match tables.pairs {
        RopePairs::Halves => Tensor::cat(&[&first, &second], D::Minus1)?,
        RopePairs::Neighbours => {
            let (b, h, n, _) = first.dims4()?;
            Tensor::stack(&[&first, &second], 4)?.reshape((b, h, n, head_dim))?
        }
    };
    let rotated = rotated.to_dtype(dtype)?;
    if rest == 0 {
        return Ok(rotated);
    }
    Ok(Tensor::cat(&[&x.narrow(2, 0, rest)?, &rotated], 2)?)
}

/// [`rope_packed`](crate::rope_packed) through [`rope`]: any device and floating dtype.
///
/// # Shapes
/// `qkv` (B, N, 3 D) -> the same.
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{RopePairs, RopeTables, reference};
/// let one_by_one = |value: f32| Tensor::new(&[[value]], &Device::Cpu);
/// let (sin, cos) = (one_by_one(1.0)?, one_by_one(0.0)?);
/// let tables = RopeTables { sin, cos, pairs: RopePairs::Neighbours };
/// let qkv = Tensor::new(&[[[3_f32, 4.0, 1.0, 0.0, 5.0, 6.0]]], &Device::Cpu)?;
/// let y = reference::rope_packed(&qkv, 1, &tables)?.flatten_all()?.to_vec1::<f32>()?;
/// assert_eq!(y, [-4.0, 3.0, 0.0, 1.0, 5.0, 6.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn rope_packed(qkv: &Tensor, num_heads: usize, tables: &RopeTables) -> Result<Tensor> {
    let (b, n, width) = qkv.dims3()?;
    let dim = width / 3;
    let rotate = |part: usize| -> Result<Tensor> {
        let part = qkv.narrow(2, part * dim, dim)?.contiguous()?;
        let heads = part.reshape((b, n, num_heads, dim / num_heads))?.transpose(1, 2)?;
        let rotated = rope(&heads.contiguous()?, tables)?;
        Ok(rotated.transpose(1, 2)?.contiguous()?.reshape((b, n, dim))?)
    };
    let values = qkv.narrow(2, 2 * dim, dim)?;
    Ok(Tensor::cat(&[&rotate(0)?, &rotate(1)?, &values.contiguous()?], 2)?)
}
