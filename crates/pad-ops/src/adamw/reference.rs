//! The step in candle's operations: every device, every floating dtype.

use candle_core::Tensor;

use super::step::{AdamWStep, AdamWUpdate};
use crate::Result;

/// [`adamw_step`](crate::adamw_step) composed of candle's operations.
///
/// # Shapes
/// All four of one shape and floating dtype.
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{AdamWStep, reference};
/// let step = AdamWStep {
///     keep: 0.5, // weight decay alone: the gradient counts nothing
///     toward: 0.1,
///     beta2: 0.99,
///     step_size: 1.0,
///     root_correction: 0.1,
///     eps: 1e-8,
///     gradient_factor: 0.0,
/// };
/// let (two, zero) = (Tensor::new(&[2_f64], &Device::Cpu)?, Tensor::new(&[0_f64], &Device::Cpu)?);
/// let moved = reference::adamw_step(&two, &two, &zero, &zero, &step)?;
/// assert_eq!(moved.p.to_vec1::<f64>()?, [1.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn adamw_step_reference(
    p: &Tensor,
    gradient: &Tensor,
    exp_avg: &Tensor,
    exp_avg_sq: &Tensor,
    step: &AdamWStep,
) -> Result<AdamWUpdate> {
    let g = (gradient.detach() * step.gradient_factor)?;
    let p = (p.detach() * step.keep)?;
    let m = (exp_avg + ((&g - exp_avg)? * step.toward)?)?;
    let v = ((exp_avg_sq * step.beta2)? + ((&g * (1.0 - step.beta2))? * &g)?)?;
    let denominator = ((v.sqrt()? / step.root_correction)? + step.eps)?;
    let p = (p - ((&m * step.step_size)? / denominator)?)?;
    Ok(AdamWUpdate { p, exp_avg: m, exp_avg_sq: v })
}
