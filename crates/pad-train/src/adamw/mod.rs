//! AdamW (Loshchilov and Hutter, arXiv 1711.05101), with PyTorch's order of operations.
//!
//! For a parameter `p` with gradient `g`, its own step count `t` (from 1) and rate
//! `lr = run's lr · lr_factor`:
//! ```text
//! p ← p · (1 − lr · weight_decay)
//! m ← m + (g − m) · (1 − β1)
//! v ← v · β2 + (1 − β2) · g · g
//! p ← p − lr / (1 − β1^t) · m / (√v / √(1 − β2^t) + ε)
//! ```
//! A parameter without gradient, or frozen in this epoch, is not touched: no decay, no step
//! counted.
//!
//! Contiguous f32 variables on the CPU are updated in one pass over parameter, gradient and both
//! moments, those on a CUDA device all in one launch ([`AdamWSteps`]); all others by
//! [`pad_ops::adamw_step`]. Moments are f32 (f64 for f64 variables). A
//! variable of half precision keeps an f32 copy of itself here, because updates of 1e-4 of a weight
//! would be rounded away.

mod begin;
mod composed;
mod fused;
mod slot;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use pad_ops::{AdamWStep, AdamWSteps};
use serde::{Deserialize, Serialize};

// Also for the checkpoints.
pub(crate) use crate::optimizer::describe;
use crate::{
    Error, Gradients, Optimizer, Parameter, Result, StepReport,
    optimizer::{
        StepBegun, check_gradients, check_lr, check_parameters, check_shapes, check_state,
    },
};
use slot::Slot;

/// Settings of [`AdamW`]; rates and decays come with the parameters.
///
/// ```
/// use pad_train::AdamWConfig;
/// let pytorch = AdamWConfig { beta2: 0.999, ..AdamWConfig::default() };
/// assert!(pytorch.validate().is_ok());
/// assert_eq!(
///     AdamWConfig { eps: -1.0, ..pytorch }.validate().unwrap_err().to_string(),
///     "settings: `eps` is -1, expected a finite number > 0"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients. 0.9.
    pub beta1: f64,
    /// Decay of the mean of squared gradients. 0.95, as MAE.
    pub beta2: f64,
    /// Added to the root of the second moment. 1e-8.
    pub eps: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8 }
    }
}

impl AdamWConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Settings`] with every fault.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                faults.push(format!("`{name}` is {beta}, expected 0 <= {name} < 1"));
            }
        }
        if !(self.eps > 0.0 && self.eps.is_finite()) {
            faults.push(format!("`eps` is {}, expected a finite number > 0", self.eps));
        }
        Error::settings(faults)
    }
}

/// AdamW over a list of parameters.
///
/// ```
/// use candle_core::{Device, Var};
/// use pad_train::{AdamW, AdamWConfig, Gradients, Parameter};
/// let x = Var::new(&[1_f32, -1.0], &Device::Cpu)?;
/// let mut adamw = AdamW::new(vec![Parameter::new("x", x.clone())], AdamWConfig::default())?;
/// let gradients = Gradients::new(vec![Some(x.as_tensor().affine(2.0, 0.0)?)]);
/// let report = adamw.step(&gradients, 0.25, 0)?; // the first step is `lr` long
/// assert_eq!((report.updated, adamw.steps_of(0)), (1, Some(1)));
/// assert!((x.to_vec1::<f32>()?[0] - 0.75).abs() < 1e-6);
/// let names: Vec<String> = adamw.state()?.into_keys().collect();
/// assert_eq!(names, ["x.exp_avg", "x.exp_avg_sq", "x.step"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<Parameter>,
    slots: Vec<Slot>,
    config: AdamWConfig,
}

impl AdamW {
    /// Creates an optimiser without history.
    ///
    /// # Errors
    /// [`Error::Settings`] for numbers out of range (of the settings, of a parameter),
    /// [`Error::DuplicateParameter`] for a name or variable that comes twice,
    /// [`Error::ParameterDType`] for a variable that is not of a float dtype, [`Error::Candle`] if
    /// memory runs out.
    pub fn new(parameters: Vec<Parameter>, config: AdamWConfig) -> Result<Self> {
        Self::with_fused(parameters, config, true)
    }

