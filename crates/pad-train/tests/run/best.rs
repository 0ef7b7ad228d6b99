//! The best checkpoint of a run, and its loss.

use std::{cell::Cell, fs, path::Path, rc::Rc};

use crate::regression::{Regression, Samples, bits};
use pad_train::{
    BoxError, CheckpointConfig, Checkpoints, EpochInfo, Every, Flow, Hook, Schedule, Trainer,
    TrainerConfig, TrainerView,
    checkpoint::{best, latest},
};
use serde_json::{Value, json};

/// "Measures" after each epoch, and finds the second of four the best.
#[derive(Default)]
struct Measure {
    /// Score and step.
    best: Option<(f64, usize)>,
    lost: Rc<Cell<Option<usize>>>,
}

impl Hook for Measure {
    fn name(&self) -> &str {
        "measure"
    }

    fn after_epoch(&mut self, info: &mut EpochInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        let score = [0.2, 0.9, 0.4, 0.5][info.epoch];
        if self.best.is_some_and(|(best, _)| score <= best) {
            return Ok(Flow::Continue);
        }
        self.best = Some((score, info.step));
        Ok(Flow::Best)
    }

    fn state(&self) -> Value {
        json!(self.best)
    }

    fn restore(&mut self, state: &Value) -> Result<(), BoxError> {
        self.best = serde_json::from_value(state.clone())?;
        Ok(())
    }

    fn lose_best(&mut self, step: usize) -> Result<(), BoxError> {
        self.lost.set(Some(step));
        self.best = self.best.filter(|(_, best)| *best != step);
        Ok(())
    }
}

/// What a session leaves: bits of the weights, step of the best checkpoint, step of a lost one.
type Left = (Vec<(String, Vec<u32>)>, Option<usize>, Option<usize>);

/// Goes on from what the folder holds; an epoch has three steps.
fn session(folder: &Path, epochs: usize) -> Left {
    let (task, hook) = (Regression::new(), Measure::default());
    let lost = hook.lost.clone();
    let config =
        TrainerConfig { epochs: 4, max_steps: Some(3 * epochs), seed: 7, ..Default::default() };
    let every = CheckpointConfig { every: Every::Epochs(1), keep: 1 };
    let mut trainer = Trainer::new(config, Schedule::constant(0.05), task.optimizer())
        .unwrap()
        .with_hook(hook)
        .with_checkpoints(Checkpoints::new(folder, every).unwrap());
    if let Some(checkpoint) = latest(folder).unwrap() {
        trainer.resume(&checkpoint).unwrap();
    }
    assert!(trainer.run(&task, &mut Samples::new(3, 2)).unwrap().is_finished());
    let found = best(folder).unwrap().map(|checkpoint| checkpoint.trainer_state().step);
    (bits(trainer.optimizer()), found, lost.get())
}

#[test]
fn a_lost_best_checkpoint_makes_room_for_the_next() {
    let whole = tempfile::tempdir().unwrap();
    let (weights, found, lost) = session(whole.path(), 4);
    assert_eq!((found, lost), (Some(6), None));

    for damaged in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(session(folder.path(), 3).1, Some(6));
        if damaged {
            let model = folder.path().join("checkpoint-00000006/model.safetensors");
            let bytes = fs::read(&model).unwrap();
            fs::write(&model, &bytes[1..]).unwrap();
        }
        let (resumed, found, lost) = session(folder.path(), 4);
        // 0.5 after the last epoch is not 0.9, but it is the best of what is left.
        let expected = if damaged { (Some(12), Some(6)) } else { (Some(6), None) };
        assert_eq!((found, lost), expected);
        assert_eq!(resumed, weights);
        assert_eq!(folder.path().join("checkpoint-00000006.damaged").is_dir(), damaged);
    }
}

/// The newest one is the best and is damaged: the one before it knows another best, which the newer
/// one had replaced.
#[test]
fn a_best_checkpoint_that_was_replaced_is_lost_too() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(session(folder.path(), 1).1, Some(3));
    // A checkpoint between the two evaluations outlives the first one.
    let (task, every) = (Regression::new(), CheckpointConfig { every: Every::Steps(1), keep: 2 });
    let config = TrainerConfig { epochs: 4, max_steps: Some(6), seed: 7, ..Default::default() };
    let mut trainer = Trainer::new(config, Schedule::constant(0.05), task.optimizer())
        .unwrap()
        .with_hook(Measure::default())
        .with_checkpoints(Checkpoints::new(folder.path(), every).unwrap());
    trainer.resume(&latest(folder.path()).unwrap().unwrap()).unwrap();
    trainer.run(&task, &mut Samples::new(3, 2)).unwrap();
    drop(trainer);
    let path = |step: usize| folder.path().join(format!("checkpoint-{step:08}"));
    assert!(path(5).is_dir() && path(6).is_dir() && !path(3).is_dir());
    fs::remove_file(path(6).join("state.json")).unwrap();

    let (_, found, lost) = session(folder.path(), 2);
    assert_eq!((found, lost), (Some(6), Some(3)));
}
