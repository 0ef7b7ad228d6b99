//! The loss on held-out images as a hook of the training loop.

use pad_data::loader::Loader;
use pad_train::{
    BoxError, EpochInfo, Error as TrainError, Flow, Hook, Share, TrainerView, collective::agree,
};

use crate::{Objective, Pretraining, Result};

/// Name of the hook, under which checkpoints keep its state.
const NAME: &str = "held_out_loss";
/// Name of the loss in the log.
const METRIC: &str = "val/loss";

/// Measures the loss on held-out images before the first update, after epochs, and after the last
/// update. The log gets it as `val/loss`, and the checkpoint with the lowest loss is kept as the
/// best.
pub struct HeldOutLoss<'a, O> {
    task: &'a Pretraining<'a, O>,
    loader: &'a Loader,
    every_epochs: Option<usize>,
    before: Option<f64>,
    after: Option<f64>,
    best: Option<(f64, usize)>,
}

impl<'a, O: Objective> HeldOutLoss<'a, O> {
    /// Creates a hook that measures the loss of `task` on all images of `loader` after every epoch.
    pub fn new(task: &'a Pretraining<'a, O>, loader: &'a Loader) -> Self {
        Self { task, loader, every_epochs: Some(1), before: None, after: None, best: None }
    }

    /// Sets the number of epochs from one measurement to the next. `None`: only before the first
    /// update and after the last one. Default: 1.
    #[must_use]
    pub fn with_every(self, epochs: Option<usize>) -> Self {
        Self { every_epochs: epochs.filter(|&epochs| epochs > 0), ..self }
    }

    /// Returns the loss before the first update.
    pub fn before(&self) -> Option<f64> {
        self.before
    }

    /// Returns the newest loss.
    pub fn after(&self) -> Option<f64> {
        self.after
    }

    /// Returns the lowest loss after an epoch, and the update after which it was measured.
    pub fn best(&self) -> Option<(f64, usize)> {
        self.best
    }

    /// Returns the mean loss over all images; `None` if the run is to stop before the end of the
    /// measurement. Each process of a group measures its share of the batches; the mean is the same
    /// for any number of processes, up to rounding.
    fn measure(&mut self, view: &TrainerView<'_>) -> Result<Option<f64>, BoxError> {
        let group = view.group;
        let share = Share { rank: group.rank(), of: group.world_size() };
        let sum = self.task.held_out_sum(self.loader, share, &|| view.stop_requested());
        // Floats as bits: a loss may be NaN, which the message could not carry.
        let sum = sum.map(|sum| (sum.loss.to_bits(), sum.images, sum.stopped));
        let sum = sum.map_err(|error| TrainError::Hook { hook: NAME.into(), cause: error.into() });
        let all = agree(group, sum)?;
        if all.iter().any(|&(_, _, stopped)| stopped) {
            return Ok(None);
        }
        let loss: f64 = all.iter().map(|&(loss, _, _)| f64::from_bits(loss)).sum();
        let images: usize = all.iter().map(|&(_, images, _)| images).sum();
        let loss = loss / images.max(1) as f64;
        self.after = Some(loss);
        Ok(Some(loss))
    }
}

impl<O: Objective> Hook for HeldOutLoss<'_, O> {
    fn name(&self) -> &str {
        NAME
    }

    fn on_every_rank(&self) -> bool {
        true
    }

    fn before_training(
        &mut self,
        info: &mut EpochInfo,
        view: &TrainerView<'_>,
    ) -> Result<(), BoxError> {
        self.before = self.measure(view)?;
        if let Some(loss) = self.before {
            log(loss, "before training", view);
            info.metrics.insert(METRIC.into(), loss);
        }
        Ok(())
    }

    fn after_epoch(
        &mut self,
        epoch: &mut EpochInfo,
        view: &TrainerView<'_>,
    ) -> Result<Flow, BoxError> {
        let number = epoch.epoch + 1;
        let due = self.every_epochs.is_some_and(|every| number.is_multiple_of(every));
        if !(due || view.state.step == view.last_step) {
            return Ok(Flow::Continue);
        }
        let Some(loss) = self.measure(view)? else {
            epoch.is_interrupted = true;
            return Ok(Flow::Continue);
        };
        log(loss, &format!("after epoch {number}"), view);
        epoch.metrics.insert(METRIC.into(), loss);
        if loss.is_finite() && self.best.is_none_or(|(lowest, _)| loss < lowest) {
            self.best = Some((loss, view.state.step));
            return Ok(Flow::Best);
        }
        Ok(Flow::Continue)
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!({ "before": self.before, "after": self.after, "best": self.best })
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), BoxError> {
        self.before = state["before"].as_f64();
        self.after = state["after"].as_f64();
        self.best = serde_json::from_value(state["best"].clone())?;
        Ok(())
    }

    fn lose_best(&mut self, step: usize) -> Result<(), BoxError> {
        self.best = self.best.filter(|(_, best)| *best != step);
        Ok(())
    }
}

fn log(loss: f64, place: &str, view: &TrainerView<'_>) {
    if view.group.rank() == 0 {
        tracing::info!("held-out loss {loss:.4} {place}");
    }
}
