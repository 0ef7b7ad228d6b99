//! A stop in the middle of an update.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use pad_ops::Mode;
use pad_train::{BoxError, Losses, Task};

use crate::regression::{Pairs, Regression};

/// Requests a stop while micro-batch number `at` (from 0) of the run is worked on.
pub(crate) struct StopDuring {
    pub(crate) task: Regression,
    pub(crate) at: usize,
    pub(crate) seen: Cell<usize>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Task for StopDuring {
    type Batch = Pairs;

    fn losses(&self, batch: &Pairs, mode: Mode) -> Result<Losses, BoxError> {
        self.stop.store(self.seen.get() == self.at, Ordering::Relaxed);
        self.seen.set(self.seen.get() + 1);
        self.task.losses(batch, mode)
    }

    fn images_in(&self, batch: &Pairs) -> usize {
        self.task.images_in(batch)
    }
}
