//! Work on many tensors of a CUDA device in a launch or two.

use candle_core::{DType, Device, Tensor};

use super::{
    device::{self, Entry},
    step::AdamWStep,
};
use crate::{Result, check, gpu};

/// Returns the sum of squares of each tensor, in f64: on a CUDA device two launches and one
/// transfer over all of them, in chunks of a fixed size, so that a run gives the same bits twice.
/// `None` if any of them is elsewhere, of another dtype than f32, empty or not contiguous.
///
/// # Errors
/// Any error of candle.
pub fn sums_of_squares(tensors: &[&Tensor]) -> Result<Option<Vec<f64>>> {
    if tensors.is_empty() || !tensors.iter().all(|tensor| fits(tensor)) {
        return Ok(None);
    }
    match device::squares(tensors)? {
        Some(squares) => Ok(Some(squares.to_device(&Device::Cpu)?.to_vec1::<f64>()?)),
        None => Ok(None),
    }
}

fn fits(tensor: &Tensor) -> bool {
    tensor.dtype() == DType::F32 && tensor.is_contiguous() && gpu::has_kernel([tensor])
}

/// Steps of AdamW of many parameters that are taken together, in place: one launch instead of two
/// and a copy each. See [`adamw_step`](crate::adamw_step) for the formula.
///
/// Every handle on a parameter or a moment sees its new values.
#[derive(Debug, Default)]
pub struct AdamWSteps(Vec<Entry>);

impl AdamWSteps {
    /// Creates a list of no steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a parameter's step. Returns `false`, and adds nothing, if it cannot be taken here: a
    /// tensor is not on a CUDA device with kernels, of another dtype than f32, empty or not
    /// contiguous (a gradient may be), or the numbers that all share differ from those of the first
    /// (`toward`, `beta2`, `eps`, `gradient_factor`).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) or `Device` for tensors that do not belong together.
    pub fn push(
        &mut self,
        p: &Tensor,
        gradient: &Tensor,
        [exp_avg, exp_avg_sq]: [&Tensor; 2],
        step: &AdamWStep,
    ) -> Result<bool> {
        const OP: &str = "adamw_steps";
        let common = |step: &AdamWStep| {
            [step.toward, step.beta2, step.eps, step.gradient_factor].map(f64::to_bits)
        };
        let alike = self.0.first().is_none_or(|([first, ..], earlier)| {
            common(earlier) == common(step) && first.device().same_device(p.device())
        });
        let gradient = gradient.detach().contiguous()?;
        if !alike || ![p, &gradient, exp_avg, exp_avg_sq].into_iter().all(fits) {
            return Ok(false);
        }
        for (name, tensor) in
            [("gradient", &gradient), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)]
        {
            check::expect_shape(OP, name, tensor, p.dims())?;
            check::expect_like(OP, name, tensor, p)?;
        }
        self.0.push(([p.detach(), gradient, exp_avg.detach(), exp_avg_sq.detach()], *step));
        Ok(true)
    }

    /// Takes all steps.
    ///
    /// # Errors
    /// Any error of candle; then nothing was changed.
    pub fn run(self) -> Result<()> {
        Ok(device::many(&self.0)?)
    }
}
