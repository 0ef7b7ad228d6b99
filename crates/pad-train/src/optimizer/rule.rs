//! The formula of an optimiser: what it keeps of a parameter, and how it moves it.

use std::fmt;

use candle_core::{Result, Tensor};

/// Numbers of a parameter's update.
///
/// ```
/// use pad_train::{ByRule, Gradients, Parameter, UpdateRule};
/// use pad_train::candle_core::{self, Device, Tensor, Var};
/// use pad_train::optimizer::{RuleFaults, UpdateNumbers};
/// /// Descent whose rate falls as 1 / step.
/// #[derive(Debug)]
/// struct Falling;
/// impl UpdateRule for Falling {
///     fn name(&self) -> &'static str { "falling" }
///     fn faults(&self) -> RuleFaults { RuleFaults::default() }
///     fn buffers(&self) -> Vec<&'static str> { vec![] }
///     fn update(
///         &self, p: &Tensor, g: &Tensor, _: &mut [Tensor], numbers: &UpdateNumbers,
///     ) -> candle_core::Result<Tensor> {
///         p - (g * (numbers.lr / numbers.step as f64))?
///     }
/// }
/// let x = Var::new(&[1_f32], &Device::Cpu)?;
/// let mut falling = ByRule::new(vec![Parameter::new("x", x.clone())], Falling)?;
/// for expected in [0.5, 0.25] {
///     let gradient = x.ones_like()?;
///     falling.step(&Gradients::new(vec![Some(gradient)]), 0.5, 0)?;
///     assert_eq!(x.to_vec1::<f32>()?, [expected]);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct UpdateNumbers {
    /// Learning rate of the parameter: the run's rate times its factor.
    pub lr: f64,
    /// Its weight decay.
    pub weight_decay: f64,
    /// Number of this update of the parameter, from 1.
    pub step: u64,
}

impl UpdateNumbers {
    pub(super) fn new(lr: f64, weight_decay: f64, step: u64) -> Self {
        Self { lr, weight_decay, step }
    }
}

/// Faults of an optimiser's settings, one sentence each: name, found, expected.
///
/// ```
/// use pad_train::optimizer::RuleFaults;
/// let mut faults = RuleFaults::default();
/// faults.share("momentum", 1.5);
/// faults.positive("eps", f64::NAN);
/// faults.positive("alpha", 0.5);
/// assert_eq!(
///     faults.into_vec(),
///     ["`momentum` is 1.5, expected 0 <= momentum < 1", "`eps` is NaN, expected a finite number > 0"]
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFaults(Vec<String>);

impl RuleFaults {
    /// Adds a fault unless `0 <= value < 1`.
    ///
    /// ```
    /// let mut faults = pad_train::optimizer::RuleFaults::default();
    /// faults.share("beta1", 1.0);
    /// assert_eq!(faults.into_vec(), ["`beta1` is 1, expected 0 <= beta1 < 1"]);
    /// ```
    pub fn share(&mut self, name: &str, value: f64) {
        if !(0.0..1.0).contains(&value) {
            self.add(format!("`{name}` is {value}, expected 0 <= {name} < 1"));
        }
    }

    /// Adds a fault unless `value` is finite and greater than 0.
    ///
    /// ```
    /// let mut faults = pad_train::optimizer::RuleFaults::default();
    /// faults.positive("eps", 0.0);
    /// assert_eq!(faults.into_vec(), ["`eps` is 0, expected a finite number > 0"]);
    /// ```
    pub fn positive(&mut self, name: &str, value: f64) {
        if !(value > 0.0 && value.is_finite()) {
            self.add(format!("`{name}` is {value}, expected a finite number > 0"));
        }
    }

    /// Adds a fault.
    ///
    /// ```
    /// let mut faults = pad_train::optimizer::RuleFaults::default();
    /// faults.add("`nesterov` without momentum");
    /// assert_eq!(faults.into_vec().len(), 1);
    /// ```
    pub fn add(&mut self, fault: impl Into<String>) {
        self.0.push(fault.into());
    }

    /// Returns the faults.
    pub fn into_vec(self) -> Vec<String> {
        self.0
    }
}

/// How an optimiser moves one parameter. [`ByRule`](crate::ByRule) does the rest.
///
/// ```
/// use pad_train::{ByRule, Gradients, Parameter, UpdateRule};
/// use pad_train::candle_core::{self, Device, Tensor, Var};
/// use pad_train::optimizer::{RuleFaults, UpdateNumbers};
/// /// AdaGrad: each value by the root of all its squared gradients so far.
/// #[derive(Debug)]
/// struct AdaGrad { eps: f64 }
/// impl UpdateRule for AdaGrad {
///     fn name(&self) -> &'static str { "adagrad" }
///     fn faults(&self) -> RuleFaults {
///         let mut faults = RuleFaults::default();
///         faults.positive("eps", self.eps);
///         faults
///     }
///     fn buffers(&self) -> Vec<&'static str> { vec!["sum"] } // saved as NAME.sum
///     fn update(
///         &self, p: &Tensor, g: &Tensor, buffers: &mut [Tensor], numbers: &UpdateNumbers,
///     ) -> candle_core::Result<Tensor> {
///         buffers[0] = (&buffers[0] + g.sqr()?)?;
///         p - (g / (buffers[0].sqrt()? + self.eps)?)? * numbers.lr
///     }
/// }
/// let x = Var::new(&[1_f64], &Device::Cpu)?;
/// let mut adagrad = ByRule::new(vec![Parameter::new("x", x.clone())], AdaGrad { eps: 1e-10 })?;
/// let gradient = (x.ones_like()? * 4.0)?;
/// adagrad.step(&Gradients::new(vec![Some(gradient)]), 0.5, 0)?; // 4 / sqrt(16)
/// assert!((x.to_vec1::<f64>()?[0] - 0.5).abs() < 1e-9);
/// assert_eq!(adagrad.state()?["x.sum"].to_vec1::<f64>()?, [16.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait UpdateRule: fmt::Debug {
    /// Returns the optimiser's name, for errors.
    fn name(&self) -> &'static str;

    /// Returns what is wrong with its settings; no fault if they can be used.
    fn faults(&self) -> RuleFaults;

    /// Returns the names of the tensors that it keeps of every parameter. They have the parameter's
    /// shape, start at zero and are saved under these names.
    fn buffers(&self) -> Vec<&'static str>;

    /// Returns the parameter `p` moved along its gradient `g`, and updates its buffers, which come in
    /// the order of [`UpdateRule::buffers`]. All tensors are f32 (f64 for an f64 parameter) and track
    /// nothing.
    ///
    /// # Errors
    /// candle's.
    fn update(
        &self,
        p: &Tensor,
        g: &Tensor,
        buffers: &mut [Tensor],
        numbers: &UpdateNumbers,
    ) -> Result<Tensor>;
}
