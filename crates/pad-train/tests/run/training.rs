//! The loop: what accumulation means, what hooks see, and how faults are told.

use std::{cell::RefCell, rc::Rc};

use crate::regression::{Regression, Samples};
use candle_core::{DType, Device, Tensor, Var};
use pad_ops::{Mode, rng::Key};
use pad_train::{
    AdamW, AdamWConfig, BatchIter, Batches, BoxError, CheckpointConfig, Checkpoints, EpochInfo,
    Every, Flow, Hook, Losses, Parameter, Schedule, StepInfo, Task, Trainer, TrainerConfig,
    TrainerView,
    checkpoint::best,
    log::{JsonLines, TensorBoard},
};
use serde_json::Value;

const SCHEDULE: Schedule = Schedule::Constant { lr: 0.05 };

fn values(optimizer: &AdamW) -> Vec<f32> {
    let flat = |p: &Parameter| p.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    optimizer.parameters().iter().flat_map(flat).collect()
}

/// A regression without randomness: weights and losses after 3 epochs of 32 samples.
fn train(batch: usize, accumulate: usize, clip_norm: Option<f64>) -> (Vec<f32>, Vec<StepInfo>) {
    let mut task = Regression::new();
    task.dropout = false;
    let config = TrainerConfig { epochs: 3, accumulate, clip_norm, ..Default::default() };
    let steps = Rc::new(RefCell::new(Vec::new()));
    let mut trainer = Trainer::new(config, SCHEDULE, task.optimizer())
        .unwrap()
        .with_hook(Record { steps: steps.clone(), ..Record::default() });
    trainer.run(&task, &mut Samples::new(32 / batch, batch)).unwrap();
    let weights = values(trainer.optimizer());
    drop(trainer);
    (weights, Rc::into_inner(steps).unwrap().into_inner())
}

#[derive(Default)]
struct Record {
    steps: Rc<RefCell<Vec<StepInfo>>>,
    calls: Rc<RefCell<Vec<String>>>,
}

