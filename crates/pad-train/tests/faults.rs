//! A run survives an error or a crash at any file operation: what is on the disk is usable, and the
//! resumed run ends with the same bits, the same best checkpoint and the same log.

#[path = "run/regression.rs"]
mod regression;

use std::{collections::BTreeMap, fs, path::Path};

use pad_ops::fs::fault;
use pad_train::{
    BoxError, CheckpointConfig, Checkpoints, EmaConfig, EpochInfo, Error, Every, Flow, Hook,
    Schedule, Trainer, TrainerConfig, TrainerView,
    checkpoint::{best, latest},
    log::JsonLines,
};
use regression::{Regression, Samples, bits};
use serde_json::{Value, json};

/// "Measures" after each epoch, and finds the second of four the best.
#[derive(Default)]
struct Measure {
    best: Option<f64>,
    /// The epoch whose evaluation fails.
    fails: Option<usize>,
}

impl Hook for Measure {
    fn name(&self) -> &str {
        "measure"
    }

    fn after_epoch(&mut self, info: &mut EpochInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        if self.fails == Some(info.epoch) {
            return Err("a held-out image is damaged".into());
        }
        let value = [0.2, 0.9, 0.4, 0.5][info.epoch];
        info.metrics.insert("val/score".into(), value);
        if self.best.is_some_and(|best| value <= best) {
            return Ok(Flow::Continue);
        }
        self.best = Some(value);
        Ok(Flow::Best)
    }

    fn state(&self) -> Value {
        json!(self.best)
    }

    fn restore(&mut self, state: &Value) -> Result<(), BoxError> {
        self.best = state.as_f64();
        Ok(())
    }
}

/// A folder in memory where the system has one: hundreds of runs sync each of their files, and what a
/// sync costs on a disk is not what is tested.
fn memory_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What a run leaves: bits of the weights and moments, step and bytes of the best checkpoint, names in
/// the folder, steps of the log.
#[derive(Debug, PartialEq)]
struct Left {
    bits: Vec<(String, Vec<u32>)>,
    best: (usize, Vec<u8>),
    names: Vec<String>,
    log: Vec<(u64, bool)>,
}

/// Runs to the end, or to the first error, from what the folder holds.
fn run(folder: &Path, fails: Option<usize>) -> Result<Left, Error> {
    let checkpoints = folder.join("checkpoints");
    let task = Regression::new();
    let config = TrainerConfig { epochs: 4, accumulate: 2, seed: 7, ..Default::default() };
    let schedule = Schedule::warmup_cosine(0.05, 0.001, 0.5, 4.0);
    let every = CheckpointConfig { every: Every::Steps(2), keep: 1 };
    let mut trainer = Trainer::new(config, schedule, task.optimizer())?
        .with_ema(EmaConfig { decay: 0.9, ..Default::default() })?
        .with_hook(Measure { fails, ..Default::default() })
        .with_hook(JsonLines::new(folder.join("log.jsonl")))
        .with_checkpoints(Checkpoints::new(&checkpoints, every)?);
    if let Some(checkpoint) = latest(&checkpoints)? {
        trainer.resume(&checkpoint)?;
    }
    assert!(trainer.run(&task, &mut Samples::new(6, 2))?.is_finished());
    let found = best(&checkpoints)?.expect("a best checkpoint");
    let averages = fs::read(found.path().join("averages.safetensors")).unwrap();
    let mut names: Vec<String> = fs::read_dir(&checkpoints)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let log = fs::read_to_string(folder.join("log.jsonl")).unwrap();
    let log = log.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["step"].as_u64().unwrap(), line.get("val/score").is_some())
    });
    Ok(Left {
        bits: bits(trainer.optimizer()),
        best: (found.trainer_state().step, averages),
        names,
        log: log.collect(),
    })
}

// One test: operations are counted for the whole process.
#[test]
fn an_error_or_a_crash_at_any_file_operation_loses_nothing() {
    let folder = memory_folder();
    fault::arm(usize::MAX, false);
    let want = run(folder.path(), None).unwrap();
    let operations = fault::disarm();
    assert!(operations > 100, "{operations}");
    assert_eq!(want.best.0, 6);
    assert_eq!(
        want.names,
        [".lock", "best", "checkpoint-00000006", "checkpoint-00000012"],
        "nothing else is left"
    );
    let mut outcomes = BTreeMap::from([("failed", 0), ("went on", 0)]);
    for (operation, crash) in (1..=operations).flat_map(|n| [(n, false), (n, true)]) {
        let folder = memory_folder();
        fault::arm(operation, crash);
        let first = run(folder.path(), None);
        fault::disarm();
        let what = format!("operation {operation} of {operations}, crash: {crash}");
        let left = match first {
            Ok(left) => {
                *outcomes.get_mut("went on").unwrap() += 1;
                left
            }
            Err(error) => {
                *outcomes.get_mut("failed").unwrap() += 1;
                assert!(error.to_string().contains("injected: "), "{what}: {error}");
                run(folder.path(), None).unwrap_or_else(|error| panic!("{what}: {error}"))
            }
        };
        assert_eq!(left.bits, want.bits, "{what}");
        assert_eq!(left.best, want.best, "{what}");
        assert_eq!(left.log, want.log, "{what}");
        // What could not be removed stays until the next run; nothing is missing.
        assert!(want.names.iter().all(|name| left.names.contains(name)), "{what}: {left:?}");
    }
    assert!(outcomes["failed"] > 100, "{outcomes:?}");

    // An evaluation that fails, in the middle and at the end: what was trained is on the disk, and
    // the resumed run measures again.
    for epoch in 0..4 {
        let folder = memory_folder();
        let error = run(folder.path(), Some(epoch)).unwrap_err();
        assert_eq!(error.to_string(), "hook `measure`: a held-out image is damaged");
        let newest = latest(&folder.path().join("checkpoints")).unwrap().unwrap();
        assert_eq!(newest.trainer_state().step, 3 * (epoch + 1));
        let again = run(folder.path(), Some(epoch)).unwrap_err();
        assert_eq!(again.to_string(), error.to_string(), "measured first, and failed first");
        assert_eq!(run(folder.path(), None).unwrap(), want, "epoch {epoch}");
    }
}
