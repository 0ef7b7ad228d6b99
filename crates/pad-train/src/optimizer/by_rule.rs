//! An optimiser from the formula of one parameter's update.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result as CandleResult, Tensor};

use super::{
    Optimizer, StepReport, check_gradients, check_lr, check_parameters, check_state,
    rule::{UpdateNumbers, UpdateRule},
};
use crate::{Error, Gradients, Parameter, Result};

const STEP: &str = "step";
const MASTER: &str = "master";

/// The optimiser whose formula is the rule `R`, over a list of parameters.
///
/// Buffers are f32 (f64 for f64 variables). A variable of half precision keeps an f32 copy of itself
/// here, because updates of 1e-4 of a weight would be rounded away.
///
/// ```
/// use pad_train::{Gradients, Lion, LionConfig, Parameter, candle_core::{Device, Var}};
/// let x = Var::new(&[1_f32], &Device::Cpu)?;
/// let mut lion = Lion::new(vec![Parameter::new("x", x.clone())], LionConfig::default())?;
/// let gradient = x.ones_like()?;
/// lion.step(&Gradients::new(vec![Some(gradient)]), 0.5, 0)?;
/// assert_eq!(lion.state()?["x.step"].to_scalar::<i64>()?, 1);
/// assert_eq!(x.to_vec1::<f32>()?, [0.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ByRule<R> {
    parameters: Vec<Parameter>,
    slots: Vec<Slot>,
    rule: R,
}

/// The state of one parameter.
#[derive(Clone, Debug)]
struct Slot {
    /// Updates so far.
    step: u64,
    buffers: Vec<Tensor>,
    master: Option<Tensor>,
}

impl Slot {
    fn new(var: &Tensor, buffers: usize) -> CandleResult<Self> {
        let dtype = if var.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let zeros = || Tensor::zeros(var.shape(), dtype, var.device());
        let half = matches!(var.dtype(), DType::F16 | DType::BF16);
        let master = if half { Some(var.detach().to_dtype(DType::F32)?) } else { None };
        Ok(Self {
            step: 0,
            buffers: (0..buffers).map(|_| zeros()).collect::<Result<_, _>>()?,
            master,
        })
    }

    fn update<R: UpdateRule>(
        &mut self,
        parameter: &Parameter,
        rule: &R,
        (gradient, factor): (&Tensor, f64),
        lr: f64,
    ) -> CandleResult<()> {
        let var = &parameter.var;
        let p = self.master.clone().unwrap_or_else(|| var.detach());
        let gradient = gradient.detach().to_dtype(p.dtype())?;
        let gradient = if factor == 1.0 { gradient } else { (gradient * factor)? };
        let numbers =
            UpdateNumbers::new(lr * parameter.lr_factor, parameter.weight_decay, self.step + 1);
        let moved = rule.update(&p, &gradient, &mut self.buffers, &numbers)?.detach();
        self.buffers.iter_mut().for_each(|buffer| *buffer = buffer.detach());
        var.set(&moved.to_dtype(var.dtype())?)?;
        if self.master.is_some() {
            self.master = Some(moved);
        }
        self.step += 1;
        Ok(())
    }
}

impl<R: UpdateRule> ByRule<R> {
    /// Creates an optimiser without history.
    ///
    /// # Errors
    /// [`Error::Settings`] for numbers out of range (of the rule, of a parameter),
    /// [`Error::DuplicateParameter`] for a name or variable that comes twice,
    /// [`Error::ParameterDType`] for a variable that is not of a float dtype, [`Error::Candle`] if
    /// memory runs out.
    ///
    /// ```
    /// use pad_train::{Sgd, SgdConfig};
    /// let refused = Sgd::new(vec![], SgdConfig { momentum: f64::NAN, ..Default::default() });
    /// assert_eq!(
    ///     refused.unwrap_err().to_string(),
    ///     "settings: `momentum` is NaN, expected 0 <= momentum < 1"
    /// );
    /// ```
    pub fn new(parameters: Vec<Parameter>, rule: R) -> Result<Self> {
        Error::settings(rule.faults().into_vec())?;
        check_parameters(&parameters)?;
        let names = rule.buffers();
        let clashes = |(at, name): (usize, &&str)| {
            [STEP, MASTER].contains(name) || names[..at].contains(name)
        };
        if let Some((_, name)) = names.iter().enumerate().find(|&(at, name)| clashes((at, name))) {
            let what = "expected distinct names other than `step` and `master`";
            return Err(Error::Settings { faults: vec![format!("buffer `{name}`, {what}")] });
        }
        let buffers = names.len();
        let slots = parameters.iter().map(|parameter| {
            Slot::new(parameter.var.as_tensor(), buffers)
                .map_err(Error::candle("state of", &parameter.name))
        });
        Ok(Self { slots: slots.collect::<Result<_>>()?, parameters, rule })
    }

