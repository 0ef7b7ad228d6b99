//! The loop. Whatever is not the step itself is a [`Hook`] or the checkpoint plan.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use candle_core::{DType, Tensor};
use pad_ops::{Mode, rng::Key};
use serde::{Deserialize, Serialize};

use crate::{
    AdamW, Error, Gradients, Result, Schedule,
    checkpoint::{self, Identity, Plan},
    error::Source,
};

/// A loss, and the parts it consists of, for the log. All scalars.
#[derive(Clone, Debug)]
pub struct Losses {
    /// What is minimised.
    pub total: Tensor,
    /// Named parts.
    pub parts: Vec<(&'static str, Tensor)>,
}

/// What is trained: a loss from a batch.
pub trait Task {
    /// One micro-batch.
    type Batch;

    /// The loss on a batch. `mode` carries the key of this micro-step for dropout.
    ///
    /// # Errors
    /// Whatever the task says.
    fn losses(&self, batch: &Self::Batch, mode: Mode) -> Result<Losses, Source>;

    /// Images in a batch, for the log.
    fn images(&self, batch: &Self::Batch) -> usize;
}

/// An iterator over one epoch's batches.
pub type Epoch<'a, B> = Box<dyn Iterator<Item = Result<B, Source>> + 'a>;

/// Where batches come from: the same for the same epoch, whoever asks and whenever.
pub trait Batches {
    /// One micro-batch.
    type Batch;

    /// Micro-batches in an epoch.
    fn per_epoch(&self) -> usize;

    /// The batches of `epoch` from number `first` on.
    ///
    /// # Errors
    /// Whatever the source says.
    fn epoch(&self, epoch: usize, first: usize) -> Result<Epoch<'_, Self::Batch>, Source>;
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Updates done.
    pub step: usize,
    /// Epoch of the next micro-batch.
    pub epoch: usize,
    /// Its number in the epoch.
    pub batch: usize,
    /// Images seen.
    pub images: u64,
}

/// What one update did. Hooks may add metrics; later hooks see them.
#[derive(Clone, Debug)]
pub struct StepInfo {
    /// Number of the update, from 1.
    pub step: usize,
    /// Updates in the whole run.
    pub steps: usize,
    /// Epoch it was in.
    pub epoch: usize,
    /// Whether it was the epoch's last.
    pub ends_epoch: bool,
    /// Training progress after it, in epochs.
    pub progress: f64,
    /// Learning rate, before any parameter's own factor.
    pub lr: f64,
    /// Mean loss over the micro-batches.
    pub loss: f64,
    /// Euclidean norm of all gradients, before clipping.
    pub gradient_norm: f64,
    /// Images in it.
    pub images: usize,
    /// Wall-clock seconds it took, waiting for data included.
    pub seconds: f64,
    /// Parts of the loss, and whatever hooks measured.
    pub metrics: Vec<(String, f64)>,
}

/// Something that happens beside the steps: logs, evaluation, pictures.
pub trait Hook {
    /// Its name in checkpoints; unique in a run.
    fn name(&self) -> &'static str;

    /// Before the first step, also of a resumed run: `done` updates are behind.
    ///
    /// # Errors
    /// Whatever the hook says; the run ends.
    fn before_run(&mut self, done: usize, steps: usize) -> Result<()> {
        let _ = (done, steps);
        Ok(())
    }

    /// After an update.
    ///
    /// # Errors
    /// Whatever the hook says; the run ends.
    fn after_step(&mut self, info: &mut StepInfo) -> Result<()>;

    /// What it must remember in a checkpoint.
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Takes back what [`Hook::state`] gave.
    ///
    /// # Errors
    /// A state that it did not write.
    fn restore(&mut self, state: &serde_json::Value) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

/// How long and how a run trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainConfig {
    /// Epochs of the run (and of the schedule).
    pub epochs: usize,
    /// Updates after which it ends, if before the last epoch's end.
    pub max_steps: Option<usize>,
    /// Micro-batches per update. Batches at an epoch's end that make no full update are left out.
    pub accumulate: usize,
    /// Largest gradient norm.
    pub clip_norm: Option<f64>,
    /// The learning rate.
    pub schedule: Schedule,
    /// The run's root key.
    pub key: Key,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// Someone asked it to stop; a checkpoint was written if there is a plan for them.
    Stopped,
}

/// A training run.
pub struct Trainer<'a, T: Task, B: Batches<Batch = T::Batch>> {
    config: TrainConfig,
    task: &'a T,
    batches: &'a B,
    optimizer: AdamW,
    progress: Progress,
    plan: Option<Plan>,
    newest: Option<PathBuf>,
    stop: Arc<AtomicBool>,
}

