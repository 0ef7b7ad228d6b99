//! Whole runs on a small regression: accumulation, resume bit for bit, stops, damaged checkpoints, logs.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use candle_core::{DType, Device, Tensor, Var};
use pad_ops::{
    Mode,
    rng::{Key, Purpose},
};
use pad_train::{
    AdamW, AdamWConfig, Batches, Epoch, Error, Hook, Losses, Outcome, Parameter, Schedule, Source,
    StepInfo, Task, TrainConfig, Trainer,
    checkpoint::{self, Identity, Plan},
    log::JsonLines,
    weight_decay_for,
};

const DIM: usize = 6;

struct Regression {
    weight: Var,
    bias: Var,
    poison_step: Option<u64>,
}

impl Regression {
    fn new() -> Self {
        let var = |shape: &[usize]| {
            Var::from_tensor(&Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()).unwrap()
        };
        Self { weight: var(&[1, DIM]), bias: var(&[1]), poison_step: None }
    }

    fn optimizer(&self) -> AdamW {
        let parameter = |name: &str, var: &Var| Parameter {
            name: name.into(),
            weight_decay: weight_decay_for(var.as_tensor(), 0.05),
            var: var.clone(),
            lr_factor: 1.0,
            frozen_through: None,
        };
        let parameters = vec![parameter("weight", &self.weight), parameter("bias", &self.bias)];
        AdamW::new(parameters, AdamWConfig::default()).unwrap()
    }

    fn bits(&self) -> Vec<u32> {
        let weight = self.weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let bias = self.bias.to_vec1::<f32>().unwrap();
        weight.iter().chain(&bias).map(|v| v.to_bits()).collect()
    }
}

struct Sample {
    x: Tensor,
    y: Tensor,
}

impl Task for Regression {
    type Batch = Sample;

    fn losses(&self, batch: &Sample, mode: Mode) -> Result<Losses, Source> {
        // Dropout makes the result depend on the micro-step's key.
        let x = pad_ops::dropout(&batch.x, 0.2, mode)?;
        let y = pad_ops::linear(&x, self.weight.as_tensor(), Some(self.bias.as_tensor()))?;
        let mut total = (y - &batch.y)?.sqr()?.mean_all()?;
        if let (Mode::Train(key), Some(step)) = (mode, self.poison_step)
            && key == Key::new(5).epoch(step)
        {
            total = (total * f64::NAN)?;
        }
        Ok(Losses { parts: vec![("mse", total.clone())], total })
    }

    fn images(&self, batch: &Sample) -> usize {
        batch.x.dims()[0]
    }
}

struct Stream {
    batch: usize,
    per_epoch: usize,
}

impl Batches for Stream {
    type Batch = Sample;

    fn per_epoch(&self) -> usize {
        self.per_epoch
    }

    fn epoch(&self, epoch: usize, first: usize) -> Result<Epoch<'_, Sample>, Source> {
        let make = move |index: usize| -> Result<Sample, Source> {
            let (mut xs, mut ys) = (Vec::new(), Vec::new());
            for row in index * self.batch..(index + 1) * self.batch {
                let key = Key::new(1).epoch(epoch as u64).sample(row as u64).purpose(Purpose::Crop);
                let mut stream = key.stream();
                let x: Vec<f32> = (0..DIM).map(|_| stream.normal() as f32).collect();
                ys.push(x.iter().enumerate().map(|(i, x)| x * i as f32).sum::<f32>() + 0.5);
                xs.extend(x);
            }
            let x = Tensor::from_vec(xs, (self.batch, DIM), &Device::Cpu)?;
            Ok(Sample { x, y: Tensor::from_vec(ys, (self.batch, 1), &Device::Cpu)? })
        };
        Ok(Box::new((first..self.per_epoch).map(make)))
    }
}

fn config(accumulate: usize) -> TrainConfig {
    TrainConfig {
        epochs: 3,
        max_steps: None,
        accumulate,
        clip_norm: Some(5.0),
        schedule: Schedule::WarmupCosine {
            peak_lr: 0.1,
            min_lr: 0.0,
            warmup_epochs: 0.5,
            epochs: 3.0,
        },
        key: Key::new(5),
    }
}

fn plan(folder: &Path) -> Plan {
    Plan {
        folder: folder.to_path_buf(),
        every_steps: Some(4),
        every_epochs: None,
        keep: 2,
        identity: Identity::from([("lr".into(), "0.1".into())]),
    }
}

