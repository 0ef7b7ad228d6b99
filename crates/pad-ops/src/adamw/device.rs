//! AdamW by the kernels of `kernel.cu`.

use candle_core::{Result, Shape, Tensor};

use super::step::{AdamWStep, AdamWUpdate};
use crate::gpu::{self, BLOCK, Launch, Number, Source, int};

const SOURCE: Source = Source { name: "adamw", text: include_str!("kernel.cu") };

fn launch(function: &'static str, p: &Tensor, shape: Shape, factors: [f64; 4]) -> Result<Launch> {
    let mut numbers = vec![int(p.elem_count())?];
    numbers.extend(factors.map(|factor| Number::Float(factor as f32)));
    Ok(Launch {
        source: SOURCE,
        constants: Vec::new(),
        more: Vec::new(),
        function,
        values: p.dtype(),
        blocks: p.elem_count().div_ceil(BLOCK),
        numbers,
        output: (p.dtype(), shape),
    })
}

/// Both moments in one launch, the parameter in another: the new moments are two halves of one
/// array, which the optimiser keeps, and the parameter one of its own, which is free again when it
/// has been copied.
pub(super) fn apply(
    p: &Tensor,
    gradient: &Tensor,
    [exp_avg, exp_avg_sq]: [&Tensor; 2],
    step: &AdamWStep,
) -> Result<AdamWUpdate> {
    let factors = [step.gradient_factor, step.toward, step.beta2, 1.0 - step.beta2];
    let both = Shape::from([&[2], p.dims()].concat());
    let first = launch("adamw_moments", p, both, factors)?;
    let moments = gpu::run(&first, &[gradient, exp_avg, exp_avg_sq])?;
    let factors = [step.keep, step.step_size, step.root_correction, step.eps];
    let second = launch("adamw_step", p, p.shape().clone(), factors)?;
    Ok(AdamWUpdate {
        p: gpu::run(&second, &[p, &moments])?,
        exp_avg: moments.get(0)?,
        exp_avg_sq: moments.get(1)?,
    })
}
