//! Batches without images, and epochs that are not a loader's passes.

use std::path::Path;

use crate::regression::{Pairs, Regression, Samples, bits};
use candle_core::{DType, Device, Tensor};
use pad_ops::Mode;
use pad_train::{
    BoxError, CheckpointConfig, Checkpoints, EpochStream, Every, Losses, Schedule, Task, Trainer,
    TrainerConfig, checkpoint::latest,
};

const SCHEDULE: Schedule = Schedule::warmup_cosine(0.05, 0.001, 0.5, 3.0);

/// Batches of a pass of 5; of those of `empty` no image could be read.
fn batches(empty: &'static [usize]) -> EpochStream<'static, Option<Pairs>> {
    let samples = Samples::new(5, 4);
    EpochStream::new(5, move |pass, first, stride| {
        let batches: Vec<Result<Option<Pairs>, BoxError>> = (first..5)
            .step_by(stride)
            .map(|number| match empty.contains(&number) {
                true => Ok(None),
                false => samples.batch(pass as usize, number).map(Some),
            })
            .collect();
        Ok::<_, BoxError>(batches.into_iter())
    })
}

/// Trains on batches that may be empty; `counts_empty` gives the loss 0 for them, as programs did
/// before the trainer skipped them.
struct Guarded {
    task: Regression,
    counts_empty: bool,
}

impl Task for Guarded {
    type Batch = Option<Pairs>;

    fn losses(&self, batch: &Option<Pairs>, mode: Mode) -> Result<Losses, BoxError> {
        match batch {
            Some(batch) => self.task.losses(batch, mode),
            None => {
                assert!(self.counts_empty, "no loss is computed for an empty batch");
                Ok(Losses::new(Tensor::zeros((), DType::F32, &Device::Cpu)?))
            }
        }
    }

    fn images_in(&self, batch: &Option<Pairs>) -> usize {
        match batch {
            Some(batch) => self.task.images_in(batch),
            None => usize::from(self.counts_empty),
        }
    }
}

type Bits = Vec<(String, Vec<u32>)>;

fn train(empty: &'static [usize], accumulate: usize, counts_empty: bool) -> Bits {
    let task = Guarded { task: Regression::new(), counts_empty };
    let config =
        TrainerConfig { epochs: 3, accumulate, clip_norm: Some(1.5), ..Default::default() };
    let mut trainer = Trainer::new(config, SCHEDULE, task.task.optimizer()).unwrap();
    assert!(trainer.run(&task, &mut batches(empty)).unwrap().is_finished());
    bits(trainer.optimizer())
}

#[test]
fn empty_batches_give_the_bits_of_a_loss_of_zero() {
    // One of two micro-batches, both of an update, the first update of the run.
    for (empty, accumulate) in [(&[1][..], 1), (&[2], 2), (&[2, 3], 2), (&[0, 1, 2, 3, 4], 1)] {
        let (skipped, counted) = (train(empty, accumulate, false), train(empty, accumulate, true));
        assert_eq!(skipped, counted, "{empty:?}, {accumulate}");
    }
    assert_ne!(train(&[1], 1, false), train(&[], 1, false));
}

/// Epochs of 8 updates out of passes of 5 batches, to `max_steps`, from the newest checkpoint.
fn go_on(folder: &Path, max_steps: Option<usize>) -> Bits {
    let task = Guarded { task: Regression::new(), counts_empty: false };
    let config = TrainerConfig { epochs: 3, max_steps, seed: 3, ..Default::default() };
    let every = CheckpointConfig { every: Every::Steps(100), keep: 100 };
    let checkpoints = Checkpoints::new(folder, every).unwrap();
    let mut trainer = Trainer::new(config, SCHEDULE, task.task.optimizer())
        .unwrap()
        .with_checkpoints(checkpoints);
    if let Some(checkpoint) = latest(folder).unwrap() {
        trainer.resume(&checkpoint).unwrap();
    }
    trainer.run(&task, &mut batches(&[3]).with_epoch_len(8)).unwrap();
    assert_eq!(trainer.state().step, max_steps.unwrap_or(24));
    bits(trainer.optimizer())
}

#[test]
fn a_run_resumes_in_the_middle_of_an_epoch_of_several_passes() {
    let whole = go_on(tempfile::tempdir().unwrap().path(), None);
    for stop in [3, 8, 11, 13, 23] {
        let folder = tempfile::tempdir().unwrap();
        go_on(folder.path(), Some(stop));
        assert_eq!(go_on(folder.path(), None), whole, "stopped after {stop}");
    }
}
