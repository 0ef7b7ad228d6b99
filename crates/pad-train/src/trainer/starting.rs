//! What is checked before the first update of a run.

use super::{Trainer, resumable};
use crate::{
    Checkpoints, Collective, Ema, Error, Optimizer, Result, TrainerState,
    checkpoint::FolderLock,
    collective::{agree, check_parameters},
    state::regrouped,
};

/// A run before its first update.
pub(super) struct Started {
    /// The number of its last step.
    pub(super) last_step: usize,
    /// The step of the best checkpoint, if it is lost. The first process knows.
    pub(super) lost_best: Option<usize>,
    /// The folder of checkpoints is this run's until it ends.
    pub(super) _lock: Option<FolderLock>,
}

impl<O: Optimizer> Trainer<'_, O> {
    /// Checks settings against data and checkpoints.
    pub(super) fn start(&mut self, batches_per_epoch: usize) -> Result<Started> {
        let now = TrainerState { batches_per_epoch, ..self.state.clone() };
        if let Some(checkpoint) = self.last_checkpoint.as_deref() {
            resumable(checkpoint, self.state.differences(&now))?;
        }
        self.state = now;
        self.is_interrupted = false;
        let steps_per_epoch = self.state.steps_per_epoch();
        if steps_per_epoch == 0 {
            return Err(Error::Settings {
                faults: vec![format!(
                    "an epoch has {batches_per_epoch} batches, expected at least `accumulate` ({})",
                    self.config.accumulate
                )],
            });
        }
        let all = self.config.epochs.saturating_mul(steps_per_epoch);
        let last_step = self.config.max_steps.map_or(all, |max| max.min(all));
        let processes = self.group.world_size();
        if !self.config.accumulate.is_multiple_of(processes) {
            return Err(Error::Settings {
                faults: vec![format!(
                    "`accumulate` is {}, expected a multiple of the {processes} processes, which share the \
                     micro-batches of a step",
                    self.config.accumulate
                )],
            });
        }
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.set_processes(processes);
        }
        if let Some(before) = self.saved_processes.take().filter(|before| *before != processes)
            && self.group.rank() == 0
        {
            let buffers = self.optimizer.parameters().iter().any(|p| !p.trainable);
            tracing::warn!("{}", regrouped([before, processes], self.config.accumulate, buffers));
        }
        let (lock, lost_best) = match self.checkpoints.as_ref().filter(|_| self.group.rank() == 0) {
            Some(checkpoints) => {
                let (lock, lost_best) = checkpoints.start(self.state.step)?;
                (Some(lock), lost_best)
            }
            None => (None, None),
        };
        // A finished run left the averages in the model; what trains are the weights.
        if self.ema.as_ref().is_some_and(Ema::in_place) {
            self.swap_averages()?;
        }
        Ok(Started { last_step, lost_best, _lock: lock })
    }

    /// Checks that all processes are about to do the same with the same values.
    pub(super) fn check_equal(&mut self, group: &dyn Collective, last_step: usize) -> Result<()> {
        if group.world_size() == 1 {
            return Ok(());
        }
        let metadata = self.checkpoints.as_ref().map(Checkpoints::metadata);
        let mine = (self.state.clone(), last_step, format!("{:?}", self.config), metadata.cloned());
        let all = agree(group, Ok(mine))?;
        if let Some(rank) = all.iter().position(|theirs| *theirs != all[0]) {
            return Err(Error::Group {
                rank: group.rank(),
                world_size: group.world_size(),
                what: format!(
                    "rank {rank} starts with {:?}, expected rank 0's {:?}: every process needs the same settings, \
                     data and checkpoints",
                    all[rank], all[0]
                ),
            });
        }
        check_parameters(group, self.optimizer.parameters())?;
        if group.rank() > 0 {
            self.checkpoints = None; // the first process writes them
        }
        Ok(())
    }
}
