//! One parameter's step of AdamW (Loshchilov and Hutter, arXiv 1711.05101), with PyTorch's order of
//! operations.

mod device;
mod reference;
mod step;
mod together;

use candle_core::Tensor;

use crate::{Result, check, gpu};
pub use reference::adamw_step_reference;
pub use step::{AdamWStep, AdamWUpdate};
pub use together::{AdamWSteps, ComingNorms, DeviceNorms, StepNorms, sums_of_squares};

/// ```text
/// g ← g · gradient_factor
/// m ← m + (g − m) · (1 − β1)
/// v ← v · β2 + (1 − β2) · g · g
/// p ← p · keep − step_size · m / (√v / root_correction + ε)
/// ```
/// Nothing of it tracks a gradient. Two kernels on a CUDA device in f32; elsewhere composed of
/// candle's operations.
///
/// # Shapes
/// All four of one shape and floating dtype.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), `DType` or `Device` for tensors that do not belong
/// together.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{AdamWStep, adamw_step};
/// // The first step (t = 1) of a parameter at 1 whose gradient is 1, at a rate of 0.5.
/// let (beta1, beta2, lr) = (0.9, 0.99, 0.5);
/// let step = AdamWStep {
///     keep: 1.0, // no weight decay
///     toward: 1.0 - beta1,
///     beta2,
///     step_size: lr / (1.0 - beta1),
///     root_correction: (1.0_f64 - beta2).sqrt(),
///     eps: 0.0,
///     gradient_factor: 1.0,
/// };
/// let (one, zero) = (Tensor::new(&[1_f64], &Device::Cpu)?, Tensor::new(&[0_f64], &Device::Cpu)?);
/// let moved = adamw_step(&one, &one, &zero, &zero, &step)?;
/// assert!((moved.p.to_vec1::<f64>()?[0] - 0.5).abs() < 1e-12); // the rate, whatever the gradient
/// assert!((moved.exp_avg.to_vec1::<f64>()?[0] - 0.1).abs() < 1e-12);
/// # Ok::<(), pad_ops::Error>(())
/// ```
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
    if wide && gpu::has_kernel([p, gradient, exp_avg, exp_avg_sq]) {
        let (p, gradient) = (p.detach(), gradient.detach());
        return Ok(device::apply(&p, &gradient, [exp_avg, exp_avg_sq], step)?);
    }
    adamw_step_reference(p, gradient, exp_avg, exp_avg_sq, step)
}
