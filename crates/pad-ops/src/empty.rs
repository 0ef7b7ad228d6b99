//! Results without values: every operator takes empty operands, forward and backward.

use candle_core::{Result, Shape, Tensor};

/// Returns an empty tensor of `shape` that depends on every operand, so that a backward through it
/// finds a gradient of zeros for each. Operands may hold any values: none is read.
pub(crate) fn result(shape: impl Into<Shape>, operands: &[&Tensor]) -> Result<Tensor> {
    let shape = shape.into();
    debug_assert_eq!(shape.elem_count(), 0);
    let Some(first) = operands.first() else { candle_core::bail!("no operand") };
    // candle's sum of two empty tensors is the first of them, so the sum comes before the shape.
    let zero = Tensor::zeros((), first.dtype(), first.device())?;
    reaching(&zero, operands)?.broadcast_as(shape)
}

/// Returns `y`, which holds values, with a dependence of slope zero on every operand that tracks
/// something. What it holds is kept if the operands are empty; else it is of no account.
pub(crate) fn reaching(y: &Tensor, operands: &[&Tensor]) -> Result<Tensor> {
    let mut y = y.clone();
    for operand in operands.iter().filter(|operand| operand.track_op()) {
        // A tensor of zero: candle cuts the graph at a constant one.
        let sum = operand.sum_all()?;
        let zero = (&sum * sum.zeros_like()?)?;
        y = y.broadcast_add(&zero.to_dtype(y.dtype())?)?;
    }
    Ok(y)
}

/// Whether a tensor of this shape holds no values.
pub(crate) fn is_empty(dims: &[usize]) -> bool {
    dims.contains(&0)
}
