//! Numbers that are read one step late: the same run, in another order of work.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    regression::{Pairs, Regression, Samples, bits},
    stopping::StopDuring,
};
use candle_core::{Device, Tensor, Var};
use pad_ops::Mode;
use pad_train::{
    AdamW, AdamWConfig, BoxError, CheckpointConfig, Checkpoints, EmaConfig, EpochInfo, EpochStream,
    Every, Flow, Gradients, Hook, Losses, Optimizer, Parameter, Schedule, Sgd, SgdConfig, StepInfo,
    Task, Trainer, TrainerConfig, TrainerView, checkpoint::latest,
};

const SCHEDULE: Schedule = Schedule::warmup_cosine(0.05, 0.001, 0.5, 3.0);

type Events = Rc<RefCell<Vec<String>>>;

/// The regression, which notes when a loss is computed.
struct Noted {
    task: Regression,
    events: Events,
    seen: Cell<usize>,
}

impl Noted {
    fn new(events: &Events) -> Self {
        Self { task: Regression::new(), events: events.clone(), seen: Cell::new(0) }
    }
}

impl Task for Noted {
    type Batch = Pairs;

    fn losses(&self, batch: &Pairs, mode: Mode) -> Result<Losses, BoxError> {
        self.events.borrow_mut().push(format!("batch {}", self.seen.get()));
        self.seen.set(self.seen.get() + 1);
        self.task.losses(batch, mode)
    }

    fn images_in(&self, batch: &Pairs) -> usize {
        self.task.images_in(batch)
    }
}

#[derive(Default)]
struct Record {
    events: Events,
    steps: Rc<RefCell<Vec<StepInfo>>>,
    stop_at: Option<usize>,
}

impl Hook for Record {
    fn name(&self) -> &str {
        "record"
    }

    fn after_step(&mut self, step: &StepInfo, view: &TrainerView<'_>) -> Result<Flow, BoxError> {
        assert_eq!(view.state.step, step.step);
        self.events.borrow_mut().push(format!("step {}", step.step));
        assert!(step.seconds >= 0.0);
        // Time is the one thing that may differ.
        self.steps.borrow_mut().push(step.clone());
        Ok(if self.stop_at == Some(step.step) { Flow::Stop } else { Flow::Continue })
    }

    fn after_epoch(&mut self, info: &mut EpochInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        self.events.borrow_mut().push(format!("epoch {}", info.epoch));
        Ok(Flow::Continue)
    }
}

fn config(accumulate: usize, clip_norm: Option<f64>) -> TrainerConfig {
    TrainerConfig { epochs: 3, max_steps: None, accumulate, clip_norm, seed: 7 }
}

/// Everything that a run says, but for the time that steps took.
fn said(steps: &[StepInfo]) -> Vec<(String, Vec<u64>)> {
    let numbers = |step: &StepInfo| {
        let parts = step.parts.iter().map(|(_, part)| part.to_bits());
        let others = [step.progress, step.lr, step.loss, step.grad_norm].map(f64::to_bits);
        let counts = [step.step as u64, step.epoch as u64, step.images as u64];
        others.into_iter().chain(parts).chain(counts).collect()
    };
    steps.iter().map(|step| (format!("step {}", step.step), numbers(step))).collect()
}

#[test]
fn the_same_numbers_and_bits() {
    for (accumulate, clip_norm) in [(1, None), (2, Some(1.5)), (1, Some(0.3))] {
        let run = |late: bool| {
            let events = Events::default();
            let steps = Rc::new(RefCell::new(Vec::new()));
            let task = Noted::new(&events);
            let hook = Record { events: events.clone(), steps: steps.clone(), stop_at: None };
            let mut trainer =
                Trainer::new(config(accumulate, clip_norm), SCHEDULE, task.task.optimizer())
                    .unwrap()
                    .with_ema(EmaConfig::default())
                    .unwrap()
                    .with_hook(hook)
                    .with_late_reading(late);
            assert!(trainer.run(&task, &mut Samples::new(7, 4)).unwrap().is_finished());
            let said = said(&steps.borrow());
            (bits(trainer.optimizer()), said, events.take())
        };
        let (want, want_said, now) = run(false);
        let (found, said, late) = run(true);
        assert_eq!(found, want);
        assert_eq!(said, want_said);
        assert_ne!(now, late, "the order of work is another one");
        let hooks = |events: &[String]| -> Vec<String> {
            events.iter().filter(|event| !event.starts_with("batch")).cloned().collect()
        };
        assert_eq!(hooks(&now), hooks(&late));
        if accumulate == 1 {
            let begin = ["batch 0", "batch 1", "step 1", "batch 2", "step 2", "batch 3"];
            assert_eq!(late[..6], begin);
            // Not beyond the end of an epoch.
            assert_eq!(late[12..16], ["step 6", "step 7", "epoch 0", "batch 7"]);
        }
    }
}

