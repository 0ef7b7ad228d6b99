//! What moves parameters: [`Optimizer`], and the optimisers whose formula is an [`UpdateRule`]:
//! [`Sgd`], [`Lion`], [`RmsProp`]. [`AdamW`](crate::AdamW) has a module of its own.
//!
//! Your own optimiser is an [`UpdateRule`] of a few lines, which [`ByRule`] keeps in step
//! with gradients, frozen parameters, half precision and checkpoints; or anything that implements
//! [`Optimizer`].
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use pad_train::{ByRule, Gradients, Parameter, Result, UpdateRule, optimizer::{RuleFaults, UpdateNumbers}};
//!
//! /// Moves by the sign of the gradient.
//! #[derive(Clone, Copy, Debug)]
//! struct SignDescent;
//! impl UpdateRule for SignDescent {
//!     fn name(&self) -> &'static str { "sign descent" }
//!     fn faults(&self) -> RuleFaults { RuleFaults::default() }
//!     fn buffers(&self) -> Vec<&'static str> { vec![] }
//!     fn update(&self, p: &Tensor, g: &Tensor, _: &mut [Tensor], n: &UpdateNumbers) -> candle_core::Result<Tensor> {
//!         p - (g.sign()? * n.lr)?
//!     }
//! }
//! let x = Var::new(&[1_f32, -1.0], &Device::Cpu)?;
//! let mut optimizer = ByRule::new(vec![Parameter::new("x", x.clone())], SignDescent)?;
//! let gradients = Gradients::from_store(optimizer.parameters(), &x.sqr()?.sum_all()?.backward()?, 0);
//! optimizer.step(&gradients, 0.25, 0)?;
//! assert_eq!(x.to_vec1::<f32>()?, [0.75, -0.75]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod begun;
mod by_rule;
mod checks;
mod lion;
mod rmsprop;
mod rule;
mod sgd;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use candle_core::Tensor;

pub use begun::StepBegun;
pub use by_rule::ByRule;
pub(crate) use checks::{check_gradients, check_lr, check_parameters, check_shapes};
pub use lion::{Lion, LionConfig};
pub use rmsprop::{RmsProp, RmsPropConfig};
pub use rule::{RuleFaults, UpdateNumbers, UpdateRule};
pub use sgd::{Sgd, SgdConfig};
pub(crate) use state::{check_state, describe};

use crate::{Gradients, Parameter, Result};

/// Numbers of one update.
///
/// ```
/// use candle_core::{Device, Var};
/// use pad_train::{Gradients, Parameter, Sgd, SgdConfig};
/// let zeros = || Var::new(&[3_f32, 4.0], &Device::Cpu);
/// let parameters = vec![Parameter::new("a", zeros()?), Parameter::new("b", zeros()?)];
/// let gradient = parameters[0].var.as_tensor().clone();
/// let mut optimizer = Sgd::new(parameters, SgdConfig::default())?;
/// let report = optimizer.step(&Gradients::new(vec![Some(gradient), None]), 0.1, 0)?;
/// assert_eq!((report.grad_norm, report.updated, report.without_gradient), (5.0, 1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// Norm over all gradients, as they were given (after clipping, if they were clipped).
    pub grad_norm: f64,
    /// Number of parameters that were updated.
    pub updated: usize,
    /// Number of parameters that train in this epoch but had no gradient.
    pub without_gradient: usize,
}

impl StepReport {
    /// A report of an update, for optimisers of other crates.
    pub fn new(grad_norm: f64, updated: usize, without_gradient: usize) -> Self {
        Self { grad_norm, updated, without_gradient }
    }
}

