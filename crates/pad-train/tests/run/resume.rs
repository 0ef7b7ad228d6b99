//! A run that was stopped, killed or resumed equals one that was not, bit for bit.

use std::{
    cell::Cell,
    fs,
    path::Path,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    regression::{Regression, Samples, bits},
    stopping::StopDuring,
};
use pad_train::{
    BoxError, CheckpointConfig, Checkpoints, Every, Flow, Hook, Schedule, StepInfo, Trainer,
    TrainerConfig, TrainerView,
    checkpoint::{Which, latest, open},
    log::{JsonLines, TensorBoard},
};
use serde_json::{Value, json};

/// Remembers the sum of all losses, and may stop the run.
#[derive(Default)]
struct Sum {
    sum: Rc<Cell<f64>>,
    stop_at: Option<(usize, Arc<AtomicBool>)>,
    fail_at: Option<usize>,
}

impl Hook for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    fn after_step(&mut self, step: &StepInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        self.sum.set(self.sum.get() + step.loss);
        if self.fail_at == Some(step.step) {
            return Err("power cut".into());
        }
        if let Some((at, stop)) = &self.stop_at {
            stop.store(step.step == *at, Ordering::Relaxed);
        }
        Ok(Flow::Continue)
    }

    fn state(&self) -> Value {
        json!(self.sum.get())
    }

    fn restore(&mut self, state: &Value) -> Result<(), BoxError> {
        self.sum.set(state.as_f64().ok_or("expected a number")?);
        Ok(())
    }
}

/// 3 epochs of 7 micro-batches, two of them a step: 9 steps, a micro-batch left over in each epoch.
fn config(max_steps: Option<usize>) -> TrainerConfig {
    TrainerConfig { epochs: 3, max_steps, accumulate: 2, clip_norm: Some(1.5), seed: 7 }
}

const SCHEDULE: Schedule = Schedule::warmup_cosine(0.05, 0.001, 0.5, 3.0);

fn trainer<'h>(
    task: &Regression,
    folder: &Path,
    max_steps: Option<usize>,
    hook: Sum,
    every: usize,
) -> Trainer<'h> {
    let every = CheckpointConfig { every: Every::Steps(every), keep: 100 };
    Trainer::new(config(max_steps), SCHEDULE, task.optimizer())
        .unwrap()
        .with_hook(hook)
        .with_hook(JsonLines::new(folder.join("log.jsonl")))
        .with_hook(TensorBoard::new(folder.join("tensorboard")))
        .with_checkpoints(Checkpoints::new(folder.join("checkpoints"), every).unwrap())
}

type Bits = Vec<(String, Vec<u32>)>;

/// The uninterrupted run: bits at its end and the sum of its losses.
fn whole(folder: &Path) -> (Bits, u64) {
    let task = Regression::new();
    let hook = Sum::default();
    let sum = hook.sum.clone();
    let mut trainer = trainer(&task, folder, None, hook, 4);
    assert!(trainer.run(&task, &mut Samples::new(7, 4)).unwrap().is_finished());
    assert_eq!(trainer.state().step, 9);
    (bits(trainer.optimizer()), sum.get().to_bits())
}

/// Goes on from the newest checkpoint in a new process's place: fresh model, fresh hooks.
fn resumed(folder: &Path) -> (Bits, u64) {
    let task = Regression::new();
    let hook = Sum::default();
    let sum = hook.sum.clone();
    let mut trainer = trainer(&task, folder, None, hook, 4);
    let checkpoint = latest(&folder.join("checkpoints")).unwrap().unwrap();
    trainer.resume(&checkpoint).unwrap();
    assert!(trainer.run(&task, &mut Samples::new(7, 4)).unwrap().is_finished());
    (bits(trainer.optimizer()), sum.get().to_bits())
}

fn assert_same(got: &(Bits, u64), want: &(Bits, u64), what: &str) {
    for (got, want) in got.0.iter().zip(&want.0) {
        assert_eq!(got, want, "{what}");
    }
    assert_eq!(got.1, want.1, "{what}: sum of losses");
}

/// Step of each line of the log, and each line's loss.
fn logged(folder: &Path) -> Vec<(u64, f64)> {
    let text = fs::read_to_string(folder.join("log.jsonl")).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["step"].as_u64().unwrap(), line["train/loss"].as_f64().unwrap())
    };
    text.lines().map(line).collect()
}