impl Hook for Record {
    fn name(&self) -> &str {
        "record"
    }
    fn start(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
        self.calls.borrow_mut().push(format!("start of {}", view.last_step));
        Ok(())
    }
    fn before_training(
        &mut self,
        info: &mut EpochInfo,
        _: &TrainerView<'_>,
    ) -> Result<(), BoxError> {
        self.calls.borrow_mut().push("before training".into());
        info.metrics.insert("val/error".into(), 2.0);
        Ok(())
    }
    fn after_step(&mut self, step: &StepInfo, view: &TrainerView<'_>) -> Result<Flow, BoxError> {
        assert_eq!(view.state.step, step.step);
        self.calls.borrow_mut().push(format!("step {}", step.step));
        self.steps.borrow_mut().push(step.clone());
        Ok(Flow::Continue)
    }
    fn after_epoch(
        &mut self,
        epoch: &mut EpochInfo,
        _: &TrainerView<'_>,
    ) -> Result<Flow, BoxError> {
        self.calls.borrow_mut().push(format!("epoch {}", epoch.epoch));
        epoch.metrics.insert("val/error".into(), 1.0 / epoch.step as f64);
        epoch.images.insert("val/picture".into(), PNG.to_vec());
        Ok(if epoch.epoch == 0 { Flow::Best } else { Flow::Continue })
    }
    fn finish(&mut self, _: &TrainerView<'_>) -> Result<(), BoxError> {
        self.calls.borrow_mut().push("finish".into());
        Ok(())
    }
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x04\0\0\0\x02\x08\0\0\0\0";

#[test]
fn accumulated_micro_batches_equal_one_large_batch() {
    for clip_norm in [None, Some(0.5)] {
        let (large, large_steps) = train(16, 1, clip_norm);
        let (micro, micro_steps) = train(4, 4, clip_norm);
        assert_eq!(large_steps.len(), 6);
        let scale = large.iter().fold(0.0_f32, |scale, x| scale.max(x.abs()));
        for (large, micro) in large.iter().zip(&micro) {
            assert!((large - micro).abs() <= 1e-5 * scale, "{large} and {micro}");
        }
        for (large, micro) in large_steps.iter().zip(&micro_steps) {
            assert!((large.loss / micro.loss - 1.0).abs() < 1e-5);
            assert!((large.grad_norm / micro.grad_norm - 1.0).abs() < 1e-5);
            assert!((large.parts[1].1 / micro.parts[1].1 - 1.0).abs() < 1e-5);
            assert_eq!((large.images, micro.images), (16, 16));
            assert_eq!((large.progress, large.epoch), (micro.progress, micro.epoch));
        }
        assert!(large_steps[5].loss < 0.9 * large_steps[0].loss, "it learns");
    }
    assert_ne!(train(16, 1, None).0, train(16, 1, Some(0.5)).0, "clipping does something");
}

#[test]
fn hooks_are_called_in_order_and_measure_for_the_logs() {
    let folder = tempfile::tempdir().unwrap();
    let task = Regression::new();
    let calls = Rc::new(RefCell::new(Vec::new()));
    let config = TrainerConfig { epochs: 2, ..Default::default() };
    let every = CheckpointConfig { every: Every::Steps(3), keep: 1 };
    let mut trainer = Trainer::new(config, SCHEDULE, task.optimizer())
        .unwrap()
        .with_hook(Record { calls: calls.clone(), ..Record::default() })
        .with_hook(JsonLines::new(folder.path().join("log.jsonl")))
        .with_hook(TensorBoard::new(folder.path().join("tb")))
        .with_checkpoints(Checkpoints::new(folder.path(), every).unwrap());
    assert!(trainer.run(&task, &mut Samples::new(2, 4)).unwrap().is_finished());
    let expected = [
        "start of 4",
        "before training",
        "step 1",
        "step 2",
        "epoch 0",
        "step 3",
        "step 4",
        "epoch 1",
        "finish",
    ];
    assert_eq!(*calls.borrow(), expected);

    let log = std::fs::read_to_string(folder.path().join("log.jsonl")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<_> = lines.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 1, 2, 2, 3, 4, 4], "each epoch has a line of metrics, and the start");
    assert_eq!((&lines[0]["val/error"], &lines[3]["val/error"]), (&2.0.into(), &0.5.into()));
    let keys: Vec<&str> = log.lines().nth(1).unwrap().split('"').skip(1).step_by(2).collect();
    let expected = [
        "step",
        "epoch",
        "progress",
        "train/loss",
        "train/square",
        "train/absolute",
        "train/lr",
        "train/grad_norm",
        "train/images_per_s",
        "train/seconds",
    ];
    assert_eq!(keys, expected);
    let events = std::fs::read_dir(folder.path().join("tb")).unwrap().next().unwrap().unwrap();
    let events = std::fs::read(events.path()).unwrap();
    for tag in ["train/loss", "train/absolute", "val/error", "val/picture"] {
        assert!(events.windows(tag.len()).any(|window| window == tag.as_bytes()), "{tag}");
    }

    assert_eq!(best(folder.path()).unwrap().unwrap().trainer_state().step, 2);
    assert!(trainer.last_checkpoint().unwrap().ends_with("checkpoint-00000004"));
    assert!(!folder.path().join("checkpoint-00000003").exists(), "one is kept beside the best");
}

#[test]
fn a_run_that_ends_inside_an_epoch_is_measured_at_its_end() {
    let task = Regression::new();
    let calls = Rc::new(RefCell::new(Vec::new()));
    let config = TrainerConfig { epochs: 2, max_steps: Some(3), ..Default::default() };
    let mut trainer = Trainer::new(config, SCHEDULE, task.optimizer())
        .unwrap()
        .with_hook(Record { calls: calls.clone(), ..Record::default() });
    assert!(trainer.run(&task, &mut Samples::new(2, 4)).unwrap().is_finished());
    let calls = calls.borrow();
    assert_eq!(calls[calls.len() - 3..], ["step 3", "epoch 1", "finish"]);
}

