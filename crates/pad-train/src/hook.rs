//! Everything that is not the step: logs, evaluation, pictures, early stops.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::Value;

use crate::{BoxError, Collective, Parameter, TrainerConfig, TrainerState};

/// What a hook requests after a call. The requests of all hooks are combined.
///
/// ```
/// use pad_train::Flow;
/// assert_ne!(Flow::Save, Flow::Best); // both write a checkpoint, one is kept as the best
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// Continue.
    Continue,
    /// Write a checkpoint now.
    Save,
    /// Write a checkpoint now and keep it as the best one so far.
    Best,
    /// Write a checkpoint and end the run.
    Stop,
}

/// Code that is called beside the steps. Hooks are called in the order in which they were added:
/// those that measure before those that write.
///
/// ```
/// use pad_train::{
///     BoxError, EpochStream, Flow, Hook, Losses, Mode, Parameter, Schedule, Sgd, SgdConfig, StepInfo, Task, Trainer,
///     TrainerConfig, TrainerView, candle_core::{Device, Var},
/// };
/// /// Stops once the loss is low.
/// #[derive(Default)]
/// struct Enough {
///     losses: Vec<f64>,
/// }
/// impl Hook for Enough {
///     fn name(&self) -> &str { "enough" }
///     fn after_step(&mut self, step: &StepInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
///         self.losses.push(step.loss);
///         Ok(if step.loss < 0.1 { Flow::Stop } else { Flow::Continue })
///     }
/// }
/// # struct Square(Var);
/// # impl Task for Square {
/// #     type Batch = ();
/// #     fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
/// #         Ok(Losses::new(self.0.sqr()?.sum_all()?))
/// #     }
/// #     fn images_in(&self, (): &()) -> usize { 1 }
/// # }
/// # fn main() -> Result<(), BoxError> {
/// # let task = Square(Var::new(&[1_f32], &Device::Cpu)?);
/// # let config = SgdConfig { momentum: 0.0, ..Default::default() };
/// # let optimizer = Sgd::new(vec![Parameter::new("x", task.0.clone())], config)?;
/// # let mut batches = EpochStream::new(10, |_, first, stride| {
/// #     Ok::<_, BoxError>((first..10).step_by(stride).map(|_| Ok::<_, BoxError>(())))
/// # });
/// let mut enough = Enough::default();
/// let mut trainer = Trainer::new(TrainerConfig::default(), Schedule::constant(0.25), optimizer)?
///     .with_hook(&mut enough);
/// assert!(trainer.run(&task, &mut batches)?.is_stopped()); // x: 1, 1/2, 1/4
/// drop(trainer);
/// assert_eq!(enough.losses, [1.0, 0.25, 0.0625]);
/// # Ok(()) }
/// ```
pub trait Hook {
    /// Returns its name in errors and in the checkpoint; two hooks of a run cannot share one.
    fn name(&self) -> &str;

    /// Returns whether it is called on every process of a group, or on the first alone (the
    /// default, for hooks that write files). A hook whose processes measure together is called on
    /// all, and exchanges its numbers through [`agree`](crate::collective::agree).
    fn on_every_rank(&self) -> bool {
        false
    }

    /// Called once before the first step of this process, after [`Hook::restore`].
    ///
    /// # Errors
    /// Any; the run ends with [`Error::Hook`](crate::Error::Hook). The same holds for all methods
    /// below.
    fn start(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
        let _ = view;
        Ok(())
    }

    /// Called once before the first step of a run that starts anew, after [`Hook::start`] of all
    /// hooks: what measures puts the numbers before training into `info` (step 0), what logs writes
    /// them. Not called when a run is resumed.
    ///
    /// # Errors
    /// Any.
    fn before_training(
        &mut self,
        info: &mut EpochInfo,
        view: &TrainerView<'_>,
    ) -> Result<(), BoxError> {
        let _ = (info, view);
        Ok(())
    }

    /// Called after each optimisation step.
    ///
    /// # Errors
    /// Any.
    fn after_step(&mut self, step: &StepInfo, view: &TrainerView<'_>) -> Result<Flow, BoxError> {
        let _ = (step, view);
        Ok(Flow::Continue)
    }

    /// Called after each whole epoch, and after the last step of a run that ends within one
    /// ([`TrainerConfig::max_steps`]); after [`Hook::after_step`] of that step. May add to `epoch`.
    /// A long evaluation looks at [`TrainerView::stop_requested`] between its batches and returns
    /// without numbers once it is true, with [`EpochInfo::is_interrupted`] set: the hooks of this epoch
    /// are called again when the run is resumed.
    ///
    /// # Errors
    /// Any.
    fn after_epoch(
        &mut self,
        epoch: &mut EpochInfo,
        view: &TrainerView<'_>,
    ) -> Result<Flow, BoxError> {
        let _ = (epoch, view);
        Ok(Flow::Continue)
    }

