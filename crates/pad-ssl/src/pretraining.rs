//! An objective as a training task: batches of a loader in, losses out; and its loss on held-out images.

use candle_core::{DType, Device};
use pad_data::loader::{Batch, Loader};
use pad_ops::{Mode, rng::Key};
use pad_train::{
    BoxError, Collective, EpochInfo, Error as TrainError, Flow, Hook, Losses, Share, Task,
    TrainerView, collective::agree,
};

use crate::{Objective, Result};

/// Trains an objective.
pub struct Pretraining<'a, O> {
    objective: &'a O,
    key: Key,
    device: Device,
}

impl<'a, O: Objective> Pretraining<'a, O> {
    /// The task of training `objective` on `device`, its decisions drawn from `key`.
    pub fn new(objective: &'a O, key: Key, device: &Device) -> Self {
        Self { objective, key, device: device.clone() }
    }

    /// The key of one image in one epoch.
    fn key(&self, epoch: u64, index: usize) -> Key {
        self.key.epoch(epoch).sample(index as u64)
    }

    fn loss(&self, batch: &Batch, mode: Mode) -> Result<Losses> {
        let keys: Vec<Key> =
            batch.indices.iter().map(|&index| self.key(batch.epoch, index)).collect();
        let images = batch.images.to_device(&self.device)?;
        let draw = self.objective.draw(&images, &keys)?;
        self.objective.loss(&images, &draw, mode)
    }

    /// Mean loss over a held-out set, image by image: the same crops and masks at every call.
    ///
    /// # Errors
    /// Whatever the loader or the objective says.
    pub fn held_out_loss(&self, loader: &Loader) -> Result<f64> {
        let (sum, images) = self.held_out_sum(loader, Share { rank: 0, of: 1 })?;
        Ok(sum / images.max(1) as f64)
    }

    /// [`Pretraining::held_out_loss`] with the batches of the set shared among the processes of `group`. The mean over
    /// all images is the same for any number of them, up to rounding.
    ///
    /// # Errors
    /// Whatever the loader or the objective says on any process.
    pub fn held_out_loss_of(
        &self,
        loader: &Loader,
        group: &dyn Collective,
    ) -> Result<f64, BoxError> {
        let share = Share { rank: group.rank(), of: group.world_size() };
        let mine = self.held_out_sum(loader, share);
        // Floats as bits: a loss may be NaN, which the message could not carry.
        let mine = mine.map(|(sum, images)| (sum.to_bits(), images)).map_err(|error| {
            TrainError::Hook { hook: "held_out_loss".into(), cause: error.into() }
        });
        let said = agree(group, mine)?;
        let sum: f64 = said.iter().map(|&(sum, _)| f64::from_bits(sum)).sum();
        let images: usize = said.iter().map(|&(_, images)| images).sum();
        Ok(sum / images.max(1) as f64)
    }

    /// Sum of losses, and images, over a share of the set's batches.
    fn held_out_sum(&self, loader: &Loader, share: Share) -> Result<(f64, usize)> {
        let (mut sum, mut images) = (0.0, 0_usize);
        for batch in loader.epoch_strided(0, share.rank, share.of)? {
            let batch = batch?;
            if batch.is_empty() {
                continue;
            }
            let loss = self.loss(&batch, Mode::Eval)?.total;
            let loss = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            sum += loss * batch.len() as f64;
            images += batch.len();
        }
        Ok((sum, images))
    }
}

impl<O: Objective> Task for Pretraining<'_, O> {
    type Batch = Batch;

    fn losses(&self, batch: &Batch, mode: Mode) -> Result<Losses, BoxError> {
        Ok(self.loss(batch, mode)?)
    }

    fn images_in(&self, batch: &Batch) -> usize {
        batch.len()
    }
}

/// Measures the loss on held-out images before the first update, every so many epochs, and after the last; the log
/// gets it as `held_out_loss`, and the checkpoint of the lowest one is kept as the best.
pub struct HeldOutLoss<'a, O> {
    task: &'a Pretraining<'a, O>,
    loader: &'a Loader,
    every_epochs: usize,
    before: Option<f64>,
    after: Option<f64>,
    best: Option<(f64, usize)>,
    measured_at: usize,
}

impl<'a, O: Objective> HeldOutLoss<'a, O> {
    /// A hook that evaluates every `every_epochs` epochs; 0 = only before and after.
    pub fn new(task: &'a Pretraining<'a, O>, loader: &'a Loader, every_epochs: usize) -> Self {
        Self { task, loader, every_epochs, before: None, after: None, best: None, measured_at: 0 }
    }

    /// The loss before the first update.
    pub fn before(&self) -> Option<f64> {
        self.before
    }

    /// The newest loss.
    pub fn after(&self) -> Option<f64> {
        self.after
    }

    /// The lowest loss after an epoch, and the step it was measured after.
    pub fn best(&self) -> Option<(f64, usize)> {
        self.best
    }

    fn measure(&mut self, place: &str, group: &dyn Collective) -> Result<f64, BoxError> {
        let loss = match group.world_size() {
            1 => self.task.held_out_loss(self.loader)?,
            _ => self.task.held_out_loss_of(self.loader, group)?,
        };
        if group.rank() == 0 {
            tracing::info!("held-out loss {loss:.4} {place}");
        }
        self.after = Some(loss);
        Ok(loss)
    }
}

impl<O: Objective> Hook for HeldOutLoss<'_, O> {
    fn name(&self) -> &str {
        "held_out_loss"
    }

    /// Every process measures its share of the set.
    fn on_every_rank(&self) -> bool {
        true
    }

    fn start(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
        if view.state.step == 0 {
            self.before = Some(self.measure("before training", view.group)?);
        }
        Ok(())
    }

    fn after_epoch(
        &mut self,
        epoch: &mut EpochInfo,
        view: &TrainerView<'_>,
    ) -> Result<Flow, BoxError> {
        let number = epoch.epoch + 1;
        let due = self.every_epochs > 0 && number.is_multiple_of(self.every_epochs);
        if due || view.state.step == view.last_step {
            let loss = self.measure(&format!("after epoch {number}"), view.group)?;
            epoch.metrics.insert("held_out_loss".into(), loss);
            self.measured_at = view.state.step;
            if loss.is_finite() && self.best.is_none_or(|(lowest, _)| loss < lowest) {
                self.best = Some((loss, view.state.step));
                return Ok(Flow::Best);
            }
        }
        Ok(Flow::Continue)
    }

    /// A run may end inside an epoch.
    fn finish(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
        if view.state.step == view.last_step && self.measured_at != view.state.step {
            self.measure("after the last step", view.group)?;
        }
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!({
            "before": self.before,
            "after": self.after,
            "best": self.best,
            "at": self.measured_at,
        })
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), BoxError> {
        self.before = state["before"].as_f64();
        self.after = state["after"].as_f64();
        self.best = serde_json::from_value(state["best"].clone())?;
        self.measured_at = state["at"].as_u64().unwrap_or(0) as usize;
        Ok(())
    }
}