#[test]
fn resuming_after_any_step_gives_the_same_bits() {
    let reference = tempfile::tempdir().unwrap();
    let want = whole(reference.path());
    for stop in 1..9 {
        let folder = tempfile::tempdir().unwrap();
        let task = Regression::new();
        let mut first = trainer(&task, folder.path(), Some(stop), Sum::default(), 100);
        assert!(first.run(&task, &mut Samples::new(7, 4)).unwrap().is_finished());
        assert_eq!(first.state().step, stop);
        assert_same(&resumed(folder.path()), &want, &format!("stopped after step {stop}"));
        assert_eq!(logged(folder.path()), logged(reference.path()), "log");
        let last = |folder: &Path| {
            fs::read(folder.join("checkpoints/checkpoint-00000009/model.safetensors")).unwrap()
        };
        assert_eq!(last(folder.path()), last(reference.path()), "files are equal too");
    }
}

#[test]
fn the_seed_and_the_place_in_the_run_matter() {
    // Otherwise the test above would pass with dropout that is always the same.
    let folder = tempfile::tempdir().unwrap();
    let task = Regression::new();
    let schedule = SCHEDULE;
    let run = |seed: u64| {
        let task = Regression::new();
        let config = TrainerConfig { seed, ..config(None) };
        let mut trainer = Trainer::new(config, schedule, task.optimizer()).unwrap();
        trainer.run(&task, &mut Samples::new(7, 4)).unwrap();
        bits(trainer.optimizer())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
    let mut first = trainer(&task, folder.path(), Some(3), Sum::default(), 100);
    first.run(&task, &mut Samples::new(7, 4)).unwrap();
    let mut other = Trainer::new(
        TrainerConfig { seed: 8, accumulate: 1, ..config(None) },
        schedule,
        task.optimizer(),
    )
    .unwrap();
    let checkpoint = latest(&folder.path().join("checkpoints")).unwrap().unwrap();
    assert_eq!(
        other.resume(&checkpoint).unwrap_err().to_string(),
        format!(
            "cannot resume from {}: `seed`: expected 7, found 8; `accumulate`: expected 2, found 1",
            checkpoint.path().display()
        )
    );
    let mut again = trainer(&task, folder.path(), None, Sum::default(), 100);
    again.resume(&checkpoint).unwrap();
    let refused = again.run(&task, &mut Samples::new(8, 4)).unwrap_err().to_string();
    assert!(refused.ends_with(": batches per epoch: expected 7, found 8"), "{refused}");
}

#[test]
fn a_stop_request_writes_a_checkpoint_and_returns() {
    let reference = tempfile::tempdir().unwrap();
    let want = whole(reference.path());
    let folder = tempfile::tempdir().unwrap();
    let task = Regression::new();
    let stop = Arc::new(AtomicBool::new(false));
    let hook = Sum { stop_at: Some((5, stop.clone())), ..Sum::default() };
    let mut first = trainer(&task, folder.path(), None, hook, 100).with_stop(stop);
    assert!(first.run(&task, &mut Samples::new(7, 4)).unwrap().is_stopped());
    assert_eq!(first.state().step, 5);
    let written = folder.path().join("checkpoints/checkpoint-00000005");
    assert_eq!(first.last_checkpoint(), Some(written.as_path()));
    assert_same(&resumed(folder.path()), &want, "stopped by request");
}

#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint_and_no_step_is_logged_twice() {
    let reference = tempfile::tempdir().unwrap();
    let want = whole(reference.path());
    let folder = tempfile::tempdir().unwrap();
    let task = Regression::new();
    let hook = Sum { fail_at: Some(7), ..Sum::default() };
    let mut first = trainer(&task, folder.path(), None, hook, 4);
    let error = first.run(&task, &mut Samples::new(7, 4)).unwrap_err();
    assert_eq!(error.to_string(), "hook `sum`: power cut");
    // Steps 5 and 6 are in the log but in no checkpoint; the last line is half-written, as a real
    // crash leaves it.
    let log = folder.path().join("log.jsonl");
    let mut text = fs::read_to_string(&log).unwrap();
    text.push_str("{\"step\":7,\"epo");
    fs::write(&log, text).unwrap();
    assert_same(&resumed(folder.path()), &want, "killed in step 7");
    let steps: Vec<u64> = logged(folder.path()).into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, (1..=9).collect::<Vec<_>>());
    assert_eq!(logged(folder.path()), logged(reference.path()));
    let files = fs::read_dir(folder.path().join("tensorboard")).unwrap().count();
    assert_eq!(files, 2, "one event file a process");
}