    /// Called when the run ends or is stopped, after the last checkpoint; not after an error.
    ///
    /// # Errors
    /// Any.
    fn finish(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
        let _ = view;
        Ok(())
    }

    /// Returns the state that checkpoints save; `Null` for none.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Loads an earlier [`Hook::state`].
    ///
    /// # Errors
    /// Any.
    fn restore(&mut self, state: &Value) -> Result<(), BoxError> {
        let _ = state;
        Ok(())
    }

    /// Called after [`Hook::restore`] if the checkpoint of `step`, which was the best
    /// ([`Flow::Best`]), is damaged or missing. A hook that chose it forgets it, so that a later one
    /// becomes the best without being better.
    ///
    /// # Errors
    /// Any.
    fn lose_best(&mut self, step: usize) -> Result<(), BoxError> {
        let _ = step;
        Ok(())
    }
}

/// Lets a program keep a hook and read it after the run.
impl<H: Hook + ?Sized> Hook for &mut H {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn on_every_rank(&self) -> bool {
        (**self).on_every_rank()
    }

    fn start(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
        (**self).start(view)
    }

    fn before_training(
        &mut self,
        info: &mut EpochInfo,
        view: &TrainerView<'_>,
    ) -> Result<(), BoxError> {
        (**self).before_training(info, view)
    }

    fn after_step(&mut self, step: &StepInfo, view: &TrainerView<'_>) -> Result<Flow, BoxError> {
        (**self).after_step(step, view)
    }

    fn after_epoch(
        &mut self,
        epoch: &mut EpochInfo,
        view: &TrainerView<'_>,
    ) -> Result<Flow, BoxError> {
        (**self).after_epoch(epoch, view)
    }

    fn finish(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
        (**self).finish(view)
    }

    fn state(&self) -> Value {
        (**self).state()
    }

    fn restore(&mut self, state: &Value) -> Result<(), BoxError> {
        (**self).restore(state)
    }

    fn lose_best(&mut self, step: usize) -> Result<(), BoxError> {
        (**self).lose_best(step)
    }
}

/// The numbers of one optimisation step.
///
/// ```
/// use pad_train::{
///     BoxError, EpochStream, Flow, Hook, Losses, Mode, Parameter, Schedule, Sgd, SgdConfig,
///     StepInfo, Task, Trainer, TrainerConfig, TrainerView, candle_core::{Device, Var},
/// };
/// struct Check;
/// impl Hook for Check {
///     fn name(&self) -> &str { "check" }
///     fn after_step(&mut self, step: &StepInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
///         // Two batches of 4 images an epoch; the loss is x^2, and x is 1, then 1/2.
///         assert_eq!((step.images, step.lr), (4, 0.25));
///         assert_eq!(step.loss, if step.step == 1 { 1.0 } else { 0.25 });
///         assert_eq!(step.grad_norm, if step.step == 1 { 2.0 } else { 1.0 });
///         assert!(step.images_per_s() >= 0.0);
///         assert_eq!(step.scalars()[0], ("train/loss".to_string(), step.loss));
///         Ok(Flow::Continue)
///     }
/// }
/// # struct Square(Var); // the loss is the square of one number
/// # impl Task for Square {
/// #     type Batch = ();
/// #     fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
/// #         Ok(Losses::new(self.0.sqr()?.sum_all()?))
/// #     }
/// #     fn images_in(&self, (): &()) -> usize { 4 }
/// # }
/// # let task = Square(Var::new(&[1_f32], &Device::Cpu)?);
/// # let config = SgdConfig { momentum: 0.0, ..Default::default() };
/// # let sgd = Sgd::new(vec![Parameter::new("x", task.0.clone())], config)?;
/// # let mut batches = EpochStream::new(2, |_, first, stride| {
/// #     Ok::<_, BoxError>((first..2).step_by(stride).map(|_| Ok::<_, BoxError>(())))
/// # });
/// # let config = TrainerConfig { epochs: 1, ..Default::default() };
/// Trainer::new(config, Schedule::constant(0.25), sgd)?.with_hook(Check).run(&task, &mut batches)?;
/// # Ok::<(), BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StepInfo {
    /// Number of this step in the run, from 1.
    pub step: usize,
    /// Its epoch, from 0.
    pub epoch: usize,
    /// Moment of its start, in epochs, e.g. 3.25.
    pub progress: f64,
    /// Learning rate (before the parameters' own factors).
    pub lr: f64,
    /// Loss, averaged over the step's micro-batches.
    pub loss: f64,
    /// Parts of the loss, averaged likewise, in the task's order.
    pub parts: Vec<(&'static str, f64)>,
    /// Norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Images in the step.
    pub images: usize,
    /// Time of the step, waiting for data included, seconds.
    pub seconds: f64,
}

impl StepInfo {
    /// Images per second; 0 for a step that took no time.
    pub fn images_per_s(&self) -> f64 {
        if self.seconds > 0.0 { self.images as f64 / self.seconds } else { 0.0 }
    }

