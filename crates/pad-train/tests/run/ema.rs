//! Averages of the weights: their values, what hooks see, what a checkpoint holds.

use std::{cell::RefCell, rc::Rc};

use crate::regression::{Regression, Samples};
use pad_train::{
    AdamW, BoxError, CheckpointConfig, Checkpoints, EmaConfig, EpochInfo, Error, Every, Flow, Hook,
    Parameter, Schedule, StepInfo, Trainer, TrainerConfig, TrainerView, checkpoint::latest,
};

const SCHEDULE: Schedule = Schedule::Constant { lr: 0.05 };

fn values(parameters: &[Parameter]) -> Vec<f32> {
    let flat = |p: &Parameter| p.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    parameters.iter().flat_map(flat).collect()
}

fn optimized(optimizer: &AdamW) -> Vec<f32> {
    values(optimizer.parameters())
}

/// The weights after every step, and what the model held after every epoch.
#[derive(Clone, Default)]
struct Watch {
    steps: Rc<RefCell<Vec<Vec<f32>>>>,
    epochs: Rc<RefCell<Vec<Vec<f32>>>>,
}

impl Hook for Watch {
    fn name(&self) -> &str {
        "watch"
    }
    fn after_step(&mut self, _: &StepInfo, view: &TrainerView<'_>) -> Result<Flow, BoxError> {
        self.steps.borrow_mut().push(values(view.parameters));
        Ok(Flow::Continue)
    }
    fn after_epoch(&mut self, _: &mut EpochInfo, view: &TrainerView<'_>) -> Result<Flow, BoxError> {
        self.epochs.borrow_mut().push(values(view.parameters));
        Ok(Flow::Continue)
    }
}

fn config(max_steps: Option<usize>) -> TrainerConfig {
    TrainerConfig { epochs: 3, max_steps, ..Default::default() }
}

#[test]
fn early_steps_leave_less_and_none_more_than_the_decay() {
    let config = EmaConfig { decay: 0.99, warmup: true };
    assert_eq!(config.decay_at(1), 0.0);
    assert!((config.decay_at(8) - 0.75).abs() < 1e-12, "{}", config.decay_at(8));
    assert_eq!(config.decay_at(1001), 0.99);
    assert_eq!(EmaConfig { warmup: false, ..config }.decay_at(2), 0.99);
    for decay in [-0.1, 1.0, f64::NAN] {
        let error = EmaConfig { decay, ..config }.validate().unwrap_err();
        assert!(error.to_string().contains("expected 0 to below 1"), "{error}");
    }
}

#[test]
fn averages_are_the_sums_they_should_be_and_hooks_measure_them() {
    let task = Regression::new();
    let (watch, ema) = (Watch::default(), EmaConfig { decay: 0.6, warmup: true });
    let mut trainer = Trainer::new(config(None), SCHEDULE, task.optimizer())
        .unwrap()
        .with_ema(ema)
        .unwrap()
        .with_hook(watch.clone());
    assert!(trainer.run(&task, &mut Samples::new(4, 4)).unwrap().is_finished());
    let steps = watch.steps.borrow();
    assert_eq!(steps.len(), 12);
    let mut average = vec![0.0_f64; steps[0].len()];
    let mut after = Vec::new();
    for (number, weights) in steps.iter().enumerate() {
        let decay = ema.decay_at(number + 1);
        for (average, &weight) in average.iter_mut().zip(weights) {
            *average = decay * *average + (1.0 - decay) * f64::from(weight);
        }
        after.push(average.clone());
    }
    let check = |found: &[f32], want: &[f64]| {
        for (found, want) in found.iter().zip(want) {
            assert!((f64::from(*found) - want).abs() < 1e-5, "{found} {want}");
        }
    };
    let epochs = watch.epochs.borrow();
    assert_eq!(epochs.len(), 3);
    for (number, found) in epochs.iter().enumerate() {
        check(found, &after[4 * number + 3]);
    }
    // A finished run leaves the averages in the model.
    check(&optimized(trainer.optimizer()), &after[11]);
    assert_ne!(optimized(trainer.optimizer()), steps[11]);

    // Steps go on with the weights themselves: the same as without averages.
    let plain = Watch::default();
    let task = Regression::new();
    let mut trainer =
        Trainer::new(config(None), SCHEDULE, task.optimizer()).unwrap().with_hook(plain.clone());
    trainer.run(&task, &mut Samples::new(4, 4)).unwrap();
    assert_eq!(*plain.steps.borrow(), *steps);
}

