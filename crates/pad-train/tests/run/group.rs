//! Several members of a group train what one process trains.

use std::{
    cell::Cell,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use candle_core::{DType, Tensor};
use pad_train::{
    AdamW, BoxError, CheckpointConfig, Checkpoints, Collective, Error, Every, Flow, Hook,
    LocalGroup, RunEnd, Schedule, StepInfo, Trainer, TrainerConfig, TrainerView,
    checkpoint::latest, collective::agree, log::JsonLines,
};

use crate::{
    regression::{Regression, Samples, bits},
    stopping::StopDuring,
};

const SCHEDULE: Schedule = Schedule::warmup_cosine(0.05, 0.001, 0.5, 3.0);

fn config(accumulate: usize) -> TrainerConfig {
    TrainerConfig { epochs: 3, max_steps: None, accumulate, clip_norm: Some(0.7), seed: 7 }
}

fn trainer<'h>(task: &Regression, accumulate: usize, group: Option<LocalGroup>) -> Trainer<'h> {
    let trainer = Trainer::new(config(accumulate), SCHEDULE, task.optimizer()).unwrap();
    match group {
        Some(group) => trainer.with_group(Arc::new(group)),
        None => trainer,
    }
}

/// Runs `work` on every member of a group, each in a thread, and gives the results by rank.
fn on_all<R: Send>(count: usize, work: impl Fn(LocalGroup) -> R + Sync) -> Vec<R> {
    let work = &work;
    thread::scope(|scope| {
        let members = LocalGroup::members(count).into_iter();
        let threads: Vec<_> = members.map(|member| scope.spawn(move || work(member))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn values(optimizer: &AdamW) -> Vec<f32> {
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap();
    let all = optimizer.parameters().iter().map(|p| flat(&p.var).to_vec1::<f32>().unwrap());
    all.flatten().collect()
}

/// Dropout, late thaw, clipping, weight decay and all: the same bits as one process that
/// accumulates.
#[test]
fn a_group_equals_one_process_that_accumulates() {
    let task = Regression::new();
    let mut one = trainer(&task, 2, None);
    one.run(&task, &mut Samples::new(7, 4)).unwrap();
    let expected = bits(one.optimizer());
    let found = on_all(2, |group| {
        let task = Regression::new();
        let mut trainer = trainer(&task, 2, Some(group));
        assert!(trainer.run(&task, &mut Samples::new(7, 4)).unwrap().is_finished());
        assert_eq!(trainer.state().step, 9);
        bits(trainer.optimizer())
    });
    for (rank, found) in found.iter().enumerate() {
        assert_eq!(found, &expected, "rank {rank}");
    }
}

/// Two members with batches of 4 against one process with batches of 8: the same but for rounding.
/// Three epochs of 12 micro-batches, six members' worth of gradients also through accumulation.
#[test]
fn a_group_equals_one_process_with_the_joined_batch() {
    for (members, accumulate, size) in [(2, 2, 8), (3, 6, 24)] {
        let mut task = Regression::new();
        task.dropout = false;
        let start = values(&task.optimizer());
        let mut one = trainer(&task, 1, None);
        one.run(&task, &mut Samples::new(12 / accumulate, size)).unwrap();
        let expected = values(one.optimizer());
        let moved = start.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(moved > 0.1, "{moved}");
        let found = on_all(members, |group| {
            let mut task = Regression::new();
            task.dropout = false;
            let mut trainer = trainer(&task, accumulate, Some(group));
            trainer.run(&task, &mut Samples::new(12, 4)).unwrap();
            values(trainer.optimizer())
        });
        for found in found {
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }
}

/// Counts its calls, and may want something.
#[derive(Default)]
struct Watch {
    steps: Vec<(usize, u64, usize)>,
    everywhere: bool,
    stop_at: Option<(usize, Arc<AtomicBool>)>,
    fail_at: Option<usize>,
}

impl Hook for Watch {
    fn name(&self) -> &str {
        "watch"
    }

    fn on_every_rank(&self) -> bool {
        self.everywhere
    }

    fn after_step(&mut self, step: &StepInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        self.steps.push((step.step, step.loss.to_bits(), step.images));
        if let Some((at, stop)) = &self.stop_at {
            stop.store(step.step == *at, Ordering::Relaxed);
        }
        if self.fail_at == Some(step.step) {
            return Err("disk full".into());
        }
        Ok(Flow::Continue)
    }
}

#[test]
fn logs_are_of_all_and_written_by_the_first() {
    let task = Regression::new();
    let mut alone = Watch::default();
    trainer(&task, 2, None).with_hook(&mut alone).run(&task, &mut Samples::new(4, 4)).unwrap();
    for everywhere in [false, true] {
        let seen = on_all(2, |group| {
            let (rank, task) = (group.rank(), Regression::new());
            let mut watch = Watch { everywhere, ..Watch::default() };
            let mut trainer = trainer(&task, 2, Some(group)).with_hook(&mut watch);
            trainer.run(&task, &mut Samples::new(4, 4)).unwrap();
            drop(trainer);
            (rank, watch.steps)
        });
        for (rank, steps) in seen {
            let expected = if everywhere || rank == 0 { alone.steps.clone() } else { Vec::new() };
            assert_eq!(steps, expected, "rank {rank}");
        }
    }
}

fn with_checkpoints<'h>(trainer: Trainer<'h>, folder: &Path) -> Trainer<'h> {
    let every = CheckpointConfig { every: Every::Steps(2), keep: 100 };
    trainer
        .with_checkpoints(Checkpoints::new(folder.join("checkpoints"), every).unwrap())
        .with_hook(JsonLines::new(folder.join("log.jsonl")))
}

/// A stop asked for on the second member alone; then one process goes on where two were.
#[test]
fn a_stop_of_one_stops_all_and_another_number_of_processes_goes_on() {
    let task = Regression::new();
    let mut one = trainer(&task, 2, None);
    one.run(&task, &mut Samples::new(7, 4)).unwrap();
    let expected = bits(one.optimizer());

    let folder = tempfile::tempdir().unwrap();
    let steps = on_all(2, |group| {
        let (rank, task, stop) = (group.rank(), Regression::new(), Arc::<AtomicBool>::default());
        let stop_at = (rank == 1).then(|| (5, stop.clone()));
        let watch = Watch { everywhere: true, stop_at, ..Watch::default() };
        let trainer = trainer(&task, 2, Some(group)).with_hook(watch).with_stop(stop);
        let mut trainer = with_checkpoints(trainer, folder.path());
        assert!(trainer.run(&task, &mut Samples::new(7, 4)).unwrap().is_stopped());
        (trainer.state().step, trainer.last_checkpoint().is_some())
    });
    assert_eq!(steps, [(5, true), (5, false)]);

    let task = Regression::new();
    let mut resumed = with_checkpoints(trainer(&task, 2, None), folder.path());
    resumed.resume(&latest(&folder.path().join("checkpoints")).unwrap().unwrap()).unwrap();
    resumed.run(&task, &mut Samples::new(7, 4)).unwrap();
    assert_eq!(bits(resumed.optimizer()), expected);
    let log = std::fs::read_to_string(folder.path().join("log.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 9, "{log}");
}

/// A stop that one member sees inside an update, between its micro-batches: all discard the update.
#[test]
fn a_stop_of_one_inside_an_update_discards_it_on_all() {
    let ends = on_all(2, |group| {
        let (rank, stop) = (group.rank(), Arc::<AtomicBool>::default());
        // Four micro-batches a step, two of each member; the second member's third is in step 2.
        let at = if rank == 1 { 2 } else { usize::MAX };
        let task =
            StopDuring { task: Regression::new(), at, seen: Cell::new(0), stop: stop.clone() };
        let mut trainer = trainer(&task.task, 4, Some(group)).with_stop(stop);
        let outcome = trainer.run(&task, &mut Samples::new(12, 4)).unwrap();
        (outcome.end, trainer.state().step, bits(trainer.optimizer()))
    });
    let one_step = on_all(2, |group| {
        let task = Regression::new();
        let config = TrainerConfig { max_steps: Some(1), ..config(4) };
        let trainer = Trainer::new(config, SCHEDULE, task.optimizer()).unwrap();
        let mut trainer = trainer.with_group(Arc::new(group));
        trainer.run(&task, &mut Samples::new(12, 4)).unwrap();
        bits(trainer.optimizer())
    });
    for (end, bits) in ends.into_iter().zip(one_step) {
        assert_eq!(end, (RunEnd::Stopped, 1, bits));
    }
}

#[test]
fn an_error_of_one_reaches_all() {
    // In a hook, which only the first member calls.
    let errors = on_all(2, |group| {
        let task = Regression::new();
        let watch = Watch { fail_at: Some(3), ..Watch::default() };
        let mut trainer = trainer(&task, 2, Some(group)).with_hook(watch);
        trainer.run(&task, &mut Samples::new(7, 4)).unwrap_err().to_string()
    });
    assert_eq!(errors, ["hook `watch`: disk full", "rank 0 failed: hook `watch`: disk full"]);
    // In the data of the second: sample 5 of epoch 1 is in its first batch.
    let errors = on_all(2, |group| {
        let task = Regression::new();
        let mut samples = Samples { poison: Some(5), ..Samples::new(7, 4) };
        trainer(&task, 2, Some(group)).run(&task, &mut samples).unwrap_err().to_string()
    });
    let nan = "step 4 (epoch 1): the loss is NaN in batch 1; no checkpoint was written yet";
    assert_eq!(errors, [format!("rank 1 failed: {nan}"), nan.to_string()]);
}

/// Its thread ends while the others train: an error, not a hang.
#[test]
fn a_member_that_is_gone_is_an_error_on_all() {
    let results = on_all(3, |group| {
        if group.rank() == 2 {
            return String::new(); // drops its membership
        }
        let task = Regression::new();
        let mut trainer = trainer(&task, 3, Some(group));
        trainer.run(&task, &mut Samples::new(7, 4)).unwrap_err().to_string()
    });
    assert_eq!(results[0], "rank 0 of 3: rank 2 is gone: it left the group");
    assert_eq!(results[1], "rank 1 of 3: rank 2 is gone: it left the group");
}

#[test]
fn a_member_that_hangs_is_an_error_after_the_timeout() {
    let members = LocalGroup::members(2).into_iter();
    let mut members = members.map(|member| member.with_timeout(Duration::from_millis(30)));
    let (first, second) = (members.next().unwrap(), members.next().unwrap());
    assert_eq!(
        first.barrier().unwrap_err().to_string(),
        "rank 0 of 2: rank 1 did not come to a barrier within 0.03 s"
    );
    assert_eq!(
        second.barrier().unwrap_err().to_string(),
        "rank 1 of 2: rank 1 is gone: did not come to a barrier within 0.03 s"
    );
}

#[test]
fn members_that_do_different_things_are_told() {
    let errors = on_all(2, |group| {
        let done = match group.rank() {
            0 => group.all_reduce_sum(&mut [1.0, 2.0]),
            _ => group.barrier(),
        };
        done.unwrap_err().to_string()
    });
    assert_eq!(
        errors[0],
        "rank 0 of 2: rank 1 does a barrier, rank 0 a sum of 2 numbers: all must do the same in the same order"
    );
    let errors = on_all(2, |group| {
        let mine = if group.rank() == 1 {
            Err(Error::Settings { faults: vec!["x".into()] })
        } else {
            Ok(4)
        };
        agree(&group, mine).unwrap_err().to_string()
    });
    assert_eq!(errors, ["rank 1 failed: settings: x", "settings: x"]);
}

#[test]
fn unequal_starts_are_refused() {
    // Another value of one weight.
    let errors = on_all(2, |group| {
        let task = Regression::new();
        let mut trainer = trainer(&task, 2, Some(group));
        let rank = trainer.group().rank();
        let bias = &trainer.optimizer().parameters()[1].var;
        bias.set(&(bias.as_tensor() + rank as f64 * 1e-7).unwrap()).unwrap();
        trainer.run(&task, &mut Samples::new(7, 4)).unwrap_err().to_string()
    });
    let text = "`bias` of rank 1 has other values than rank 0's: every process must start from the same weights, \
                settings and seed";
    assert_eq!(errors, [format!("rank 0 of 2: {text}"), format!("rank 1 of 2: {text}")]);
    // Another amount of data.
    let errors = on_all(2, |group| {
        let (task, batches) = (Regression::new(), 7 + group.rank());
        let mut trainer = trainer(&task, 2, Some(group));
        trainer.run(&task, &mut Samples::new(batches, 4)).unwrap_err().to_string()
    });
    for error in errors {
        assert!(
            error.contains("rank 1 starts with") && error.contains("batches_per_epoch: 8"),
            "{error}"
        );
    }
    let errors = on_all(2, |group| {
        let task = Regression::new();
        trainer(&task, 3, Some(group)).run(&task, &mut Samples::new(7, 4)).unwrap_err().to_string()
    });
    assert_eq!(
        errors[0],
        "settings: `accumulate` is 3, expected a multiple of the 2 processes, which share the micro-batches of a step"
    );
}