impl<'a, T: Task, B: Batches<Batch = T::Batch>> Trainer<'a, T, B> {
    /// A run from the beginning.
    ///
    /// # Errors
    /// [`Error::Setting`] if there is no batch for a single update, or nothing to train.
    pub fn new(config: TrainConfig, task: &'a T, batches: &'a B, optimizer: AdamW) -> Result<Self> {
        let setting = |name, expected: &str, found: usize| Error::Setting {
            name,
            expected: expected.into(),
            found: found.to_string(),
        };
        if config.accumulate == 0 {
            return Err(setting("accumulate", "at least 1", 0));
        }
        if batches.per_epoch() < config.accumulate {
            let expected = format!("at least `accumulate` ({})", config.accumulate);
            return Err(setting("batches per epoch", &expected, batches.per_epoch()));
        }
        if optimizer.parameters().is_empty() {
            return Err(setting("trained parameters", "at least 1", 0));
        }
        Ok(Self {
            config,
            task,
            batches,
            optimizer,
            progress: Progress::default(),
            plan: None,
            newest: None,
            stop: Arc::default(),
        })
    }

    /// Writes checkpoints as `plan` says.
    #[must_use]
    pub fn with_checkpoints(mut self, plan: Plan) -> Self {
        self.plan = Some(plan);
        self
    }

    /// Ends the run after the current step once `stop` is set.
    #[must_use]
    pub fn with_stop(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    /// Where the run stands.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Updates per epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.batches.per_epoch() / self.config.accumulate
    }

    /// Updates in the whole run.
    pub fn steps(&self) -> usize {
        let all = self.config.epochs * self.steps_per_epoch();
        self.config.max_steps.map_or(all, |most| most.min(all))
    }

    /// Continues from the newest sound checkpoint of the plan's folder, if there is one.
    ///
    /// # Errors
    /// [`Error::OtherRun`], [`Error::Tensors`], [`Error::Checkpoint`]; the model is unchanged then.
    pub fn resume(&mut self, hooks: &mut [&mut dyn Hook]) -> Result<Option<PathBuf>> {
        let Some(plan) = &self.plan else { return Ok(None) };
        let Some(folder) = checkpoint::latest(&plan.folder)? else { return Ok(None) };
        let state = checkpoint::load(&folder, &plan.identity, &mut self.optimizer)?;
        for hook in hooks {
            hook.restore(state.hooks.get(hook.name()).unwrap_or(&serde_json::Value::Null))?;
        }
        self.progress = state.progress;
        self.newest = Some(folder.clone());
        Ok(Some(folder))
    }

    /// Trains to the end.
    ///
    /// # Errors
    /// [`Error::NotFiniteLoss`] and [`Error::NotFiniteGradient`], which name the last good checkpoint; whatever task,
    /// batches, hooks and disk say.
    pub fn run(&mut self, hooks: &mut [&mut dyn Hook]) -> Result<Outcome> {
        let steps = self.steps();
        for hook in hooks.iter_mut() {
            hook.before_run(self.progress.step, steps)?;
        }
        while self.progress.step < steps {
            let (epoch, first) = (self.progress.epoch, self.progress.batch);
            let mut epoch_batches = self.batches.epoch(epoch, first).map_err(Error::Source)?;
            while self.progress.epoch == epoch && self.progress.step < steps {
                let mut info = self.step(&mut epoch_batches)?;
                for hook in hooks.iter_mut() {
                    hook.after_step(&mut info)?;
                }
                let stopping = self.stop.load(Ordering::Relaxed);
                let due = self.plan.as_ref().is_some_and(|plan| plan.is_due(&info));
                if due || (stopping && self.plan.is_some()) {
                    self.save(hooks)?;
                }
                if stopping && self.progress.step < steps {
                    return Ok(Outcome::Stopped);
                }
            }
        }
        Ok(Outcome::Finished)
    }

