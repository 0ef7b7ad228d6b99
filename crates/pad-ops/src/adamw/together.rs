//! Work on many tensors of a CUDA device in a launch or two.

use candle_core::{DType, Device, Tensor};

use super::{
    device::{self, Entry, Judging},
    step::AdamWStep,
};
use crate::{
    Result, check,
    device::{Fetch, fetch},
    gpu,
};

/// Returns the sum of squares of each tensor, in f64: on a CUDA device two launches and one
/// transfer over all of them, in chunks of a fixed size, so that a run gives the same bits twice.
/// `None` if any of them is elsewhere, of another dtype than f32, empty or not contiguous.
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let on_the_cpu = Tensor::new(&[3_f32, 4.0], &Device::Cpu)?;
/// assert_eq!(pad_ops::sums_of_squares(&[&on_the_cpu])?, None); // `Some([25.0])` on a CUDA device
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn sums_of_squares(tensors: &[&Tensor]) -> Result<Option<Vec<f64>>> {
    if tensors.is_empty() || !tensors.iter().all(|tensor| fits(tensor)) {
        return Ok(None);
    }
    match device::norms(tensors, None)? {
        Some([squares, _]) => Ok(Some(squares.to_device(&Device::Cpu)?.to_vec1::<f64>()?)),
        None => Ok(None),
    }
}

/// The norms of a step's gradients, and what follows from them, on the gradients' CUDA device: the
/// host need not wait for them before the update.
#[derive(Debug)]
pub struct DeviceNorms {
    /// f64 (3): norm, factor, whether all is finite.
    verdict: Tensor,
    squares: Tensor,
}

/// What [`DeviceNorms`] found, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct StepNorms {
    /// The norm of all gradients times the factor, before clipping.
    pub norm: f64,
    /// What gradients are multiplied by, after clipping.
    pub factor: f64,
    /// Whether each gradient's norm and all losses are finite; if not, nothing was updated.
    pub finite: bool,
    /// The sum of squares of each gradient, without the factor.
    pub squares: Vec<f64>,
}

/// [`StepNorms`] on their way to the host.
#[derive(Debug)]
pub struct ComingNorms(Fetch);

impl DeviceNorms {
    /// Enqueues the norms of `gradients`, which are to be multiplied by `factor` and clipped to
    /// `max_norm` (of `clip_grad_norm_`), in two launches. `None` if any of them is elsewhere, of
    /// another dtype than f32, empty or not contiguous.
    ///
    /// # Shapes
    /// `losses`: scalars of f32.
    ///
    /// # Errors
    /// Any error of candle.
    pub fn enqueue(
        gradients: &[&Tensor],
        losses: &[&Tensor],
        factor: f64,
        max_norm: Option<f64>,
    ) -> Result<Option<Self>> {
        let scalar = |loss: &&Tensor| loss.dtype() == DType::F32 && loss.elem_count() == 1;
        let here = |tensor: &&Tensor| fits(tensor);
        if gradients.is_empty() || !gradients.iter().chain(losses).all(here) {
            return Ok(None);
        }
        if !losses.iter().all(scalar) {
            return Ok(None);
        }
        let losses = losses.iter().map(|loss| loss.detach().reshape(1));
        let losses: Vec<Tensor> = losses.collect::<candle_core::Result<_>>()?;
        let losses = match &losses[..] {
            [] => None,
            [one] => Some(one.clone()),
            many => Some(Tensor::cat(many, 0)?),
        };
        let judging = Judging { losses: losses.as_ref(), factor, max_norm };
        let made = device::norms(gradients, Some(&judging))?;
        Ok(made.map(|[squares, verdict]| Self { verdict, squares }))
    }

    /// Begins to copy the numbers to the host.
    ///
    /// # Errors
    /// Any error of candle.
    pub fn fetch(&self) -> Result<ComingNorms> {
        Ok(ComingNorms(fetch(&[&self.verdict, &self.squares])?))
    }
}

impl ComingNorms {
    /// Waits for the numbers.
    ///
    /// # Errors
    /// Any error of candle.
    pub fn wait(self) -> Result<StepNorms> {
        let numbers = self.0.wait()?;
        match &numbers[..] {
            [verdict, squares] if verdict.len() == 3 => Ok(StepNorms {
                norm: verdict[0],
                factor: verdict[1],
                finite: verdict[2] == 1.0,
                squares: squares.clone(),
            }),
            _ => Err(candle_core::Error::Msg("norms: numbers are missing".into()).into()),
        }
    }
}

fn fits(tensor: &Tensor) -> bool {
    tensor.dtype() == DType::F32 && tensor.is_contiguous() && gpu::has_kernel([tensor])
}

/// Steps of AdamW of many parameters that are taken together, in place: one launch instead of two
/// and a copy each. See [`adamw_step`](crate::adamw_step) for the formula.
///
/// Every handle on a parameter or a moment sees its new values.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{AdamWStep, AdamWSteps};
/// # let step = AdamWStep {
/// #     keep: 1.0,
/// #     toward: 0.1,
/// #     beta2: 0.99,
/// #     step_size: 5.0,
/// #     root_correction: 0.1,
/// #     eps: 0.0,
/// #     gradient_factor: 1.0,
/// # };
/// let p = Tensor::new(&[1_f32], &Device::Cpu)?;
/// let gradient = Tensor::new(&[2_f32], &Device::Cpu)?;
/// let (mean, square) = (p.zeros_like()?, p.zeros_like()?);
/// let mut steps = AdamWSteps::new();
/// // On the CPU nothing is taken together: `adamw_step` does it.
/// assert!(!steps.push(&p, &gradient, [&mean, &square], &step)?);
/// steps.run()?;
/// assert_eq!(p.to_vec1::<f32>()?, [1.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
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
        Ok(device::many(&self.0, None)?)
    }

    /// Takes all steps with the factor of `norms` in place of their own, or none where those are not
    /// finite: the device decides, and the host does not wait.
    ///
    /// # Errors
    /// Any error of candle; then nothing was changed.
    pub fn run_if_finite(self, norms: &DeviceNorms) -> Result<()> {
        Ok(device::many(&self.0, Some(&norms.verdict))?)
    }

    /// The number of steps.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no step was added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