    /// The numbers by the names that all logs give them: `train/loss`, `train/PART` for each part
    /// of the loss, `train/lr`, `train/grad_norm`, `train/images_per_s`, `train/seconds`.
    pub fn scalars(&self) -> Vec<(String, f64)> {
        let parts = self.parts.iter().map(|&(name, value)| (name, value));
        let numbers = std::iter::once(("loss", self.loss)).chain(parts).chain([
            ("lr", self.lr),
            ("grad_norm", self.grad_norm),
            ("images_per_s", self.images_per_s()),
            ("seconds", self.seconds),
        ]);
        numbers.map(|(name, value)| (format!("train/{name}"), value)).collect()
    }
}

/// The results of an epoch. Hooks that measure fill it, hooks that write read it.
///
/// ```
/// use pad_train::EpochInfo;
/// // What a hook that measures does; logs behind it write the number.
/// let mut epoch = EpochInfo::default();
/// epoch.metrics.insert("val/accuracy".to_string(), 0.75);
/// assert_eq!((epoch.step, epoch.metrics["val/accuracy"]), (0, 0.75));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct EpochInfo {
    /// The epoch of the last step, from 0.
    pub epoch: usize,
    /// Steps of the run so far; 0 before training.
    pub step: usize,
    /// Results by name, `val/NAME`, e.g. `"val/accuracy"`: logs take the names as they are.
    pub metrics: BTreeMap<String, f64>,
    /// Pictures by name, each a PNG file's bytes.
    pub images: BTreeMap<String, Vec<u8>>,
    /// Whether a measurement was cut short by a request to stop: the run stops, and the hooks of this
    /// epoch are called again when it is resumed. Logs leave the epoch out.
    pub is_interrupted: bool,
}

/// What hooks can see of a run. Variables share their values with the model, so they are current.
///
/// ```
/// use pad_train::{
///     BoxError, EpochStream, Hook, Losses, Mode, Parameter, Schedule, Sgd, SgdConfig, Task,
///     Trainer, TrainerConfig, TrainerView, candle_core::{Device, Var},
/// };
/// struct Check;
/// impl Hook for Check {
///     fn name(&self) -> &str { "check" }
///     fn start(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
///         assert_eq!((view.state.step, view.last_step), (0, 2)); // two batches, one epoch
///         assert_eq!((view.parameters[0].name.as_str(), view.group.world_size()), ("x", 1));
///         assert!(!view.stop_requested() && view.last_checkpoint.is_none());
///         Ok(())
///     }
/// }
/// # struct Square(Var); // the loss is the square of one number
/// # impl Task for Square {
/// #     type Batch = ();
/// #     fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
/// #         Ok(Losses::new(self.0.sqr()?.sum_all()?))
/// #     }
/// #     fn images_in(&self, (): &()) -> usize { 4 }
/// # }
/// # let task = Square(Var::new(&[1_f32], &Device::Cpu)?);
/// # let config = SgdConfig { momentum: 0.0, ..Default::default() };
/// # let sgd = Sgd::new(vec![Parameter::new("x", task.0.clone())], config)?;
/// # let mut batches = EpochStream::new(2, |_, first, stride| {
/// #     Ok::<_, BoxError>((first..2).step_by(stride).map(|_| Ok::<_, BoxError>(())))
/// # });
/// # let config = TrainerConfig { epochs: 1, ..Default::default() };
/// Trainer::new(config, Schedule::constant(0.25), sgd)?.with_hook(Check).run(&task, &mut batches)?;
/// # Ok::<(), BoxError>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TrainerView<'a> {
    /// State of the run.
    pub state: &'a TrainerState,
    /// Its settings.
    pub config: &'a TrainerConfig,
    /// The trained parameters.
    pub parameters: &'a [Parameter],
    /// Steps of the whole run.
    pub last_step: usize,
    /// The newest checkpoint.
    pub last_checkpoint: Option<&'a Path>,
    /// The processes that train together.
    pub group: &'a dyn Collective,
    pub(crate) stop: &'a AtomicBool,
}

impl TrainerView<'_> {
    /// Returns whether this process was asked to stop
    /// ([`Trainer::with_stop`](crate::Trainer::with_stop)). Hooks that work [on every
    /// rank](Hook::on_every_rank) exchange it before they return early: other processes may not
    /// have been asked yet.
    pub fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// All hooks' requests after a step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Requests {
    pub(crate) save: bool,
    pub(crate) best: bool,
    pub(crate) stop: bool,
    /// Whether a measurement was cut short.
    pub(crate) is_interrupted: bool,
}

impl Requests {
    pub(crate) fn add(&mut self, flow: Flow) {
        match flow {
            Flow::Continue => {}
            Flow::Save => self.save = true,
            Flow::Best => (self.save, self.best) = (true, true),
            Flow::Stop => (self.save, self.stop) = (true, true),
        }
    }
}