    /// `allow_fused = false` is for the test that both ways agree.
    fn with_fused(
        parameters: Vec<Parameter>,
        config: AdamWConfig,
        allow_fused: bool,
    ) -> Result<Self> {
        config.validate()?;
        check_parameters(&parameters)?;
        let slots = parameters.iter().map(|parameter| Slot::new(parameter, allow_fused));
        Ok(Self { slots: slots.collect::<Result<_>>()?, parameters, config })
    }

    /// Returns the parameters, in the order of gradients.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Returns the settings.
    pub fn config(&self) -> AdamWConfig {
        self.config
    }

    /// Returns the number of updates of parameter `index` so far: fewer than the run's steps for
    /// one that was frozen.
    pub fn steps_of(&self, index: usize) -> Option<u64> {
        self.slots.get(index).map(|slot| slot.step)
    }

    /// Updates every parameter that trains in `epoch` and has a gradient; `lr` is the run's rate at
    /// this step.
    ///
    /// # Errors
    /// [`Error::LearningRate`] for a rate that is negative or not finite, [`Error::GradientCount`],
    /// [`Error::GradientShape`], [`Error::NonFiniteGradient`]: nothing was modified.
    /// [`Error::Candle`] if candle fails midway.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, epoch: usize) -> Result<StepReport> {
        check_lr(lr)?;
        let grad_norm = check_gradients(&self.parameters, gradients, epoch)?;
        let mut report = StepReport::new(grad_norm, 0, 0);
        let factor = gradients.factor();
        let mut together = AdamWSteps::new();
        for ((parameter, slot), gradient) in
            self.parameters.iter().zip(&mut self.slots).zip(gradients.raw())
        {
            if !parameter.trains_in(epoch) {
                continue;
            }
            let Some(gradient) = gradient else {
                report.without_gradient += 1;
                continue;
            };
            slot.step += 1;
            let step = step_of(&self.config, parameter, lr, slot.step, factor);
            slot.moments
                .update(parameter, gradient, &step, &mut together)
                .map_err(Error::candle("AdamW step of", &parameter.name))?;
            report.updated += 1;
        }
        let taken = together.run();
        taken.map_err(|error| Error::candle("AdamW step of", "all parameters")(error.into()))?;
        Ok(report)
    }

    /// See [`Optimizer::begin_step`]: on a CUDA device norm, clipping and the steps of all parameters
    /// are three launches; on the CPU, where there is nothing to wait for, all is done at once.
    fn begin_step(
        &mut self,
        gradients: &Gradients,
        losses: &[&Tensor],
        clip_norm: Option<f64>,
        lr: f64,
        epoch: usize,
    ) -> Result<Option<StepBegun>> {
        check_lr(lr)?;
        check_shapes(&self.parameters, gradients, epoch)?;
        let on_host = |tensor: &Tensor| tensor.device().is_cpu();
        if gradients.raw().iter().flatten().all(on_host) && losses.iter().all(|loss| on_host(loss))
        {
            return self.step_with_losses(gradients, losses, clip_norm, lr, epoch).map(Some);
        }
        let Self { parameters, slots, config } = self;
        let factor = gradients.factor();
        let numbers = |parameter: &Parameter, t| step_of(config, parameter, lr, t, factor);
        begin::enqueue(parameters, slots, numbers, gradients, losses, clip_norm, epoch)
    }

    /// The same on the host.
    fn step_with_losses(
        &mut self,
        gradients: &Gradients,
        losses: &[&Tensor],
        clip_norm: Option<f64>,
        lr: f64,
        epoch: usize,
    ) -> Result<StepBegun> {
        let mut gradients = gradients.clone();
        let norm = match clip_norm {
            Some(max_norm) => gradients.clip(max_norm)?,
            None => gradients.global_norm()?,
        };
        for loss in losses {
            let value = loss.to_dtype(DType::F64).and_then(|loss| loss.to_scalar::<f64>());
            if !value.map_err(Error::candle("reading loss", "total"))?.is_finite() {
                let checked = check_gradients(&self.parameters, &gradients, epoch);
                return Ok(StepBegun::done(checked.map(|_| StepReport::new(norm, 0, 0))));
            }
        }
        let report = self.step(&gradients, lr, epoch);
        Ok(StepBegun::done(report.map(|report| StepReport { grad_norm: norm, ..report })))
    }

    /// Returns all that must be saved to resume: for each parameter `NAME.exp_avg`,
    /// `NAME.exp_avg_sq` (its shape), `NAME.step` (i64 scalar) and, for half precision,
    /// `NAME.master` (f32).
    ///
    /// # Errors
    /// [`Error::Candle`] if memory runs out.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for (parameter, slot) in self.parameters.iter().zip(&self.slots) {
            let entries = slot.tensors(parameter);
            for (suffix, tensor) in entries.map_err(Error::candle("state of", &parameter.name))? {
                state.insert(format!("{}.{suffix}", parameter.name), tensor);
            }
        }
        Ok(state)
    }

    /// Loads a saved [`AdamW::state`] of the same parameters.
    ///
    /// # Errors
    /// [`Error::Tensors`] with everything missing, unexpected or of another shape; then nothing was
    /// changed. [`Error::Candle`] if a tensor cannot be copied.
    ///
    /// ```
    /// use pad_train::{AdamW, AdamWConfig, Gradients, Parameter, candle_core::{Device, Var}};
    /// let x = Var::new(&[1_f32], &Device::Cpu)?;
    /// let adamw = || AdamW::new(vec![Parameter::new("x", x.clone())], AdamWConfig::default());
    /// let mut first = adamw()?;
    /// let gradient = x.ones_like()?;
    /// first.step(&Gradients::new(vec![Some(gradient)]), 0.1, 0)?;
    ///
    /// // Another process, which resumes.
    /// let mut second = adamw()?;
    /// second.load_state(&first.state()?)?;
    /// assert_eq!((second.parameters().len(), second.steps_of(0)), (1, Some(1)));
    /// assert_eq!(second.config(), first.config());
    /// let nothing = second.load_state(&Default::default()).unwrap_err().to_string();
    /// assert!(nothing.starts_with("optimizer state: 3 tensors missing (x.exp_avg"), "{nothing}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        check_state(&self.state()?, state)?;
        let slots = self.parameters.iter().zip(&self.slots).map(|(parameter, slot)| {
            slot.restored(parameter, state).map_err(Error::candle("state of", &parameter.name))
        });
        self.slots = slots.collect::<Result<_>>()?;
        Ok(())
    }
}

