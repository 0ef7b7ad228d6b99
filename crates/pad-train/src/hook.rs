//! Everything that is not the step: logs, evaluation, pictures, early stops.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use crate::{BoxError, Collective, Parameter, TrainerConfig, TrainerState};

/// What a hook wants to happen next. All hooks are asked; the strongest wishes count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Write a checkpoint now.
    Save,
    /// Write a checkpoint now and keep it as the best one so far.
    Best,
    /// Write a checkpoint and end the run.
    Stop,
}

/// Something that is called beside the steps. Hooks are called in the order in which the trainer got them: those that
/// measure before those that write.
pub trait Hook {
    /// Its name in errors and in the checkpoint; two hooks of a run cannot share one.
    fn name(&self) -> &str;

    /// Whether it is called on every process of a group; else on the first alone, as suits what writes files. What
    /// measures together must be called on all, and exchange its numbers through
    /// [`agree`](crate::collective::agree).
    fn on_every_rank(&self) -> bool {
        false
    }

    /// Called once before the first step of this process, after [`Hook::restore`].
    ///
    /// # Errors
    /// Any; the run ends with [`Error::Hook`](crate::Error::Hook). The same holds for all methods below.
    fn start(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
        let _ = view;
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

    /// Called after each whole epoch, after [`Hook::after_step`] of its last step. May add to `epoch`.
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

    /// What it must remember over a restart; `Null` for nothing.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Goes on from an earlier [`Hook::state`].
    ///
    /// # Errors
    /// Any.
    fn restore(&mut self, state: &Value) -> Result<(), BoxError> {
        let _ = state;
        Ok(())
    }
}

/// So that a program can look at a hook after the run.
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
}

/// What one optimisation step was like.
#[derive(Clone, Debug, PartialEq)]
pub struct StepInfo {
    /// Number of this step in the run, from 1.
    pub step: usize,
    /// Its epoch, from 0.
    pub epoch: usize,
    /// When it began, in epochs, e.g. 3.25.
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
    /// Time the step took with waiting for data, seconds.
    pub seconds: f64,
}

impl StepInfo {
    /// Speed.
    pub fn images_per_s(&self) -> f64 {
        if self.seconds > 0.0 { self.images as f64 / self.seconds } else { 0.0 }
    }
}

/// What an epoch gave. Hooks that measure fill it, hooks that write read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpochInfo {
    /// The epoch that ended, from 0.
    pub epoch: usize,
    /// Steps of the run so far.
    pub step: usize,
    /// Results by name, e.g. `"val/accuracy"`.
    pub metrics: BTreeMap<String, f64>,
    /// Pictures by name, each a PNG file's bytes.
    pub images: BTreeMap<String, Vec<u8>>,
}

/// What hooks can see of a run. Variables share their values with the model, so they are current.
#[derive(Clone, Copy, Debug)]
pub struct TrainerView<'a> {
    /// Where the run stands.
    pub state: &'a TrainerState,
    /// Its settings.
    pub config: &'a TrainerConfig,
    /// What is trained.
    pub parameters: &'a [Parameter],
    /// Steps of the whole run.
    pub last_step: usize,
    /// The newest checkpoint.
    pub last_checkpoint: Option<&'a Path>,
    /// The processes that train together.
    pub group: &'a dyn Collective,
}

/// All hooks' wishes after a step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) save: bool,
    pub(crate) best: bool,
    pub(crate) stop: bool,
}

impl Wishes {
    pub(crate) fn add(&mut self, flow: Flow) {
        match flow {
            Flow::Continue => {}
            Flow::Save => self.save = true,
            Flow::Best => (self.save, self.best) = (true, true),
            Flow::Stop => (self.save, self.stop) = (true, true),
        }
    }
}