#[test]
fn a_loss_that_is_not_a_number_ends_the_run_at_its_step() {
    for accumulate in [1, 2] {
        let run = |late: bool| {
            let folder = tempfile::tempdir().unwrap();
            let steps = Rc::new(RefCell::new(Vec::new()));
            let task = Regression::new();
            let every = CheckpointConfig { every: Every::Steps(2), keep: 1 };
            let mut trainer = Trainer::new(config(accumulate, None), SCHEDULE, task.optimizer())
                .unwrap()
                .with_hook(Record { steps: steps.clone(), ..Record::default() })
                .with_checkpoints(Checkpoints::new(folder.path(), every).unwrap())
                .with_late_reading(late);
            // Sample 11 is in micro-batch 2 of epoch 1.
            let mut samples = Samples { poison: Some(11), ..Samples::new(6, 4) };
            let error = trainer.run(&task, &mut samples).unwrap_err().to_string();
            let error = error.replace(&folder.path().display().to_string(), "FOLDER");
            let state = trainer.state().clone();
            let said = said(&steps.borrow());
            (error, bits(trainer.optimizer()), state, said)
        };
        let (want, found) = (run(false), run(true));
        assert_eq!(found, want);
        assert!(
            want.0.contains("(epoch 1): the loss is NaN in batch 2; last good checkpoint: FOLDER")
        );
    }
}

/// `sqrt(x)` at 0 in its third batch: the loss is fine, its gradient is not.
struct Root(Var, Cell<usize>);

impl Task for Root {
    type Batch = ();

    fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
        self.1.set(self.1.get() + 1);
        let x = self.0.as_tensor();
        let x = if self.1.get() == 3 { (x - x.detach())? } else { (x + 10.0)? };
        Ok(Losses::new(x.sqrt()?.sum_all()?))
    }

    fn images_in(&self, (): &()) -> usize {
        1
    }
}

fn units() -> EpochStream<'static, ()> {
    EpochStream::new(10, |_, first, stride| {
        Ok::<_, BoxError>((first..10).step_by(stride).map(|_| Ok::<_, BoxError>(())))
    })
}

#[test]
fn a_gradient_that_is_not_finite_moves_nothing() {
    let run = |late: bool| {
        let task = Root(Var::new(&[4_f32, 9.0], &Device::Cpu).unwrap(), Cell::new(0));
        let parameters = vec![Parameter::new("x", task.0.clone())];
        let optimizer = AdamW::new(parameters, AdamWConfig::default()).unwrap();
        let mut trainer = Trainer::new(config(1, Some(0.5)), SCHEDULE, optimizer)
            .unwrap()
            .with_late_reading(late);
        let error = trainer.run(&task, &mut units()).unwrap_err().to_string();
        (error, bits(trainer.optimizer()), trainer.state().clone(), trainer.optimizer().steps_of(0))
    };
    let (want, found) = (run(false), run(true));
    assert_eq!(found, want);
    assert!(
        want.0.starts_with("step 3 (epoch 0): the gradient of `x` is not finite"),
        "{}",
        want.0
    );
    assert_eq!(want.3, Some(2));
}