/// Sets the stop flag after a step.
struct StopAt(usize, Arc<AtomicBool>);

impl Hook for StopAt {
    fn name(&self) -> &'static str {
        "stop"
    }
    fn after_step(&mut self, info: &mut StepInfo) -> pad_train::Result<()> {
        if info.step == self.0 {
            self.1.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }
}

#[test]
fn learns() {
    let (task, batches) = (Regression::new(), Stream { batch: 16, per_epoch: 10 });
    let schedule = Schedule::Constant { lr: 0.05 };
    let config = TrainConfig { epochs: 40, schedule, ..config(1) };
    Trainer::new(config, &task, &batches, task.optimizer()).unwrap().run(&mut []).unwrap();
    let weight = task.weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    // Dropout on unit-variance inputs acts like a ridge: the best weights are (1 - p) times the true 0..5.
    for (i, w) in weight.iter().enumerate() {
        assert!((w - 0.8 * i as f32).abs() < 0.4, "{weight:?}");
    }
}

#[test]
fn accumulated_micro_batches_are_one_batch() {
    let run = |batch: usize, per_epoch: usize, accumulate: usize| {
        let task = Regression::new();
        let batches = Stream { batch, per_epoch };
        let mut trainer =
            Trainer::new(config(accumulate), &task, &batches, task.optimizer()).unwrap();
        // No dropout here: its mask is drawn per micro-batch.
        trainer.run(&mut []).unwrap();
        assert_eq!(trainer.progress().step, 12);
        assert_eq!(trainer.progress().images, 3 * 4 * 32);
    };
    run(32, 4, 1);
    run(8, 16, 4);
    run(8, 18, 4); // two batches at the epoch's end make no update

    // The gradient itself: two halves accumulated equal the whole.
    let task = Regression::new();
    let whole = Stream { batch: 8, per_epoch: 1 }.epoch(0, 0).unwrap().next().unwrap().unwrap();
    let halves: Vec<Sample> =
        Stream { batch: 4, per_epoch: 2 }.epoch(0, 0).unwrap().map(Result::unwrap).collect();
    let gradient = |sample: &Sample| {
        let loss = task.losses(sample, Mode::Eval).unwrap().total;
        loss.backward().unwrap().get(task.weight.as_tensor()).unwrap().clone()
    };
    let mean = ((gradient(&halves[0]) + gradient(&halves[1])).unwrap() * 0.5).unwrap();
    let off = (mean - gradient(&whole)).unwrap().abs().unwrap().sum_all().unwrap();
    assert!(off.to_scalar::<f32>().unwrap() < 1e-5);
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let batches = Stream { batch: 4, per_epoch: 10 };
    let whole = Regression::new();
    Trainer::new(config(2), &whole, &batches, whole.optimizer()).unwrap().run(&mut []).unwrap();

    for stop_at in [1, 3, 5, 9, 14] {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log.jsonl");
        let checkpoints = folder.path().join("checkpoints");
        let stop = Arc::new(AtomicBool::new(false));
        let first = Regression::new();
        let mut trainer = Trainer::new(config(2), &first, &batches, first.optimizer())
            .unwrap()
            .with_checkpoints(plan(&checkpoints))
            .with_stop(stop.clone());
        let (mut lines, mut stopper) = (JsonLines::new(&log), StopAt(stop_at, stop));
        let outcome = trainer.run(&mut [&mut lines, &mut stopper]).unwrap();
        assert_eq!(outcome, Outcome::Stopped);

        // What a killed run may leave behind.
        std::fs::create_dir(checkpoints.join(".checkpoint-00000099.tmp")).unwrap();
        std::fs::write(&log, std::fs::read_to_string(&log).unwrap() + "{\"step\": 9").unwrap();

        let second = Regression::new();
        let mut trainer = Trainer::new(config(2), &second, &batches, second.optimizer())
            .unwrap()
            .with_checkpoints(plan(&checkpoints));
        let mut lines = JsonLines::new(&log);
        let resumed = trainer.resume(&mut [&mut lines]).unwrap().unwrap();
        assert!(resumed.ends_with(format!("checkpoint-{stop_at:08}")), "{}", resumed.display());
        assert_eq!(trainer.run(&mut [&mut lines]).unwrap(), Outcome::Finished);
        assert_eq!(second.bits(), whole.bits(), "stopped at {stop_at}");
        let text = std::fs::read_to_string(&log).unwrap();
        let steps: Vec<u64> = text
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(line["mse"].is_number() && line["images_per_s"].is_number());
                line["step"].as_u64().unwrap()
            })
            .collect();
        assert_eq!(steps, (1..=15).collect::<Vec<_>>(), "each step once");
        let kept = std::fs::read_dir(&checkpoints).unwrap().count();
        assert_eq!(kept, 3, "two checkpoints and the foreign left-over");
    }
}