/// Numbers of a parameter's `step`-th update; see the formula above.
fn step_of(
    config: &AdamWConfig,
    parameter: &Parameter,
    lr: f64,
    step: u64,
    gradient_factor: f64,
) -> AdamWStep {
    let lr = lr * parameter.lr_factor;
    let t = step as f64;
    AdamWStep {
        keep: 1.0 - lr * parameter.weight_decay,
        toward: 1.0 - config.beta1,
        beta2: config.beta2,
        step_size: lr / (1.0 - config.beta1.powf(t)),
        root_correction: (1.0 - config.beta2.powf(t)).sqrt(),
        eps: config.eps,
        gradient_factor,
    }
}

impl Optimizer for AdamW {
    fn parameters(&self) -> &[Parameter] {
        self.parameters()
    }

    fn step(&mut self, gradients: &Gradients, lr: f64, epoch: usize) -> Result<StepReport> {
        self.step(gradients, lr, epoch)
    }

    fn begin_step(
        &mut self,
        gradients: &Gradients,
        losses: &[&Tensor],
        clip_norm: Option<f64>,
        lr: f64,
        epoch: usize,
    ) -> Result<Option<StepBegun>> {
        self.begin_step(gradients, losses, clip_norm, lr, epoch)
    }

    fn finish_step(&mut self, begun: StepBegun) -> Result<StepReport> {
        let Self { parameters, slots, .. } = self;
        begun.finish(parameters, |index| {
            if let Some(slot) = slots.get_mut(index) {
                slot.step = slot.step.saturating_sub(1);
            }
        })
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.state()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.load_state(state)
    }
}

#[cfg(test)]
mod tests;
