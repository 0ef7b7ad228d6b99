//! Forward and backward of a case.

use candle_core::{DType, Result, Tensor, Var, backprop::GradStore};
use pad_testkit::numbers;

use crate::cases::{Case, Op, Sizes};

pub(crate) fn operands(case: &Case, sizes: &Sizes, dtype: DType) -> Vec<Tensor> {
    (case.shapes)(sizes)
        .iter()
        .enumerate()
        .map(|(i, shape)| numbers(shape, dtype, i as u64))
        .collect()
}

/// Output and the gradient to every operand, of a loss with a residual.
pub(crate) fn run(op: Op, operands: &[Tensor]) -> Result<Run> {
    run_with(op, operands)
}

pub(crate) type Run = (Tensor, Vec<Option<Tensor>>);

pub(crate) fn run_with(
    op: impl Fn(&[Tensor]) -> Result<Tensor>,
    operands: &[Tensor],
) -> Result<Run> {
    let vars: Vec<Var> = operands.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let out = op(&tracked)?;
    let probe = numbers(out.dims(), out.dtype(), 77);
    let mut loss = (&out * probe)?.sum_all()?;
    for tensor in &tracked {
        loss = (loss + (tensor.sqr()? * 0.1)?.sum_all()?)?;
    }
    let grads: GradStore = loss.backward()?;
    let grads = vars.iter().map(|v| grads.get(v.as_tensor()).cloned()).collect();
    Ok((out.detach(), grads))
}
