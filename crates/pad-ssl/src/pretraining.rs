//! An objective as a training task: batches of a loader in, losses out.

use candle_core::{DType, Device, Tensor};
use pad_data::{
    ahead::to_device,
    loader::{Batch, Loader},
};
use pad_ops::{Mode, rng::Key};
use pad_train::{BatchIter, Batches, BoxError, Losses, Share, Task};

use crate::{Objective, Result};

/// A batch with the epoch it belongs to: masks are drawn from (seed, epoch, image).
pub struct ImageBatch {
    /// (B, C, H, W); absent where no image of the batch could be read.
    images: Option<Tensor>,
    indices: Vec<usize>,
    epoch: usize,
}

impl ImageBatch {
    fn new(batch: Batch, epoch: usize) -> Self {
        let images = (!batch.indices.is_empty()).then_some(batch.images);
        Self { images, indices: batch.indices, epoch }
    }

    /// A batch of which no image could be read.
    fn empty(epoch: usize) -> Self {
        Self { images: None, indices: Vec::new(), epoch }
    }
}

/// A loader as a source of batches.
pub struct LoaderBatches<'a> {
    loader: &'a Loader,
    device: Device,
}

impl<'a> LoaderBatches<'a> {
    /// Its batches, on the CPU.
    pub fn new(loader: &'a Loader) -> Self {
        Self { loader, device: Device::Cpu }
    }

    /// Its batches on `device`; to a GPU each is copied while the one before it is worked on.
    #[must_use]
    pub fn with_device(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }
}

impl Batches for LoaderBatches<'_> {
    type Batch = ImageBatch;

    fn per_epoch(&self) -> usize {
        self.loader.batches_per_epoch()
    }

    fn images_in(batch: &ImageBatch) -> usize {
        batch.indices.len()
    }

    fn epoch(&mut self, epoch: usize, first: usize) -> Result<BatchIter<'_, ImageBatch>, BoxError> {
        self.epoch_share(epoch, first, Share { rank: 0, of: 1 })
    }

    fn epoch_share(
        &mut self,
        epoch: usize,
        first: usize,
        share: Share,
    ) -> Result<BatchIter<'_, ImageBatch>, BoxError> {
        let (first, stride) = (first + share.rank, share.of.max(1));
        let batches = self.loader.epoch_strided(epoch as u64, first, stride)?;
        let mut batches = to_device(batches, &self.device)?.peekable();
        // A batch without a readable image does not come at all; its number still counts.
        let numbers = (first..self.per_epoch()).step_by(stride);
        Ok(Box::new(numbers.map(move |number| {
            match batches.next_if(|batch| batch.as_ref().map_or(true, |b| b.number == number)) {
                Some(batch) => Ok(ImageBatch::new(batch?, epoch)),
                None => Ok(ImageBatch::empty(epoch)),
            }
        })))
    }
}

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
    fn key(&self, epoch: usize, index: usize) -> Key {
        self.key.epoch(epoch as u64).sample(index as u64)
    }

    fn loss(&self, images: &Tensor, batch: &ImageBatch, mode: Mode) -> Result<Losses> {
        let keys: Vec<Key> =
            batch.indices.iter().map(|&index| self.key(batch.epoch, index)).collect();
        let images = images.to_device(&self.device)?;
        let draw = self.objective.draw(&images, &keys)?;
        self.objective.loss(&images, &draw, mode)
    }

    /// Returns the mean loss over the images of a held-out set; crops and masks are the same at every call.
    ///
    /// # Errors
    /// A batch that cannot be read or does not fit the objective.
    pub fn held_out_loss(&self, loader: &Loader) -> Result<f64> {
        let sum = self.held_out_sum(loader, Share { rank: 0, of: 1 }, &|| false)?;
        Ok(sum.loss / sum.images.max(1) as f64)
    }

    /// Returns the sum of the losses over a share of the set's batches, up to the one before which `stopped` is true.
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
            let batch = ImageBatch::new(batch?, 0);
            let Some(tensor) = &batch.images else { continue };
            let loss = self.loss(tensor, &batch, Mode::Eval)?.total;
            let loss = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            sum.loss += loss * batch.indices.len() as f64;
            sum.images += batch.indices.len();
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
    type Batch = ImageBatch;

    fn losses(&self, batch: &ImageBatch, mode: Mode) -> Result<Losses, BoxError> {
        match &batch.images {
            Some(images) => Ok(self.loss(images, batch, mode)?),
            // Not one readable image: nothing to learn from, and no gradient.
            None => Ok(Losses::new(Tensor::zeros((), DType::F32, &self.device)?)),
        }
    }
}