#[test]
fn a_loss_that_is_not_a_number_names_the_step_and_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    for with_checkpoints in [false, true] {
        let task = Regression::new();
        let config = TrainerConfig { epochs: 3, accumulate: 2, ..Default::default() };
        let every = CheckpointConfig { every: Every::Steps(2), keep: 1 };
        let mut trainer = Trainer::new(config, SCHEDULE, task.optimizer()).unwrap();
        if with_checkpoints {
            trainer = trainer.with_checkpoints(Checkpoints::new(folder.path(), every).unwrap());
        }
        // Sample 23 is in micro-batch 5 of epoch 1: step 3 + 3.
        let mut samples = Samples { poison: Some(23), ..Samples::new(6, 4) };
        let error = trainer.run(&task, &mut samples).unwrap_err().to_string();
        let known = match with_checkpoints {
            true => {
                format!("last good checkpoint: {}/checkpoint-00000004", folder.path().display())
            }
            false => "no checkpoint was written yet".into(),
        };
        assert_eq!(error, format!("step 6 (epoch 1): the loss is NaN in batch 5; {known}"));
        assert!(values(trainer.optimizer()).iter().all(|x| x.is_finite()), "nothing was spoilt");
    }
}

/// `sqrt(x)` at 0: the loss is fine, its gradient is not.
struct Root(Var);

impl Task for Root {
    type Batch = ();
    fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
        Ok(Losses::new(self.0.sqrt()?.sum_all()?))
    }

    fn images_in(&self, (): &()) -> usize {
        1
    }
}

/// What one fault of a task or of data looks like.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Short,
    Item,
    Epoch,
}

struct Nothing(Fault);

impl Batches for Nothing {
    type Batch = ();
    fn per_epoch(&self) -> usize {
        3
    }
    fn epoch(&mut self, _: usize, first: usize) -> Result<BatchIter<'_, ()>, BoxError> {
        if self.0 == Fault::Epoch {
            return Err("no such folder".into());
        }
        let last = if self.0 == Fault::Short { 2 } else { 3 };
        let item = |i| if self.0 == Fault::Item && i == 1 { Err("bad.png".into()) } else { Ok(()) };
        Ok(Box::new((first..last).map(item)))
    }
}

fn one_parameter(start: &[f32]) -> (Var, AdamW) {
    let var = Var::new(start, &Device::Cpu).unwrap();
    let parameter = Parameter::new("x", var.clone());
    (var, AdamW::new(vec![parameter], AdamWConfig::default()).unwrap())
}

#[test]
fn a_gradient_that_is_not_finite_stops_before_anything_moves() {
    let (var, optimizer) = one_parameter(&[0.0, 4.0]);
    let mut trainer = Trainer::new(TrainerConfig::default(), SCHEDULE, optimizer).unwrap();
    let error = trainer.run(&Root(var.clone()), &mut Nothing(Fault::None)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "step 1 (epoch 0): the gradient of `x` is not finite (its norm is inf); no checkpoint was written yet"
    );
    assert_eq!(var.to_vec1::<f32>().unwrap(), [0.0, 4.0]);
}

/// Remembers the modes it was called with.
struct Modes(Var, RefCell<Vec<Mode>>);

impl Task for Modes {
    type Batch = ();
    fn losses(&self, (): &(), mode: Mode) -> Result<Losses, BoxError> {
        self.1.borrow_mut().push(mode);
        Ok(Losses::new(self.0.sum_all()?))
    }

    fn images_in(&self, (): &()) -> usize {
        1
    }
}

#[test]
fn every_micro_batch_has_a_key_of_its_own() {
    let (var, optimizer) = one_parameter(&[1.0]);
    let config =
        TrainerConfig { epochs: 2, accumulate: 3, seed: 5, max_steps: Some(2), clip_norm: None };
    let task = Modes(var, RefCell::default());
    let mut trainer = Trainer::new(config, SCHEDULE, optimizer).unwrap();
    trainer.run(&task, &mut Nothing(Fault::None)).unwrap();
    let expected: Vec<Mode> = (0..6).map(|n| Mode::Train(Key::new(5).epoch(n))).collect();
    assert_eq!(*task.1.borrow(), expected);
}

/// A task that fails, or whose loss is no scalar.
struct Odd(Var, bool);

impl Task for Odd {
    type Batch = ();
    fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
        if self.1 {
            return Err("the image is too small".into());
        }
        Ok(Losses::new(self.0.sum_all()?).with_part("each", self.0.as_tensor().clone()))
    }

    fn images_in(&self, (): &()) -> usize {
        1
    }
}

