//! A stop in the middle of an update, and of an evaluation.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use pad_ops::Mode;
use pad_train::{
    BoxError, CheckpointConfig, Checkpoints, EmaConfig, EpochInfo, Every, Flow, Hook, Losses,
    Schedule, Task, Trainer, TrainerConfig, TrainerView, checkpoint::latest,
};

use crate::regression::{Pairs, Regression, Samples, bits};

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

/// Measures after each epoch; in epoch `cut` a stop comes meanwhile.
struct Measures {
    cut: Option<usize>,
    stop: Arc<AtomicBool>,
    /// Epochs, and whether they were measured to the end.
    calls: Rc<RefCell<Vec<(usize, bool)>>>,
}

impl Hook for Measures {
    fn name(&self) -> &str {
        "measures"
    }

    fn after_epoch(&mut self, info: &mut EpochInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        info.is_interrupted = self.cut == Some(info.epoch);
        if info.is_interrupted {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.calls.borrow_mut().push((info.epoch, !info.is_interrupted));
        Ok(if info.is_interrupted { Flow::Continue } else { Flow::Best })
    }
}

/// Whether a checkpoint is due after the epoch or not, in the middle and at the end of a run: an
/// evaluation that a stop cuts short is made when the run goes on.
#[test]
fn an_evaluation_that_is_cut_short_is_made_again() {
    for every in [Every::Steps(1000), Every::Steps(1)] {
        let run = |cut: Option<usize>, folder: &std::path::Path| {
            let stop = Arc::<AtomicBool>::default();
            let calls = Rc::<RefCell<Vec<_>>>::default();
            let task = Regression::new();
            let config = TrainerConfig { epochs: 3, ..Default::default() };
            let measures = Measures { cut, stop: Arc::clone(&stop), calls: Rc::clone(&calls) };
            let every = CheckpointConfig { every, keep: 2 };
            let mut trainer = Trainer::new(config, Schedule::constant(0.05), task.optimizer())
                .unwrap()
                .with_ema(EmaConfig { decay: 0.9, ..Default::default() })
                .unwrap()
                .with_checkpoints(Checkpoints::new(folder, every).unwrap())
                .with_stop(stop)
                .with_hook(measures);
            if let Some(checkpoint) = latest(folder).unwrap() {
                trainer.resume(&checkpoint).unwrap();
            }
            let outcome = trainer.run(&task, &mut Samples::new(4, 4)).unwrap();
            let found = (outcome.is_finished(), bits(trainer.optimizer()));
            drop(trainer);
            (found.0, found.1, calls.take())
        };
        let folder = tempfile::tempdir().unwrap();
        let (finished, want, calls) = run(None, folder.path());
        assert!(finished);
        assert_eq!(calls, [(0, true), (1, true), (2, true)]);
        for cut in 0..3 {
            let folder = tempfile::tempdir().unwrap();
            let (finished, _, calls) = run(Some(cut), folder.path());
            assert!(!finished, "{cut}");
            assert_eq!(calls.last(), Some(&(cut, false)));
            let (finished, found, calls) = run(None, folder.path());
            assert!(finished);
            let left: Vec<(usize, bool)> = (cut..3).map(|epoch| (epoch, true)).collect();
            assert_eq!(calls, left);
            assert!(found == want, "{cut}: other weights");
        }
    }
}