    /// Returns the parameters, in the order of gradients.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Returns the rule, with its settings.
    ///
    /// ```
    /// use pad_train::{Sgd, SgdConfig};
    /// assert_eq!(Sgd::new(vec![], SgdConfig::default())?.config().momentum, 0.9);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn config(&self) -> &R {
        &self.rule
    }

    /// Returns the number of updates of parameter `index` so far: fewer than the run's steps for
    /// one that was frozen.
    pub fn steps_of(&self, index: usize) -> Option<u64> {
        self.slots.get(index).map(|slot| slot.step)
    }

    /// Updates every parameter that trains in `epoch` and has a gradient, see [`Optimizer::step`].
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    pub fn step(&mut self, gradients: &Gradients, lr: f64, epoch: usize) -> Result<StepReport> {
        check_lr(lr)?;
        let grad_norm = check_gradients(&self.parameters, gradients, epoch)?;
        let mut report = StepReport::new(grad_norm, 0, 0);
        let doing = format!("{} step of", self.rule.name());
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
            slot.update(parameter, &self.rule, (gradient, gradients.factor()), lr)
                .map_err(Error::candle(&doing, &parameter.name))?;
            report.updated += 1;
        }
        Ok(report)
    }

    /// Returns all that must be saved to resume: for each parameter `NAME.BUFFER` for every buffer of
    /// the rule (its shape), `NAME.step` (i64 scalar) and, for half precision, `NAME.master` (f32).
    ///
    /// # Errors
    /// [`Error::Candle`] if memory runs out.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for (parameter, slot) in self.parameters.iter().zip(&self.slots) {
            let name = &parameter.name;
            let step = i64::try_from(slot.step).unwrap_or(i64::MAX);
            let step = Tensor::new(step, &Device::Cpu).map_err(Error::candle("state of", name))?;
            state.insert(format!("{name}.{STEP}"), step);
            for (buffer, tensor) in self.rule.buffers().iter().zip(&slot.buffers) {
                state.insert(format!("{name}.{buffer}"), tensor.clone());
            }
            if let Some(master) = &slot.master {
                state.insert(format!("{name}.{MASTER}"), master.clone());
            }
        }
        Ok(state)
    }

    /// Loads a saved [`ByRule::state`] of the same parameters.
    ///
    /// # Errors
    /// As [`Optimizer::load_state`].
    ///
    /// ```
    /// use pad_train::{Gradients, Parameter, Sgd, SgdConfig, candle_core::{Device, Var}};
    /// let x = Var::new(&[1_f32], &Device::Cpu)?;
    /// let sgd = || Sgd::new(vec![Parameter::new("x", x.clone())], SgdConfig::default());
    /// let mut first = sgd()?;
    /// let gradient = x.ones_like()?;
    /// first.step(&Gradients::new(vec![Some(gradient)]), 0.5, 0)?;
    /// let mut second = sgd()?; // in another process, which resumes
    /// second.load_state(&first.state()?)?;
    /// assert_eq!((second.parameters().len(), second.steps_of(0)), (1, Some(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        check_state(&self.state()?, state)?;
        let slots = self.parameters.iter().zip(&self.slots).map(|(parameter, slot)| {
            self.restored(parameter, slot, state)
                .map_err(Error::candle("state of", &parameter.name))
        });
        self.slots = slots.collect::<Result<_>>()?;
        Ok(())
    }

    /// The slot that `state` describes, whose entries are known to fit.
    fn restored(
        &self,
        parameter: &Parameter,
        slot: &Slot,
        state: &BTreeMap<String, Tensor>,
    ) -> CandleResult<Slot> {
        let entry = |suffix: &str| {
            let name = format!("{}.{suffix}", parameter.name);
            state.get(&name).ok_or(candle_core::Error::CannotFindTensor { path: name })
        };
        let device = parameter.var.device();
        let buffers = self.rule.buffers();
        let buffers = buffers.iter().map(|name| entry(name)?.to_device(device)?.copy());
        let master = slot.master.as_ref().map(|_| entry(MASTER)?.to_device(device)?.copy());
        let step = u64::try_from(entry(STEP)?.to_scalar::<i64>()?).unwrap_or(0);
        Ok(Slot {
            step,
            buffers: buffers.collect::<CandleResult<_>>()?,
            master: master.transpose()?,
        })
    }
}

impl<R: UpdateRule> Optimizer for ByRule<R> {
    fn parameters(&self) -> &[Parameter] {
        self.parameters()
    }

    fn step(&mut self, gradients: &Gradients, lr: f64, epoch: usize) -> Result<StepReport> {
        self.step(gradients, lr, epoch)
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.state()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.load_state(state)
    }
}