#[test]
fn a_nan_loss_stops_with_the_last_good_checkpoint_named() {
    let folder = tempfile::tempdir().unwrap();
    let batches = Stream { batch: 4, per_epoch: 10 };
    let mut task = Regression::new();
    task.poison_step = Some(5); // the sixth update
    let mut trainer = Trainer::new(config(1), &task, &batches, task.optimizer())
        .unwrap()
        .with_checkpoints(plan(folder.path()));
    let text = trainer.run(&mut []).unwrap_err().to_string();
    let want = format!(
        "step 6: the loss is NaN; the last good checkpoint is {}",
        folder.path().join("checkpoint-00000004").display()
    );
    assert_eq!(text, want);
    assert!(task.bits().iter().all(|&bits| f32::from_bits(bits).is_finite()));
}

/// A finished run's folder of checkpoints.
fn finished(folder: &Path) -> Regression {
    let batches = Stream { batch: 4, per_epoch: 4 };
    let task = Regression::new();
    Trainer::new(config(1), &task, &batches, task.optimizer())
        .unwrap()
        .with_checkpoints(plan(folder))
        .run(&mut [])
        .unwrap();
    task
}

fn resume(folder: &Path, plan: Plan) -> Result<Option<std::path::PathBuf>, Error> {
    assert_eq!(plan.folder, folder);
    let batches = Stream { batch: 4, per_epoch: 4 };
    let task = Regression::new();
    let trainer = Trainer::new(config(1), &task, &batches, task.optimizer()).unwrap();
    trainer.with_checkpoints(plan).resume(&mut [])
}

#[test]
fn damaged_checkpoints_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    finished(folder.path());
    let newest = folder.path().join("checkpoint-00000012");
    assert_eq!(checkpoint::latest(folder.path()).unwrap(), Some(newest.clone()));
    let model = newest.join("model.safetensors");
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    let older = folder.path().join("checkpoint-00000008");
    assert_eq!(resume(folder.path(), plan(folder.path())).unwrap(), Some(older.clone()));
    std::fs::remove_file(older.join("state.json")).unwrap();
    assert_eq!(resume(folder.path(), plan(folder.path())).unwrap(), None);
}

#[test]
fn checkpoints_of_other_runs_and_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    finished(folder.path());
    let newest = folder.path().join("checkpoint-00000012");
    let mut other = plan(folder.path());
    other.identity.insert("lr".into(), "0.2".into());
    assert_eq!(
        resume(folder.path(), other).unwrap_err().to_string(),
        format!(
            "{}: the checkpoint belongs to another run: lr is 0.1, expected 0.2",
            newest.display()
        )
    );
    let model = newest.join("model.safetensors");
    let tensors = std::collections::HashMap::from([
        ("weight", Tensor::zeros((1, 9), DType::F32, &Device::Cpu).unwrap()),
        ("extra", Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap()),
    ]);
    candle_core::safetensors::save(&tensors, &model).unwrap();
    assert_eq!(
        resume(folder.path(), plan(folder.path())).unwrap_err().to_string(),
        format!(
            "{}: the checkpoint is not this run's: weight has shape [1, 9], expected [1, 6]; missing bias; unexpected \
             extra",
            model.display()
        )
    );
}

#[test]
fn settings_that_cannot_train() {
    let task = Regression::new();
    let batches = Stream { batch: 4, per_epoch: 2 };
    let text = |config: TrainConfig, optimizer: AdamW| {
        Trainer::new(config, &task, &batches, optimizer).err().unwrap().to_string()
    };
    assert_eq!(
        text(config(3), task.optimizer()),
        "`batches per epoch` is 2, expected at least `accumulate` (3)"
    );
    let empty = AdamW::new(Vec::new(), AdamWConfig::default()).unwrap();
    assert_eq!(text(config(1), empty), "`trained parameters` is 0, expected at least 1");
}