/// Moves parameters along gradients, with a state that can be saved.
///
/// Implemented by [`AdamW`](crate::AdamW), by [`ByRule`] for every [`UpdateRule`], and by
/// `Box<dyn Optimizer>`, so that a program can choose one while it runs.
///
/// ```
/// use candle_core::{Device, Var};
/// use pad_train::{AdamW, AdamWConfig, Gradients, Lion, LionConfig, Optimizer, Parameter, Sgd, SgdConfig};
///
/// let parameters = || -> candle_core::Result<Vec<Parameter>> {
///     Ok(vec![Parameter::new("x", Var::new(&[3_f32], &Device::Cpu)?)])
/// };
/// let all: [Box<dyn Optimizer>; 3] = [
///     Box::new(AdamW::new(parameters()?, AdamWConfig::default())?),
///     Box::new(Sgd::new(parameters()?, SgdConfig::default())?),
///     Box::new(Lion::new(parameters()?, LionConfig::default())?),
/// ];
/// for mut optimizer in all {
///     for _ in 0..20 {
///         let x = optimizer.parameters()[0].var.clone();
///         let gradients = Gradients::from_store(optimizer.parameters(), &x.sqr()?.sum_all()?.backward()?, 0);
///         optimizer.step(&gradients, 0.04, 0)?;
///     }
///     assert!(optimizer.parameters()[0].var.to_vec1::<f32>()?[0].abs() < 2.5); // from 3
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Optimizer {
    /// Returns the parameters, in the order of gradients. It does not change.
    fn parameters(&self) -> &[Parameter];

    /// Updates every parameter that trains in `epoch` and has a gradient; `lr` is the run's rate at
    /// this step, before [`Parameter::lr_factor`]. A parameter without gradient, or frozen in this
    /// epoch, is not touched: no decay, no step counted.
    ///
    /// # Errors
    /// [`Error::LearningRate`](crate::Error::LearningRate),
    /// [`Error::GradientCount`](crate::Error::GradientCount),
    /// [`Error::GradientShape`](crate::Error::GradientShape),
    /// [`Error::NonFiniteGradient`](crate::Error::NonFiniteGradient): nothing was modified.
    /// [`Error::Candle`](crate::Error::Candle) if candle fails midway.
    fn step(&mut self, gradients: &Gradients, lr: f64, epoch: usize) -> Result<StepReport>;

    /// Enqueues what [`Gradients::clip`] (if `clip_norm` is set) and [`Optimizer::step`] would do,
    /// on the device of the parameters and without waiting for it: the device itself leaves
    /// everything as it is where a gradient or one of `losses` (scalars) is not finite. Returns
    /// `None`, having done nothing, if it cannot; so does the default.
    ///
    /// [`Optimizer::finish_step`] must be called before the next update.
    ///
    /// # Errors
    /// As [`Optimizer::step`], except for gradients that are not finite.
    fn begin_step(
        &mut self,
        gradients: &Gradients,
        losses: &[&Tensor],
        clip_norm: Option<f64>,
        lr: f64,
        epoch: usize,
    ) -> Result<Option<StepBegun>> {
        let _ = (gradients, losses, clip_norm, lr, epoch);
        Ok(None)
    }

    /// Waits for the numbers of an update. The norm is that of the gradients before clipping. With a
    /// loss that is not finite nothing was updated, which is no error here.
    ///
    /// # Errors
    /// [`Error::NonFiniteGradient`](crate::Error::NonFiniteGradient): nothing was modified.
    /// [`Error::Candle`](crate::Error::Candle) if the device failed.
    fn finish_step(&mut self, begun: StepBegun) -> Result<StepReport> {
        begun.finish(self.parameters(), |_| {})
    }

    /// Returns all that must be saved to resume, by name: `PARAMETER.WHAT`.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) if memory runs out.
    fn state(&self) -> Result<BTreeMap<String, Tensor>>;

    /// Loads a saved [`Optimizer::state`] of the same parameters.
    ///
    /// # Errors
    /// [`Error::Tensors`](crate::Error::Tensors) with everything missing, unexpected or of another
    /// shape; then nothing was changed.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()>;
}

impl<O: Optimizer + ?Sized> Optimizer for Box<O> {
    fn parameters(&self) -> &[Parameter] {
        (**self).parameters()
    }

    fn step(&mut self, gradients: &Gradients, lr: f64, epoch: usize) -> Result<StepReport> {
        (**self).step(gradients, lr, epoch)
    }

    fn begin_step(
        &mut self,
        gradients: &Gradients,
        losses: &[&Tensor],
        clip_norm: Option<f64>,
        lr: f64,
        epoch: usize,
    ) -> Result<Option<StepBegun>> {
        (**self).begin_step(gradients, losses, clip_norm, lr, epoch)
    }

    fn finish_step(&mut self, begun: StepBegun) -> Result<StepReport> {
        (**self).finish_step(begun)
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        (**self).state()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        (**self).load_state(state)
    }
}
