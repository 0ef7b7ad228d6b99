//! Checkpoints of a run, and its end.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::Tensor;
use serde_json::Value;

use super::Trainer;
use crate::{
    Ema, Error, Optimizer, Result,
    checkpoint::Marks,
    collective::agree,
    outcome::{Outcome, RunEnd},
};

impl<O: Optimizer> Trainer<'_, O> {
    pub(super) fn save(&mut self, marks: Marks) -> Result<()> {
        let states = self.hooks.states();
        self.save_as(&states, marks)
    }

    /// Writes a checkpoint with these states of the hooks. One of this step that is there already
    /// keeps its tensors.
    pub(super) fn save_as(&mut self, states: &BTreeMap<String, Value>, marks: Marks) -> Result<()> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        if checkpoints.is_at(self.last_checkpoint.as_deref(), self.state.step) {
            checkpoints.update(&self.state, states, marks)?;
        } else {
            let averages = self.ema.as_ref().map(Ema::averages).transpose()?;
            let averages = averages.as_ref();
            let path =
                checkpoints.save_with(&self.optimizer, &self.state, states, averages, marks)?;
            self.last_checkpoint = Some(path);
        }
        checkpoints.prune();
        Ok(())
    }

    pub(super) fn end(&mut self, end: RunEnd, last_step: usize) -> Result<Outcome> {
        let group = Arc::clone(&self.group);
        let finished = self.finish(matches!(end, RunEnd::Finished), last_step);
        agree(&*group, finished)?;
        let unused_parameters = self.reach.unused(self.optimizer.parameters());
        Ok(Outcome { end, unused_parameters })
    }

    /// Copies of the values that forward passes change: statistics of batch norms.
    pub(super) fn buffers(&self) -> Result<Vec<Tensor>> {
        let buffers = self.optimizer.parameters().iter().filter(|one| !one.trainable);
        let copied = buffers.map(|one| {
            let copied = one.var.as_tensor().copy();
            copied.map_err(Error::candle("copying", &one.name))
        });
        copied.collect()
    }

    /// Gives buffers the values of [`Trainer::buffers`].
    pub(super) fn set_buffers(&mut self, values: &[Tensor]) -> Result<()> {
        let buffers = self.optimizer.parameters().iter().filter(|one| !one.trainable);
        for (one, value) in buffers.zip(values) {
            one.var.set(value).map_err(Error::candle("setting", &one.name))?;
        }
        Ok(())
    }

    fn finish(&mut self, is_finished: bool, last_step: usize) -> Result<()> {
        let newest = self.last_checkpoint.as_deref();
        if !self.checkpoints.as_ref().is_some_and(|c| c.is_at(newest, self.state.step)) {
            self.save(Marks::default())?;
        } else if let Some(checkpoints) = &self.checkpoints {
            // A run that was killed before it removed old ones, and had nothing left to do.
            checkpoints.prune();
        }
        self.swap_averages()?;
        let (hooks, view) = self.hooks_and_view(last_step);
        let result = hooks.finish(&view);
        // A finished run leaves the averages in the model, one that is resumed later its weights.
        if result.is_err() || !is_finished {
            self.swap_averages()?;
        }
        result
    }
}