#[test]
fn a_resumed_run_has_the_same_averages_and_one_without_them_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let every = CheckpointConfig { every: Every::Steps(5), keep: 1 };
    let ema = EmaConfig { decay: 0.9, warmup: true };
    let task = Regression::new();
    let trainer = |task: &Regression, max_steps, folder: &std::path::Path| {
        Trainer::new(config(max_steps), SCHEDULE, task.optimizer())
            .unwrap()
            .with_checkpoints(Checkpoints::new(folder, every).unwrap())
    };
    let whole = {
        let other = tempfile::tempdir().unwrap();
        let mut trainer = trainer(&task, None, other.path()).with_ema(ema).unwrap();
        trainer.run(&task, &mut Samples::new(4, 4)).unwrap();
        optimized(trainer.optimizer())
    };
    let task = Regression::new();
    let mut first = trainer(&task, Some(6), folder.path()).with_ema(ema).unwrap();
    first.run(&task, &mut Samples::new(4, 4)).unwrap();
    let averages = optimized(first.optimizer());
    drop(first);

    let checkpoint = latest(folder.path()).unwrap().unwrap();
    assert!(checkpoint.path().join("averages.safetensors").exists());
    // Runs remove old ones.
    let kept = tempfile::tempdir().unwrap();
    let copy = kept.path().join(checkpoint.path().file_name().unwrap());
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(checkpoint.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let kept = pad_train::TrainingCheckpoint::open(&copy).unwrap();
    let task = Regression::new();
    let mut second = trainer(&task, None, folder.path()).with_ema(ema).unwrap();
    checkpoint.load_evaluated(second.optimizer().parameters()).unwrap();
    assert_eq!(optimized(second.optimizer()), averages);
    second.resume(&checkpoint).unwrap();
    assert_ne!(optimized(second.optimizer()), averages, "the run goes on with the weights");
    second.run(&task, &mut Samples::new(4, 4)).unwrap();
    assert_eq!(optimized(second.optimizer()), whole);

    // One trainer, which its run left with the averages, from the checkpoint before its end again.
    let task = Regression::new();
    let mut again = Trainer::new(config(None), SCHEDULE, task.optimizer()).unwrap();
    again = again.with_ema(ema).unwrap();
    again.resume(&kept).unwrap();
    let weights = optimized(again.optimizer());
    for _ in 0..2 {
        again.run(&task, &mut Samples::new(4, 4)).unwrap();
        assert_eq!(optimized(again.optimizer()), whole);
        again.resume(&kept).unwrap();
        assert_eq!(optimized(again.optimizer()), weights);
    }
    // A run without anything to do leaves the averages where they were.
    again.run(&task, &mut Samples::new(4, 4)).unwrap();
    again.run(&task, &mut Samples::new(4, 4)).unwrap();
    assert_eq!(optimized(again.optimizer()), whole);

    let other = tempfile::tempdir().unwrap();
    let mut plain = trainer(&task, Some(6), other.path());
    plain.run(&task, &mut Samples::new(4, 4)).unwrap();
    let checkpoint = latest(other.path()).unwrap().unwrap();
    let mut late = trainer(&task, None, other.path()).with_ema(ema).unwrap();
    let error = late.resume(&checkpoint).unwrap_err();
    assert!(matches!(error, Error::Resume { .. }));
    assert!(error.to_string().contains("averages: expected some, found none"), "{error}");

    // A damaged file is found when the checkpoint is opened.
    let newest = latest(folder.path()).unwrap().unwrap();
    std::fs::write(newest.path().join("averages.safetensors"), b"short").unwrap();
    let error = pad_train::TrainingCheckpoint::open(newest.path()).unwrap_err();
    assert!(error.to_string().contains("averages.safetensors"), "{error}");
}