#[test]
fn optimizers_that_cannot_are_read_at_once() {
    let run = |late: bool| {
        let task = Root(Var::new(&[4_f32, 9.0], &Device::Cpu).unwrap(), Cell::new(9));
        let parameters = vec![Parameter::new("x", task.0.clone())];
        let optimizer = Sgd::new(parameters, SgdConfig::default()).unwrap();
        let steps = Rc::new(RefCell::new(Vec::new()));
        let mut trainer = Trainer::new(config(2, Some(0.5)), SCHEDULE, optimizer)
            .unwrap()
            .with_hook(Record { steps: steps.clone(), ..Record::default() })
            .with_late_reading(late);
        assert!(trainer.run(&task, &mut units()).unwrap().is_finished());
        let said = said(&steps.borrow());
        (task.0.to_vec1::<f32>().unwrap(), said)
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn a_run_that_is_stopped_and_resumed_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let trainer = |task: &Regression, hook: Record| {
        let every = CheckpointConfig { every: Every::Steps(4), keep: 100 };
        Trainer::new(config(2, Some(1.5)), SCHEDULE, task.optimizer())
            .unwrap()
            .with_hook(hook)
            .with_late_reading(true)
            .with_checkpoints(Checkpoints::new(folder.path(), every).unwrap())
    };
    let task = Regression::new();
    let whole = {
        let mut whole = Trainer::new(config(2, Some(1.5)), SCHEDULE, task.optimizer()).unwrap();
        whole.run(&task, &mut Samples::new(7, 4)).unwrap();
        bits(whole.optimizer())
    };
    // By a hook, in the middle of an epoch and at its end.
    for stop_at in [2, 3, 5] {
        let task = Regression::new();
        let mut first = trainer(&task, Record { stop_at: Some(stop_at), ..Record::default() });
        assert!(first.run(&task, &mut Samples::new(7, 4)).unwrap().is_stopped());
        assert_eq!(first.state().step, stop_at);
        drop(first);
        let task = Regression::new();
        let mut second = trainer(&task, Record::default());
        second.resume(&latest(folder.path()).unwrap().unwrap()).unwrap();
        assert!(second.run(&task, &mut Samples::new(7, 4)).unwrap().is_finished());
        assert_eq!(bits(second.optimizer()), whole, "{stop_at}");
        drop(second);
        std::fs::remove_dir_all(folder.path()).unwrap();
    }
    // By a signal during the micro-batches of the step that follows one whose numbers are not read.
    let stop = Arc::new(AtomicBool::new(false));
    let task =
        StopDuring { task: Regression::new(), at: 2, seen: Cell::new(0), stop: stop.clone() };
    let steps = Rc::new(RefCell::new(Vec::new()));
    let mut first = trainer(&task.task, Record { steps: steps.clone(), ..Record::default() })
        .with_stop(stop.clone());
    assert!(first.run(&task, &mut Samples::new(7, 4)).unwrap().is_stopped());
    assert_eq!((first.state().step, steps.borrow().len()), (1, 1));
    drop(first);
    stop.store(false, Ordering::Relaxed);
    let task = Regression::new();
    let mut second = trainer(&task, Record::default());
    second.resume(&latest(folder.path()).unwrap().unwrap()).unwrap();
    assert!(second.run(&task, &mut Samples::new(7, 4)).unwrap().is_finished());
    assert_eq!(bits(second.optimizer()), whole);
}

/// An update that is begun and finished by hand.
#[test]
fn an_update_by_hand() {
    let parameters = || {
        let x = Var::new(&[3_f32, -4.0], &Device::Cpu).unwrap();
        vec![Parameter::new("x", x)]
    };
    let gradients = Gradients::new(vec![Some(Tensor::new(&[3_f32, 4.0], &Device::Cpu).unwrap())]);
    let loss = |value: f32| Tensor::new(value, &Device::Cpu).unwrap();
    let mut whole = AdamW::new(parameters(), AdamWConfig::default()).unwrap();
    let mut clipped = gradients.clone();
    clipped.clip(1.0).unwrap();
    whole.step(&clipped, 0.1, 0).unwrap();

    let mut begun = AdamW::new(parameters(), AdamWConfig::default()).unwrap();
    let optimizer: &mut dyn Optimizer = &mut begun;
    let nan = optimizer.begin_step(&gradients, &[&loss(f32::NAN)], Some(1.0), 0.1, 0);
    let report = optimizer.finish_step(nan.unwrap().unwrap()).unwrap();
    assert_eq!((report.grad_norm, report.updated), (5.0, 0), "nothing was updated");
    let step = optimizer.begin_step(&gradients, &[&loss(2.0)], Some(1.0), 0.1, 0);
    let report = optimizer.finish_step(step.unwrap().unwrap()).unwrap();
    assert_eq!((report.grad_norm, report.updated), (5.0, 1));
    let broken = Gradients::new(vec![Some(loss(f32::INFINITY).broadcast_as(2).unwrap())]);
    let step = optimizer.begin_step(&broken, &[], None, 0.1, 0).unwrap().unwrap();
    assert_eq!(
        optimizer.finish_step(step).unwrap_err().to_string(),
        "the gradient of `x` is not finite (its norm is inf)"
    );
    assert!(optimizer.begin_step(&Gradients::new(vec![]), &[], None, 0.1, 0).is_err());
    assert!(optimizer.begin_step(&gradients, &[], None, f64::NAN, 0).is_err());
    assert_eq!(bits(&begun), bits(&whole));
}