#[test]
fn faults_name_their_place() {
    let run = |fault: Fault, config: TrainerConfig, task: &dyn Fn(Var) -> Odd| {
        let (var, optimizer) = one_parameter(&[1.0, 4.0]);
        let mut trainer = Trainer::new(config, SCHEDULE, optimizer).unwrap();
        trainer.run(&task(var), &mut Nothing(fault)).unwrap_err().to_string()
    };
    let usual = TrainerConfig::default();
    assert_eq!(
        run(Fault::None, usual.clone(), &|var| Odd(var, true)),
        "step 1: the task failed: the image is too small"
    );
    assert_eq!(
        run(Fault::None, usual.clone(), &|var| Odd(var, false)),
        "loss `each`: expected a scalar, found shape [2]"
    );
    assert_eq!(
        run(Fault::None, TrainerConfig { accumulate: 4, ..usual }, &|var| Odd(var, false)),
        "settings: an epoch has 3 batches, expected at least `accumulate` (4)"
    );
    let root = |fault: Fault| {
        let (var, optimizer) = one_parameter(&[1.0, 4.0]);
        let mut trainer = Trainer::new(TrainerConfig::default(), SCHEDULE, optimizer).unwrap();
        trainer.run(&Root(var), &mut Nothing(fault)).unwrap_err().to_string()
    };
    assert_eq!(root(Fault::Short), "epoch 0: expected 3 batches, the data ended after 2");
    assert_eq!(root(Fault::Item), "epoch 0, batch 1: bad.png");
    assert_eq!(root(Fault::Epoch), "epoch 0, batch 0: no such folder");
}

#[test]
fn two_hooks_of_one_name_are_refused() {
    let (var, optimizer) = one_parameter(&[1.0]);
    let mut trainer = Trainer::new(TrainerConfig::default(), SCHEDULE, optimizer)
        .unwrap()
        .with_hook(Record::default())
        .with_hook(Record::default());
    assert_eq!(
        trainer.run(&Root(var), &mut Nothing(Fault::None)).unwrap_err().to_string(),
        "hook `record`: another hook has the same name"
    );
}

/// Asks for a stop after the second step.
struct Enough;

impl Hook for Enough {
    fn name(&self) -> &str {
        "enough"
    }
    fn after_step(&mut self, step: &StepInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        Ok(if step.step == 2 { Flow::Stop } else { Flow::Continue })
    }
}

#[test]
fn a_hook_can_stop_the_run() {
    let (var, optimizer) = one_parameter(&[4.0]);
    let config = TrainerConfig { epochs: 2, ..Default::default() };
    let mut trainer = Trainer::new(config, SCHEDULE, optimizer).unwrap().with_hook(Enough);
    let task = Root(var);
    assert!(trainer.run(&task, &mut Nothing(Fault::None)).unwrap().is_stopped());
    assert_eq!(trainer.state().step, 2);
    // The same trainer can go on.
    assert!(trainer.run(&task, &mut Nothing(Fault::None)).unwrap().is_finished());
    assert_eq!(trainer.state().step, 6);
}

#[test]
fn half_precision_and_f64_losses_are_read() {
    for dtype in [DType::F64, DType::BF16, DType::F16] {
        struct Total(Tensor);
        impl Task for Total {
            type Batch = ();
            fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
                Ok(Losses::new(self.0.sum_all()?))
            }

            fn images_in(&self, (): &()) -> usize {
                1
            }
        }
        let start = Tensor::new(&[1_f32], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let var = Var::from_tensor(&start).unwrap();
        let parameter = Parameter::new("x", var.clone());
        let optimizer = AdamW::new(vec![parameter], AdamWConfig::default()).unwrap();
        let config = TrainerConfig { epochs: 2, ..Default::default() };
        let task = Total(var.as_tensor().clone());
        let mut trainer = Trainer::new(config, SCHEDULE, optimizer).unwrap();
        trainer.run(&task, &mut Nothing(Fault::None)).unwrap();
        let after = var.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap()[0];
        assert!((after - 0.7).abs() < 0.01, "{dtype:?}: {after}"); // six steps of 0.05
    }
}
