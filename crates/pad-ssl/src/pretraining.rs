//! An objective as a training task: batches of a loader in, losses out.

use candle_core::{DType, Device};
use pad_data::loader::{Batch, Loader};
use pad_ops::{Mode, rng::Key};
use pad_train::{BoxError, Losses, Share, Task};

use crate::{Objective, Result};

/// Trains an objective on the batches of a [`Loader`].
pub struct Pretraining<'a, O> {
    objective: &'a O,
    key: Key,
    device: Device,
}

impl<'a, O: Objective> Pretraining<'a, O> {
    /// Creates the task of training `objective` on `device`. Its random decisions are drawn from
    /// `key`, epoch and index of each image.
    pub fn new(objective: &'a O, key: Key, device: &Device) -> Self {
        Self { objective, key, device: device.clone() }
    }

    fn loss(&self, batch: &Batch, mode: Mode) -> Result<Losses> {
        let key = self.key.epoch(batch.epoch);
        let keys: Vec<Key> = batch.indices.iter().map(|&index| key.sample(index as u64)).collect();
        let images = batch.images.to_device(&self.device)?;
        let draw = self.objective.draw(&images, &keys)?;
        self.objective.loss(&images, &draw, mode)
    }

    /// Returns the mean loss over the images of a held-out set; crops and masks are the same at
    /// every call.
    ///
    /// # Errors
    /// A batch that cannot be read or does not fit the objective.
    pub fn held_out_loss(&self, loader: &Loader) -> Result<f64> {
        let sum = self.held_out_sum(loader, Share { rank: 0, of: 1 }, &|| false)?;
        Ok(sum.loss / sum.images.max(1) as f64)
    }

    /// Returns the sum of the losses over a share of the set's batches, up to the one before which
    /// `stopped` is true.
    pub(crate) fn held_out_sum(
        &self,
        loader: &Loader,
        share: Share,
        stopped: &dyn Fn() -> bool,
    ) -> Result<HeldOutSum> {
        let mut sum = HeldOutSum::default();
        for batch in loader.epoch_strided(0, share.rank, share.of)? {
            if stopped() {
                sum.stopped = true;
                break;
            }
            let batch = batch?;
            if batch.is_empty() {
                continue;
            }
            let loss = self.loss(&batch, Mode::Eval)?.total;
            let loss = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            sum.loss += loss * batch.len() as f64;
            sum.images += batch.len();
        }
        Ok(sum)
    }
}

/// Losses over a share of a held-out set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeldOutSum {
    pub(crate) loss: f64,
    pub(crate) images: usize,
    /// Whether the sum ended early because the run is to stop.
    pub(crate) stopped: bool,
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
