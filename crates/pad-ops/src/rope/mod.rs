//! Axial rotary position embedding (Su et al., 2021; two axes as in EVA-02, DINOv3 and PE): pairs
//! of channels of queries and keys are rotated by angles that grow with a token's row and column.
//!
//! Saved for the backward: the tables. A rotation's gradient is the rotation back.

mod axial;
pub(crate) mod cpu;
mod reference;
mod tables;

use candle_core::{CpuStorage, CustomOp1, Layout, Result as CandleResult, Shape, Tensor};

pub use axial::{AxialRope, RopeAxes, RopeCoordinates, RopeSpan};
pub use reference::{rope as rope_reference, rope_packed as rope_packed_reference};
pub use tables::{RopePairs, RopeTables};

use crate::{
    Error, Result, check,
    cpu::{has_kernel, slices},
};
use cpu::{Direction, Rotation};

/// Rotates the last tokens of every head, as many as the tables have places; tokens in front of
/// them (class, registers) stay.
///
/// # Shapes
/// `x` (B, H, N, E), E even -> the same. Any floating dtype; half types are rotated in `f32`.
///
/// # Errors
/// [`Error::Shape`], `DType`, `Device` or `Value` for tables that do not fit.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{RopePairs, RopeTables, rope};
/// // A quarter turn of the second of two tokens.
/// let one_by_one = |value: f32| Tensor::new(&[[value]], &Device::Cpu);
/// let (sin, cos) = (one_by_one(1.0)?, one_by_one(0.0)?);
/// let tables = RopeTables { sin, cos, pairs: RopePairs::Halves };
/// let x = Tensor::new(&[[[[3_f32, 4.0], [3.0, 4.0]]]], &Device::Cpu)?;
/// let y = rope(&x, &tables)?.flatten_all()?.to_vec1::<f32>()?;
/// assert_eq!(y, [3.0, 4.0, -4.0, 3.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn rope(x: &Tensor, tables: &RopeTables) -> Result<Tensor> {
    const OP: &str = "rope";
    check::expect_rank(OP, "x", x, 4, "(B, H, N, E)")?;
    check::expect_float(OP, "x", x)?;
    let (b, heads, n, head_dim) = x.dims4()?;
    tables.expect(OP, x, (b, n, head_dim))?;
    if !has_kernel(x) || x.elem_count() == 0 {
        return reference::rope(x, tables);
    }
    let lay = Lay { b, n, outer: heads, parts: 1, heads: 1, head_dim };
    Ok(x.contiguous()?.apply_op1(Rope { tables: tables.contiguous()?, lay })?)
}

/// [`rope`] on the queries and keys in the output of a `qkv` layer; values stay.
///
/// # Shapes
/// `qkv` (B, N, 3 D) as [`attention_packed`](crate::attention_packed) takes it -> the same.
///
/// # Errors
/// As [`rope`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{RopePairs, RopeTables, rope_packed};
/// let one_by_one = |value: f32| Tensor::new(&[[value]], &Device::Cpu);
/// let (sin, cos) = (one_by_one(1.0)?, one_by_one(0.0)?);
/// let tables = RopeTables { sin, cos, pairs: RopePairs::Halves };
/// let qkv = Tensor::new(&[[[3_f32, 4.0, 1.0, 0.0, 5.0, 6.0]]], &Device::Cpu)?;
/// let y = rope_packed(&qkv, 1, &tables)?.flatten_all()?.to_vec1::<f32>()?;
/// assert_eq!(y, [-4.0, 3.0, 0.0, 1.0, 5.0, 6.0]); // query and key turn, the value stays
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn rope_packed(qkv: &Tensor, num_heads: usize, tables: &RopeTables) -> Result<Tensor> {
    const OP: &str = "rope_packed";
    check::expect_rank(OP, "qkv", qkv, 3, "(B, N, 3 D)")?;
    check::expect_float(OP, "qkv", qkv)?;
    let (b, n, width) = qkv.dims3()?;
    if num_heads == 0 || !width.is_multiple_of(3 * num_heads) {
        return Err(Error::Value {
            op: OP,
            arg: "num_heads",
            expected: format!("a divisor of embed_dim ({width} / 3)"),
            found: num_heads.to_string(),
        });
    }
    let head_dim = width / 3 / num_heads;
    tables.expect(OP, qkv, (b, n, head_dim))?;
    if !has_kernel(qkv) || qkv.elem_count() == 0 {
        return reference::rope_packed(qkv, num_heads, tables);
    }
    let lay = Lay { b, n, outer: 1, parts: 3, heads: num_heads, head_dim };
    Ok(qkv.contiguous()?.apply_op1(Rope { tables: tables.contiguous()?, lay })?)
}

/// How heads lie in an operand: (B, outer, N, parts, heads, E).
#[derive(Clone, Copy)]
struct Lay {
    b: usize,
    n: usize,
    outer: usize,
    /// 3 for queries, keys and values, of which the last is not rotated; else 1.
    parts: usize,
    heads: usize,
    head_dim: usize,
}

struct Rope {
    tables: RopeTables,
    lay: Lay,
}

impl Rope {
    fn run(&self, x: &[f32], direction: Direction) -> CandleResult<Vec<f32>> {
        let Lay { n, outer, parts, heads, head_dim, .. } = self.lay;
        let rotation = Rotation::new(&self.tables, n)?;
        let mut y = x.to_vec();
        let width = parts * heads * head_dim;
        crate::cpu::rows::for_rows(&mut y, width, |first, rows| {
            for (row, values) in (first..).zip(rows.chunks_exact_mut(width)) {
                let (image, token) = (row / (n * outer), row % n);
                let rotated = parts.min(2) * heads * head_dim;
                for head in values[..rotated].chunks_exact_mut(head_dim) {
                    rotation.rotate(image, token, head, direction);
                }
            }
        });
        Ok(y)
    }
}

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        debug_assert_eq!(layout.shape().dims().first(), Some(&self.lay.b));
        let x = slices::values(self.name(), x, layout)?;
        Ok(slices::output(self.run(x, Direction::Forward)?, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, d_y: &Tensor) -> CandleResult<Option<Tensor>> {
        let d_y = d_y.contiguous()?;
        let d_x = self.run(&slices::borrow(&d_y)?, Direction::Back)?;
        Ok(Some(slices::tensor(d_x, x.shape())?))
    }
}