#[test]
fn a_new_run_does_not_overwrite_an_old_one() {
    let folder = tempfile::tempdir().unwrap();
    whole(folder.path());
    let task = Regression::new();
    let mut again = trainer(&task, folder.path(), None, Sum::default(), 4);
    let error = again.run(&task, &mut Samples::new(7, 4)).unwrap_err().to_string();
    assert!(
        error.contains("checkpoint-00000009: resume from it, or use another folder"),
        "{error}"
    );
    assert_eq!(logged(folder.path()).len(), 9, "the log is untouched");
}

#[test]
fn a_stop_inside_an_update_discards_it() {
    let reference = tempfile::tempdir().unwrap();
    let want = whole(reference.path());
    // Micro-batches 8 and 9 are those of step 5.
    for (at, steps) in [(0, 0), (8, 4), (9, 5)] {
        let folder = tempfile::tempdir().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let task =
            StopDuring { task: Regression::new(), at, seen: Cell::new(0), stop: stop.clone() };
        let mut first =
            trainer(&task.task, folder.path(), None, Sum::default(), 100).with_stop(stop);
        assert!(first.run(&task, &mut Samples::new(7, 4)).unwrap().is_stopped());
        assert_eq!((first.state().step, task.seen.get()), (steps, at + 1), "{at}");
        let newest = open(&folder.path().join("checkpoints"), Which::Latest).unwrap();
        assert_eq!(newest.trainer_state().step, steps);
        assert_same(&resumed(folder.path()), &want, &format!("stopped during micro-batch {at}"));
        assert_eq!(logged(folder.path()), logged(reference.path()));
    }
}

#[test]
fn a_finished_run_is_extended_as_if_it_had_been_longer() {
    let run = |epochs, folder: &Path, resume: bool| {
        let task = Regression::new();
        let schedule = Schedule::Constant { lr: 0.03 };
        let config = TrainerConfig { epochs, ..config(None) };
        let checkpoints = Checkpoints::new(folder, CheckpointConfig::default()).unwrap();
        let trainer = Trainer::new(config, schedule, task.optimizer()).unwrap();
        let mut trainer = trainer.with_checkpoints(checkpoints);
        if resume {
            trainer.resume(&open(folder, Which::Latest).unwrap()).unwrap();
        }
        assert!(trainer.run(&task, &mut Samples::new(7, 4)).unwrap().is_finished());
        assert_eq!((trainer.state().epoch, trainer.state().step), (epochs, 3 * epochs));
        bits(trainer.optimizer())
    };
    let (whole, extended) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let want = run(5, whole.path(), false);
    run(2, extended.path(), false);
    assert_eq!(run(5, extended.path(), true), want);
}

#[test]
fn checkpoints_are_opened_by_name() {
    let folder = tempfile::tempdir().unwrap();
    whole(folder.path());
    let folder = folder.path().join("checkpoints");
    let step =
        |which: &str| open(&folder, which.parse().unwrap()).map(|found| found.trainer_state().step);
    assert_eq!(step("latest").unwrap(), 9);
    assert_eq!(step("checkpoint-00000004").unwrap(), 4);
    assert_eq!(step("8").unwrap(), 8);
    let names = "checkpoint-00000004, checkpoint-00000008, checkpoint-00000009";
    for (which, full) in [("best", "best"), ("5", "checkpoint-00000005")] {
        assert_eq!(
            step(which).unwrap_err().to_string(),
            format!("{}: expected the checkpoint `{full}`, found {names}", folder.display())
        );
    }
    let found = open(&folder, Which::Step(8)).unwrap();
    let tensors = found.evaluated_tensors(&candle_core::Device::Cpu).unwrap();
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["bias", "gate", "weight"]);
}
