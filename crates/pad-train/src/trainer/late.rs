//! Steps whose numbers are read while the device computes the next one.

use std::time::Instant;

use super::Trainer;
use crate::{
    Gradients, Optimizer, Result, TrainerState,
    unread::{Begun, ComingLosses, Micro, Unread, check_scalars, totals},
};

impl<O: Optimizer> Trainer<'_, O> {
    /// Enqueues the update of the next step without reading anything. Where that cannot be, reads the
    /// losses.
    pub(super) fn begin(&mut self, gradients: &Gradients, micros: Vec<Micro>) -> Result<Begun> {
        let TrainerState { step, epoch, .. } = self.state;
        check_scalars(&micros)?;
        if micros.iter().any(|micro| micro.images > 0) {
            self.reach.note(self.optimizer.parameters(), gradients, (step + 1, epoch))?;
        }
        let (lr, clip_norm) = (self.lr()?, self.config.clip_norm);
        let totals = totals(&micros);
        let begun = self.optimizer.begin_step(gradients, &totals, clip_norm, lr, epoch)?;
        let losses = ComingLosses::fetch(micros)?;
        let Some(begun) = begun else {
            let tally = losses.wait()?.map_err(|fault| self.stopped_by(fault.what()))?;
            return Ok(Begun::Read(tally));
        };
        let before = self.state.clone();
        let epoch_ended = self.state.advance();
        Ok(Begun::Unread(Box::new(Unread { losses, begun, before, lr, epoch_ended })))
    }

    /// Reads the numbers of a step that was enqueued, and calls the hooks. Returns whether this
    /// process stops.
    pub(super) fn read(
        &mut self,
        step: Box<Unread>,
        last_step: usize,
        clock: Instant,
    ) -> Result<bool> {
        let Unread { losses, begun, before, lr, epoch_ended } = *step;
        let tally = losses.wait();
        let report = self.optimizer.finish_step(begun);
        let tally = match tally? {
            Ok(tally) => tally.scale(1.0 / self.config.accumulate as f64),
            Err(fault) => {
                self.state = before;
                return Err(self.stopped_by(fault.what()));
            }
        };
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                self.state = before;
                return Err(self.diverged(error));
            }
        };
        if let Some(ema) = &mut self.ema {
            ema.update(before.step + 1)?;
        }
        let info = tally.info(&before, lr, report.grad_norm, clock.elapsed().as_secs_f64());
        self.after_step(&info, epoch_ended, last_step)
    }
}
