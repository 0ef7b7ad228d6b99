//! One parameter's step of AdamW (Loshchilov and Hutter, arXiv 1711.05101), with PyTorch's order of operations.

mod device;
mod reference;

use candle_core::Tensor;

use crate::{Result, check, gpu};
pub use reference::adamw_step_reference;

/// Numbers of a parameter's step, its `t`-th with the rate `lr`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// `1 − lr · weight_decay`.
    pub keep: f64,
    /// `1 − β1`.
    pub toward: f64,
    /// `β2`.
    pub beta2: f64,
    /// `lr / (1 − β1^t)`.
    pub step_size: f64,
    /// `√(1 − β2^t)`.
    pub root_correction: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// What the gradient is to be multiplied by first.
    pub gradient_factor: f64,
}

/// What a step makes of a parameter and its moments.
#[derive(Clone, Debug)]
pub struct AdamWUpdate {
    /// The parameter.
    pub p: Tensor,
    /// Mean of gradients.
    pub exp_avg: Tensor,
    /// Mean of squared gradients.
    pub exp_avg_sq: Tensor,
}

/// ```text
/// g ← g · gradient_factor
/// m ← m + (g − m) · (1 − β1)
/// v ← v · β2 + (1 − β2) · g · g
/// p ← p · keep − step_size · m / (√v / root_correction + ε)
/// ```
/// Nothing of it tracks a gradient. Two kernels on a CUDA device in f32; elsewhere composed of candle's operations.
///
/// # Shapes
/// All four of one shape and floating dtype.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), `DType` or `Device` for tensors that do not belong together.
pub fn adamw_step(
    p: &Tensor,
    gradient: &Tensor,
    exp_avg: &Tensor,
    exp_avg_sq: &Tensor,
    step: &AdamWStep,
) -> Result<AdamWUpdate> {
    const OP: &str = "adamw_step";
    check::expect_float(OP, "p", p)?;
    for (name, tensor) in [("gradient", gradient), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)]
    {
        check::expect_shape(OP, name, tensor, p.dims())?;
        check::expect_like(OP, name, tensor, p)?;
    }
    let wide = p.dtype() == candle_core::DType::F32;
    if wide && gpu::has_kernel(p) {
        let (p, gradient) = (p.detach(), gradient.detach());
        return Ok(device::apply(&p, &gradient, [exp_avg, exp_avg_sq], step)?);
    }
    adamw_step_reference(p, gradient, exp_avg, exp_avg_sq, step)
}
