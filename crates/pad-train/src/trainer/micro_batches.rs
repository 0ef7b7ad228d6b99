//! Losses and gradients of the micro-batches of a step.

use std::sync::atomic::Ordering;

use pad_ops::{Mode, rng::Key};

use super::Trainer;
use crate::{
    BatchIter, Error, Gradients, Losses, Optimizer, Result, Share, Task, TrainerState,
    tally::Tally,
    unread::{ComingLosses, Micro, NotFinite, Read, can_wait, check_scalars},
};

impl<O: Optimizer> Trainer<'_, O> {
    /// Sums of gradients and losses over this process's part of the next step's micro-batches;
    /// `None` if a stop was requested in between.
    pub(super) fn gradients<T: Task>(
        &self,
        task: &T,
        stream: &mut BatchIter<'_, T::Batch>,
        share: Share,
    ) -> Result<Option<(Gradients, Read)>> {
        let TrainerState { step, epoch, batch_in_epoch, batches_per_epoch, .. } = self.state;
        let micro_batches = self.config.accumulate;
        let mut read = Read::Later(Vec::new());
        let mut sum: Option<Gradients> = None;
        for micro in (share.rank..micro_batches).step_by(share.of) {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let number = batch_in_epoch + micro;
            let next = stream.next().ok_or(Error::ShortEpoch {
                epoch,
                expected: batches_per_epoch,
                found: number,
            })?;
            let batch = next.map_err(|cause| Error::Data { epoch, batch: number, cause })?;
            let images = task.images_in(&batch);
            if images == 0 {
                continue; // nothing to learn from; the batch still counts in the mean
            }
            let key = Key::new(self.config.seed).epoch((step * micro_batches + micro) as u64);
            let losses = task
                .losses(&batch, Mode::Train(key))
                .map_err(|cause| Error::Task { step: step + 1, cause })?;
            let store = pad_ops::backward(&losses.total)
                .map_err(|error| Error::candle("backward of", "total")(error.into()))?;
            let losses = losses.detached(); // and with their history the activations go
            // Only now is the loss looked at, if not later: that waits for an accelerator, which then
            // has the backward to do.
            let late = self.reads_late(share, &losses);
            match &mut read {
                Read::Later(micros) if late => micros.push(Micro { number, losses, images }),
                Read::Later(micros) if micros.is_empty() => {
                    let mut tally = Tally::default();
                    self.tally(&mut tally, (number, images), &losses)?;
                    read = Read::Now(tally);
                }
                Read::Later(micros) => {
                    // Its micro-batches are not alike.
                    check_scalars(micros)?;
                    let coming = ComingLosses::fetch(std::mem::take(micros))?;
                    let tally = coming.wait()?;
                    let mut tally = tally.map_err(|fault| self.stopped_by(fault.what()))?;
                    self.tally(&mut tally, (number, images), &losses)?;
                    read = Read::Now(tally);
                }
                Read::Now(tally) => self.tally(tally, (number, images), &losses)?,
            }
            let fresh = Gradients::from_store(self.optimizer.parameters(), &store, epoch);
            sum = Some(match sum {
                Some(sum) => sum.add(&fresh)?,
                None => fresh,
            });
        }
        let none = || Gradients::new(vec![None; self.optimizer.parameters().len()]);
        if matches!(&read, Read::Later(micros) if micros.is_empty()) {
            read = Read::Now(Tally::default());
        }
        Ok(Some((sum.unwrap_or_else(none), read)))
    }

    /// Reads the losses of a micro-batch.
    fn tally(
        &self,
        tally: &mut Tally,
        (number, images): (usize, usize),
        losses: &Losses,
    ) -> Result<()> {
        tally.add(losses, images)?;
        match tally.loss.is_finite() {
            true => Ok(()),
            false => Err(self.stopped_by(NotFinite { loss: tally.loss, number }.what())),
        }
    }

    /// Whether these losses are read after the next step's gradients are enqueued.
    fn reads_late(&self, share: Share, losses: &Losses) -> bool {
        let gpu = losses.total.device().is_cuda();
        share.of == 1 && can_wait(losses) && self.reads_late.unwrap_or(gpu)
    }
}