    /// One update: losses and gradients of the micro-batches, clip, optimiser.
    fn step(&mut self, batches: &mut Epoch<'_, T::Batch>) -> Result<StepInfo> {
        let start = Instant::now();
        let (accumulate, per_epoch) = (self.config.accumulate, self.batches.per_epoch());
        let epoch = self.progress.epoch;
        let at = |batch: usize| epoch as f64 + batch as f64 / per_epoch as f64;
        let lr = self.config.schedule.at(at(self.progress.batch));
        let share = 1.0 / accumulate as f64;
        let (mut loss, mut images, mut gradients) = (0.0, 0, None::<Gradients>);
        let mut parts: Vec<(String, f64)> = Vec::new();
        for micro in 0..accumulate {
            let Some(batch) = batches.next() else {
                return Err(Error::source(format!(
                    "epoch {epoch} ended after batch {}, expected {per_epoch} batches",
                    self.progress.batch + micro
                )));
            };
            let batch = batch.map_err(Error::Source)?;
            if self.task.images(&batch) == 0 {
                continue; // none of its images could be read
            }
            // The place of this micro-step in the run, so that a resumed run drops the same units.
            let place = self.progress.step * accumulate + micro;
            let mode = Mode::Train(self.config.key.epoch(place as u64));
            let losses = self.task.losses(&batch, mode).map_err(Error::Source)?;
            let value = scalar(&losses.total)?;
            if !value.is_finite() {
                let (step, checkpoint) = (self.progress.step + 1, self.newest.clone());
                return Err(Error::NotFiniteLoss { step, loss: value, checkpoint });
            }
            loss += share * value;
            for (name, part) in &losses.parts {
                let part = share * scalar(part)?;
                match parts.iter_mut().find(|(known, _)| known == name) {
                    Some((_, sum)) => *sum += part,
                    None => parts.push(((*name).to_string(), part)),
                }
            }
            images += self.task.images(&batch);
            let store = losses.total.backward()?;
            let new = Gradients::from_store(self.optimizer.parameters(), &store);
            match &mut gradients {
                Some(sum) => sum.add(&new)?,
                none => *none = Some(new),
            }
        }
        let gradient_norm = match gradients {
            Some(gradients) => self.update(gradients, lr)?,
            None => 0.0, // not one readable image: no update, but the step counts
        };

        self.progress.step += 1;
        self.progress.batch += accumulate;
        self.progress.images += images as u64;
        let progress = at(self.progress.batch);
        let ends_epoch = self.progress.batch + accumulate > per_epoch;
        if ends_epoch {
            self.progress = Progress { epoch: epoch + 1, batch: 0, ..self.progress };
        }
        Ok(StepInfo {
            step: self.progress.step,
            steps: self.steps(),
            epoch,
            ends_epoch,
            progress,
            lr,
            loss,
            gradient_norm,
            images,
            seconds: start.elapsed().as_secs_f64(),
            metrics: parts,
        })
    }

    /// Averages, checks and clips the summed gradients, and updates the parameters; returns the norm before clipping.
    fn update(&mut self, mut gradients: Gradients, lr: f64) -> Result<f64> {
        if self.config.accumulate > 1 {
            gradients.scale(1.0 / self.config.accumulate as f64)?;
        }
        let gradient_norm = gradients.global_norm()?;
        if !gradient_norm.is_finite() {
            let culprit = gradients.first_not_finite(self.optimizer.parameters())?;
            return Err(Error::NotFiniteGradient {
                step: self.progress.step + 1,
                parameter: culprit.unwrap_or_else(|| "all together".into()),
                checkpoint: self.newest.clone(),
            });
        }
        if let Some(max_norm) = self.config.clip_norm {
            gradients.clip(gradient_norm, max_norm)?;
        }
        self.optimizer.step(&gradients, lr, self.progress.epoch)?;
        Ok(gradient_norm)
    }

    /// Writes a checkpoint now.
    fn save(&mut self, hooks: &[&mut dyn Hook]) -> Result<()> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let hooks = hooks.iter().map(|hook| (hook.name().to_string(), hook.state())).collect();
        let state = checkpoint::RunState { progress: self.progress, hooks };
        self.newest = Some(checkpoint::save(plan, &state, &self.optimizer)?);
        Ok(())
    }

    /// The optimiser, with the trained parameters.
    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// What a checkpoint of this run must agree with.
    pub fn identity(&self) -> Option<&Identity> {
        self.plan.as_ref().map(|plan| &plan.identity)
    }
}

fn scalar(tensor: &Tensor) -> Result<f64> {
    Ok(tensor.to_dtype(DType::F64)?.to_scalar::<f64>()?)
}
