//! Averages of the weights over the steps of a run.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::{Error, Parameter, Result};

/// Settings of [`Ema`].
///
/// ```
/// use pad_train::EmaConfig;
/// assert_eq!(EmaConfig::default(), EmaConfig { decay: 0.9999, warmup: true });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// Maximum share of the average that a step keeps; 0 to below 1. 0.9999.
    pub decay: f64,
    /// Whether early steps keep less: `1 - (1 + step)^(-2/3)` up to `decay`, as in timm's
    /// `ModelEmaV3` with warm-up. Without it the first values stay in the average for
    /// `1 / (1 - decay)` steps. True.
    pub warmup: bool,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self { decay: 0.9999, warmup: true }
    }
}

impl EmaConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Settings`].
    ///
    /// ```
    /// use pad_train::EmaConfig;
    /// assert!(EmaConfig { decay: 1.0, ..Default::default() }.validate().is_err());
    /// ```
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if !(0.0..1.0).contains(&self.decay) {
            faults.push(format!("`decay` of the average is {}, expected 0 to below 1", self.decay));
        }
        Error::settings(faults)
    }

    /// Returns the share of the average that step number `step` (from 1) keeps; 0 in the first.
    ///
    /// ```
    /// use pad_train::EmaConfig;
    /// let config = EmaConfig { decay: 0.9, warmup: true };
    /// assert_eq!((config.decay_at(1), config.decay_at(8), config.decay_at(10_000)), (0.0, 0.75, 0.9));
    /// ```
    pub fn decay_at(&self, step: usize) -> f64 {
        if step <= 1 {
            return 0.0;
        }
        match self.warmup {
            true => self.decay.min(1.0 - (step as f64).powf(-2.0 / 3.0)),
            false => self.decay,
        }
    }
}

/// Exponential averages of parameters: `average = decay * average + (1 - decay) * weight` after
/// each step.
///
/// [`Trainer::with_ema`](crate::Trainer::with_ema) keeps one in step with a run.
///
/// ```
/// use pad_train::{Ema, EmaConfig, Parameter, candle_core::{Device, Tensor, Var}};
/// let x = Var::new(&[0_f32], &Device::Cpu)?;
/// let parameters = [Parameter::new("x", x.clone())];
/// let mut ema = Ema::new(&parameters, EmaConfig { decay: 0.5, warmup: false })?;
/// for (step, value) in [(1, 8_f32), (2, 4.0)] {
///     x.set(&Tensor::new(&[value], &Device::Cpu)?)?;
///     ema.update(step)?; // 8, then (8 + 4) / 2
/// }
/// ema.swap()?;
/// assert_eq!(x.to_vec1::<f32>()?, [6.0]); // the model computes with the average
/// ema.swap()?;
/// assert_eq!(x.to_vec1::<f32>()?, [4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Ema {
    config: EmaConfig,
    parameters: Vec<Parameter>,
    averages: Vec<Tensor>,
    in_place: bool,
}

impl Ema {
    /// Creates averages that start at the parameters' values.
    ///
    /// # Errors
    /// [`Error::Settings`]; [`Error::Candle`] if a variable cannot be copied.
    pub fn new(parameters: &[Parameter], config: EmaConfig) -> Result<Self> {
        config.validate()?;
        let copies = parameters.iter().map(copy).collect::<Result<_>>()?;
        Ok(Self { config, parameters: parameters.to_vec(), averages: copies, in_place: false })
    }

    /// Returns the settings.
    ///
    /// ```
    /// use pad_train::{Ema, EmaConfig};
    /// assert_eq!(Ema::new(&[], EmaConfig::default())?.config().decay, 0.9999);
    /// # Ok::<(), pad_train::Error>(())
    /// ```
    pub fn config(&self) -> EmaConfig {
        self.config
    }

    /// Updates the averages with the weights after step number `step` (from 1).
    ///
    /// # Errors
    /// [`Error::Candle`].
    pub fn update(&mut self, step: usize) -> Result<()> {
        let fresh = 1.0 - self.config.decay_at(step);
        for (parameter, average) in self.parameters.iter().zip(&mut self.averages) {
            let wrap = Error::candle("average of", &parameter.name);
            let moved = match fresh {
                1.0 => parameter.var.copy(),
                _ => (parameter.var.as_tensor() - &*average)
                    .and_then(|off| &*average + (off * fresh)?),
            };
            *average = moved.map_err(wrap)?.detach();
        }
        Ok(())
    }

    /// Exchanges weights and averages: the model computes with the averages until the next call.
    ///
    /// # Errors
    /// [`Error::Candle`].
    pub fn swap(&mut self) -> Result<()> {
        for (parameter, average) in self.parameters.iter().zip(&mut self.averages) {
            let weight = copy(parameter)?;
            let set = parameter.var.set(average);
            set.map_err(Error::candle("average of", &parameter.name))?;
            *average = weight;
        }
        self.in_place = !self.in_place;
        Ok(())
    }

    /// Returns whether the model computes with the averages now.
    ///
    /// ```
    /// use pad_train::{Ema, EmaConfig};
    /// let mut ema = Ema::new(&[], EmaConfig::default())?;
    /// assert!(!ema.in_place());
    /// ema.swap()?;
    /// assert!(ema.in_place());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn in_place(&self) -> bool {
        self.in_place
    }

    /// Returns the averages by name.
    ///
    /// # Errors
    /// [`Error::Candle`] if a variable cannot be copied.
    ///
    /// ```
    /// use pad_train::{Ema, EmaConfig, Parameter, candle_core::{Device, Var}};
    /// let parameters = [Parameter::new("x", Var::new(&[3_f32], &Device::Cpu)?)];
    /// let averages = Ema::new(&parameters, EmaConfig::default())?.averages()?;
    /// assert_eq!(averages["x"].to_vec1::<f32>()?, [3.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn averages(&self) -> Result<BTreeMap<String, Tensor>> {
        let named = self.parameters.iter().zip(&self.averages);
        let value = |(parameter, average): (&Parameter, &Tensor)| {
            let value = if self.in_place { copy(parameter)? } else { average.clone() };
            Ok((parameter.name.clone(), value))
        };
        named.map(value).collect()
    }

    /// Loads saved values, one for each parameter, in order. The variables hold the weights that
    /// belong to them already.
    pub(crate) fn assign(&mut self, averages: Vec<Tensor>) {
        self.in_place = false;
        self.averages = averages;
    }
}

fn copy(parameter: &Parameter) -> Result<Tensor> {
    let copied = parameter.var.copy().map(|tensor| tensor.detach());
    copied.map_err(Error::candle("copying", &parameter.name))
}
