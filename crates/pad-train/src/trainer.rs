//! The training loop: [`Trainer::run`]. Everything that is not the step is a [`Hook`].
//!
//! # Stopping and resuming
//! A run can be stopped at any time and resumed. A stop is looked for before every micro-batch; the
//! micro-batches of an update that was not finished are discarded, and computed again when the run
//! is resumed. The learning rate is a function of the step; a task draws its random numbers from a
//! key made of the run's seed and the number of the micro-batch; batches are a function of seed and
//! epoch; moments, variables and hooks are in the checkpoint. So the resumed run computes what the
//! uninterrupted one would have computed, bit for bit where the operations themselves are
//! deterministic. An epoch whose evaluation failed, or was killed, is evaluated again then.
//!
//! # Extending
//! A run that finished or was stopped can be resumed with other `epochs` or `max_steps`. Up to the
//! checkpoint nothing changes; from there on the schedule of the resuming trainer holds. A schedule
//! that does not depend on the length of the run (constant, or steps at given epochs) makes the
//! extended run equal one that was as long from the start, bit for bit. One that does (half a
//! cosine to the last epoch) continues on the longer curve, on which the rate is higher than where
//! the shorter one ended.

mod late;
mod micro_batches;
mod saving;
mod starting;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::{
    AdamW, Batches, Checkpoints, Collective, Ema, EmaConfig, Error, Gradients, Hook, LrSchedule,
    Optimizer, Result, Share, SingleProcess, StepInfo, Task, TrainerConfig, TrainerState,
    TrainerView, TrainingCheckpoint, UnusedParameters,
    checkpoint::Marks,
    collective::{agree, agree_by, sum_gradients},
    hook::Requests,
    hooks::Hooks,
    outcome::{Outcome, RunEnd},
    reach::Reach,
    tally::Tally,
    unread::{Begun, Read, Unread},
};

/// A training run, with any [`Optimizer`] ([`AdamW`] if none is named) and any [`LrSchedule`].
///
/// [`Trainer::run`] takes what to minimise, a [`Task`], and its [`Batches`], whatever a batch is.
/// Learning rates are per step, epochs count from 0. Hooks log and evaluate:
/// [`log`](crate::log) has three. Without a trainer the same parts make your own loop, see
/// [`Gradients`] and [`optimizer`](crate::optimizer).
///
/// ```
/// use std::sync::{Arc, atomic::AtomicBool};
/// use pad_train::{
///     BoxError, CheckpointConfig, Checkpoints, EmaConfig, EpochStream, Losses, Mode, Parameter,
///     Schedule, Sgd, SgdConfig, SingleProcess, Task, Trainer, TrainerConfig,
///     candle_core::{Device, Var}, checkpoint, log::JsonLines,
/// };
/// /// What is minimised: the square of one number.
/// struct Square(Var);
/// impl Task for Square {
///     type Batch = (); // any type: images, texts, ..
///     fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
///         Ok(Losses::new(self.0.sqr()?.sum_all()?))
///     }
///     fn images_in(&self, (): &()) -> usize { 1 }
/// }
/// # fn main() -> Result<(), BoxError> {
/// let task = Square(Var::new(&[1_f32], &Device::Cpu)?);
/// let mut batches = EpochStream::new(10, |_, first, stride| { // ten batches an epoch
///     Ok::<_, BoxError>((first..10).step_by(stride).map(|_| Ok::<_, BoxError>(())))
/// });
/// let sgd = || {
///     let config = SgdConfig { momentum: 0.0, ..Default::default() };
///     Sgd::new(vec![Parameter::new("x", task.0.clone())], config)
/// };
/// let run = tempfile::tempdir()?;
/// let folder = run.path().join("checkpoints");
/// let trainer = |epochs: usize| -> Result<Trainer<'_, Sgd>, BoxError> {
///     let config = TrainerConfig { epochs, ..Default::default() };
///     Ok(Trainer::new(config, Schedule::constant(0.05), sgd()?)?
///         .with_hook(JsonLines::new(run.path().join("log.jsonl")))
///         .with_checkpoints(Checkpoints::new(&folder, CheckpointConfig::default())?))
/// };
///
/// // Two epochs: each step takes 2 * 0.05 of x away.
/// let mut first = trainer(2)?;
/// assert!(first.run(&task, &mut batches)?.is_finished());
/// assert!((task.0.to_vec1::<f32>()?[0] - 0.9_f32.powi(20)).abs() < 1e-6);
///
/// // A third one, later: the same bits as three in one go.
/// let mut second = trainer(3)?;
/// second.resume(&checkpoint::latest(&folder)?.expect("the first run wrote one"))?;
/// second.run(&task, &mut batches)?;
/// assert_eq!((second.state().step, second.optimizer().steps_of(0)), (30, Some(30)));
/// assert!(second.last_checkpoint().unwrap().ends_with("checkpoint-00000030"));
///
/// // Averaged weights, several processes, a stop from elsewhere (Ctrl-C): each is one call.
/// let stop = Arc::new(AtomicBool::new(true));
/// let mut third = Trainer::new(TrainerConfig::default(), Schedule::constant(0.05), sgd()?)?
///     .with_ema(EmaConfig::default())?
///     .with_group(Arc::new(SingleProcess))
///     .with_stop(stop);
/// assert_eq!(third.group().world_size(), 1);
/// assert!(third.run(&task, &mut batches)?.is_stopped());
/// # Ok(()) }
/// # Ok::<(), pad_train::Error>(())
/// ```
pub struct Trainer<'h, O = AdamW> {
    config: TrainerConfig,
    schedule: Box<dyn LrSchedule + 'h>,
    optimizer: O,
    state: TrainerState,
    hooks: Hooks<'h>,
    checkpoints: Option<Checkpoints>,
    last_checkpoint: Option<PathBuf>,
    /// The epoch that ended with the checkpoint resumed from, if its hooks were not called.
    hooks_due: Option<usize>,
    /// Number of processes that wrote the checkpoint resumed from.
    saved_processes: Option<usize>,
    /// Whether a measurement of this run was cut short.
    is_interrupted: bool,
    stop: Arc<AtomicBool>,
    group: Arc<dyn Collective>,
    ema: Option<Ema>,
    reach: Reach,
    /// Whether numbers are read late; `None`: where that saves a GPU from waiting.
    reads_late: Option<bool>,
}

impl<'h, O: Optimizer> Trainer<'h, O> {
    /// Creates a run that has not started.
    ///
    /// # Errors
    /// [`Error::Settings`] if the settings or the schedule are out of range.
    pub fn new(
        config: TrainerConfig,
        schedule: impl LrSchedule + 'h,
        optimizer: O,
    ) -> Result<Self> {
        config.validate()?;
        schedule.validate()?;
        Ok(Self {
            state: TrainerState::new(&config),
            config,
            schedule: Box::new(schedule),
            optimizer,
            hooks: Hooks::default(),
            checkpoints: None,
            last_checkpoint: None,
            hooks_due: None,
            is_interrupted: false,
            saved_processes: None,
            stop: Arc::default(),
            group: Arc::new(SingleProcess),
            ema: None,
            reach: Reach::default(),
            reads_late: None,
        })
    }

    /// Sets what is done about parameters that train and that the loss does not reach. Default:
    /// [`UnusedParameters::Warn`]. They are in the [`Outcome`] in any case.
    ///
    /// ```
    /// use candle_core::{Device, Tensor, Var};
    /// use pad_train::{
    ///     BoxError, EpochStream, Losses, Mode, Parameter, Schedule, Sgd, SgdConfig, Task, Trainer,
    ///     TrainerConfig, UnusedParameters,
    /// };
    /// /// Its second variable is not in the loss.
    /// struct Half(Var, Var);
    /// impl Task for Half {
    ///     type Batch = ();
    ///     fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
    ///         Ok(Losses::new(self.0.sqr()?.sum_all()?))
    ///     }
    ///     fn images_in(&self, (): &()) -> usize { 1 }
    /// }
    /// # fn main() -> Result<(), BoxError> {
    /// let one = || Var::new(&[1_f32], &Device::Cpu);
    /// let task = Half(one()?, one()?);
    /// let trainer = || -> Result<Trainer<'_, Sgd>, BoxError> {
    ///     let parameters = vec![Parameter::new("a", task.0.clone()), Parameter::new("b", task.1.clone())];
    ///     let config = TrainerConfig { epochs: 1, ..Default::default() };
    ///     Ok(Trainer::new(config, Schedule::constant(0.1), Sgd::new(parameters, SgdConfig::default())?)?)
    /// };
    /// let mut ten = EpochStream::new(10, |_, first, stride| {
    ///     Ok::<_, BoxError>((first..10).step_by(stride).map(|_| Ok::<_, BoxError>(())))
    /// });
    /// let outcome = trainer()?.run(&task, &mut ten)?;
    /// assert_eq!(outcome.unused_parameters, ["b"]);
    /// let refused = trainer()?.with_unused_parameters(UnusedParameters::Refuse).run(&task, &mut ten);
    /// assert_eq!(
    ///     refused.unwrap_err().to_string(),
    ///     "step 1: the loss does not reach 1 of 2 parameters that train: b"
    /// );
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_unused_parameters(mut self, policy: UnusedParameters) -> Self {
        self.reach.policy = policy;
        self
    }

    /// Adds a hook, called after those that are there.
    #[must_use]
    pub fn with_hook(mut self, hook: impl Hook + 'h) -> Self {
        self.hooks.add(hook);
        self
    }

    /// Writes checkpoints: at their interval, when a hook or a stop requests it, and at the end.
    #[must_use]
    pub fn with_checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.checkpoints = Some(checkpoints);
        self
    }

    /// Ends the run once `stop` is true, e.g. from a Ctrl-C handler: after the current micro-batch,
    /// whose update is discarded, or after the hooks of a finished one, which see it by
    /// [`TrainerView::stop_requested`].
    #[must_use]
    pub fn with_stop(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    /// Keeps averages of the weights. Hooks see the model with the averages in place after epochs
    /// and at the end, so that what they measure is theirs, and so is the model after a run that
    /// [finished](RunEnd::Finished); steps go on with the weights themselves. Checkpoints hold
    /// both. Call it before [`Trainer::resume`].
    ///
    /// # Errors
    /// [`Error::Settings`]; [`Error::Candle`] if a variable cannot be copied.
    pub fn with_ema(mut self, config: EmaConfig) -> Result<Self> {
        self.ema = Some(Ema::new(self.optimizer.parameters(), config)?);
        Ok(self)
    }

    /// Trains together with the other processes of `group`. `accumulate` of the settings counts the
    /// micro-batches of a step over all of them and must be a multiple of their number; gradients
    /// are averaged over all before they are clipped. The first process alone writes checkpoints
    /// and calls hooks that are not [on every rank](Hook::on_every_rank). A stop that one requests
    /// stops all after the same step; an error of one ends all.
    #[must_use]
    pub fn with_group(mut self, group: Arc<dyn Collective>) -> Self {
        self.group = group;
        self
    }

    /// Sets whether loss and norm of a step are read once the gradients of the next step are
    /// enqueued, so that a GPU has work while the host reads them. Default: with one process and
    /// losses on a GPU. Nothing else changes: hooks are called after each step, in the order of steps
    /// and with the same numbers, before the next update; a loss or gradient that is not finite ends
    /// the run with the same error before the next update, and the update it belongs to is not made
    /// (the GPU decides). Of the last step of an epoch, and where the [optimiser](Optimizer::begin_step)
    /// cannot, the numbers are read at once.
    #[must_use]
    pub fn with_late_reading(mut self, late: bool) -> Self {
        self.reads_late = Some(late);
        self
    }

    /// Continues from a checkpoint. Hooks get their states when the run starts. Length and schedule
    /// of the run may differ from what they were, see [Extending](self#extending).
    ///
    /// # Errors
    /// [`Error::Resume`] if seed or accumulation differ or averages are missing, [`Error::Tensors`]
    /// or [`Error::Metadata`] if the checkpoint belongs to other parameters or another frozen part.
    /// Then nothing was changed.
    pub fn resume(&mut self, checkpoint: &TrainingCheckpoint) -> Result<()> {
        let saved = checkpoint.trainer_state();
        let batches_per_epoch = saved.batches_per_epoch; // compared when the data is known
        let now = TrainerState { batches_per_epoch, ..TrainerState::new(&self.config) };
        resumable(checkpoint.path(), saved.differences(&now))?;
        let metadata = self.checkpoints.as_ref().map(Checkpoints::metadata);
        let values = checkpoint.values_for(self.optimizer.parameters(), metadata)?;
        let averages = match &self.ema {
            None => {
                if checkpoint.has_averages() {
                    tracing::warn!(
                        "{} has averages of the weights, this run keeps none",
                        checkpoint.path().display()
                    );
                }
                None
            }
            Some(_) => Some(checkpoint.averages_for(self.optimizer.parameters())?.into_tensors()?),
        };
        checkpoint.load_optimizer(&mut self.optimizer)?;
        values.assign()?;
        if let (Some(ema), Some(averages)) = (&mut self.ema, averages) {
            ema.assign(averages);
        }
        self.state = saved.clone();
        self.hooks.restore_at_start(checkpoint.hook_states());
        self.hooks_due = checkpoint.hooks_due();
        self.saved_processes = checkpoint.processes();
        self.last_checkpoint = Some(checkpoint.path().to_path_buf());
        Ok(())
    }

    /// Returns the processes that train together.
    pub fn group(&self) -> &dyn Collective {
        &*self.group
    }

    /// State of the run.
    pub fn state(&self) -> &TrainerState {
        &self.state
    }

    /// Returns the optimiser.
    pub fn optimizer(&self) -> &O {
        &self.optimizer
    }

    /// Returns the newest checkpoint that was written or resumed from.
    pub fn last_checkpoint(&self) -> Option<&Path> {
        self.last_checkpoint.as_deref()
    }

    /// Trains until the last step or a stop.
    ///
    /// # Errors
    /// [`Error::Diverged`] for a loss or gradient that is not finite; [`Error::Task`],
    /// [`Error::Data`], [`Error::ShortEpoch`], [`Error::Hook`] with the place;
    /// [`Error::UnusedParameters`] if they are refused; [`Error::Settings`] for a schedule that gives
    /// no rate; [`Error::Io`] if a checkpoint cannot be written; [`Error::FolderInUse`] before it would overwrite another run;
    /// in a group [`Error::Peer`] for another process's error, [`Error::Group`] if processes differ
    /// or one is gone.
    ///
    /// Examples: the first page of this crate, [`Outcome`], [`Trainer::with_unused_parameters`].
    pub fn run<T, B>(&mut self, task: &T, batches: &mut B) -> Result<Outcome>
    where
        T: Task,
        B: Batches<Batch = T::Batch>,
    {
        let group = Arc::clone(&self.group);
        let group = &*group;
        let started = self.start(batches.per_epoch());
        let (started, lost) = agree_by(group, started, |started| started.lost_best)?;
        let last_step = started.last_step;
        self.check_equal(group, last_step)?;
        let lost_best = lost.into_iter().flatten().next();
        agree(group, self.start_hooks(last_step, lost_best))?;
        if let Some(epoch) = self.hooks_due.take() {
            let stop = agree(group, self.after_epoch(epoch, last_step, Requests::default()))?;
            if stop.contains(&true) && self.state.step < last_step {
                return self.end(RunEnd::Stopped, last_step);
            }
        }
        self.train(task, batches, last_step)
    }

    fn train<T, B>(&mut self, task: &T, batches: &mut B, last_step: usize) -> Result<Outcome>
    where
        T: Task,
        B: Batches<Batch = T::Batch>,
    {
        let group = Arc::clone(&self.group);
        let group = &*group;
        let share = Share { rank: group.rank(), of: group.world_size() };
        while self.state.step < last_step {
            let TrainerState { epoch, batch_in_epoch: first, .. } = self.state;
            let failed = |cause| Error::Data { epoch, batch: first, cause };
            let opened = batches.epoch_share(epoch, first, share).map_err(failed);
            let (mut stream, _) = agree_by(group, opened, |_| ())?;
            let mut unread: Option<Box<Unread>> = None;
            // Waiting for numbers begins when the step does, or after the hooks of the one before.
            let mut clock = Instant::now();
            while self.state.epoch == epoch && self.state.step < last_step {
                if unread.is_none() {
                    clock = Instant::now();
                }
                let buffers = self.buffers()?;
                let mine = self.gradients(task, &mut stream, share);
                if let Some(step) = unread.take() {
                    // Hooks and checkpoints see the buffers of their step, not of the one ahead.
                    let ahead = self.buffers()?;
                    self.set_buffers(&buffers)?;
                    let stop = self.read(step, last_step, clock)?;
                    clock = Instant::now();
                    if !stop || self.state.step >= last_step {
                        self.set_buffers(&ahead)?;
                    }
                    if stop && self.state.step < last_step {
                        return self.end(RunEnd::Stopped, last_step);
                    }
                }
                let message = |mine: &Option<(Gradients, Read)>| match mine {
                    Some((_, Read::Now(tally))) => Some(tally.to_message()),
                    Some((_, Read::Later(_))) => Some(Tally::default().to_message()),
                    None => None,
                };
                let (mine, said) = agree_by(group, mine, message)?;
                let said: Option<Vec<_>> = said.into_iter().collect();
                let (Some((sum, read)), Some(said)) = (mine, said) else {
                    // Micro-batches that count for nothing leave no trace.
                    self.set_buffers(&buffers)?;
                    return self.end(RunEnd::Stopped, last_step);
                };
                let sum = sum_gradients(group, self.optimizer.parameters(), sum, epoch)?;
                let portion = 1.0 / self.config.accumulate as f64;
                let mut gradients = sum.scale(portion);
                let tally = match read {
                    Read::Now(tally) => tally.joined(&said).scale(portion),
                    Read::Later(micros) => match self.begin(&gradients, micros)? {
                        Begun::Unread(step) if !step.epoch_ended && self.state.step < last_step => {
                            unread = Some(step);
                            continue;
                        }
                        Begun::Unread(step) => {
                            let stop = self.read(step, last_step, clock)?;
                            if stop && self.state.step < last_step {
                                return self.end(RunEnd::Stopped, last_step);
                            }
                            continue;
                        }
                        Begun::Read(tally) => tally.scale(portion),
                    },
                };
                if !tally.is_empty() {
                    let place = (self.state.step + 1, epoch);
                    self.reach.note(self.optimizer.parameters(), &gradients, place)?;
                }
                let lr = self.lr()?;
                let grad_norm = match self.config.clip_norm {
                    Some(max_norm) => gradients.clip(max_norm)?,
                    None => gradients.global_norm()?,
                };
                let moved = self.optimizer.step(&gradients, lr, epoch);
                moved.map_err(|error| self.diverged(error))?;
                if let Some(ema) = &mut self.ema {
                    ema.update(self.state.step + 1)?;
                }
                let info = tally.info(&self.state, lr, grad_norm, clock.elapsed().as_secs_f64());
                let epoch_ended = self.state.advance();
                let stop = self.after_step(&info, epoch_ended, last_step);
                let stop = agree(group, stop)?.contains(&true);
                if stop && self.state.step < last_step {
                    return self.end(RunEnd::Stopped, last_step);
                }
            }
        }
        // The last evaluation is part of the run.
        match agree(group, Ok(self.is_interrupted))?.contains(&true) {
            true => self.end(RunEnd::Stopped, last_step),
            false => self.end(RunEnd::Finished, last_step),
        }
    }

    /// The learning rate of the next step.
    fn lr(&self) -> Result<f64> {
        let progress = self.state.progress();
        let lr = self.schedule.at(progress);
        if lr.is_finite() && lr >= 0.0 {
            return Ok(lr);
        }
        Err(Error::Settings {
            faults: vec![format!(
                "the schedule gives the rate {lr} at epoch {progress}, expected a finite number >= 0"
            )],
        })
    }

    /// Calls the hooks, and writes a checkpoint where it is due. Returns whether this process
    /// stops.
    fn after_step(&mut self, info: &StepInfo, epoch_ended: bool, last_step: usize) -> Result<bool> {
        let (hooks, view) = self.hooks_and_view(last_step);
        let mut requests = hooks.after_step(info, &view)?;
        requests.save |= self.checkpoints.as_ref().is_some_and(|c| c.due(&self.state));
        if epoch_ended || info.step == last_step {
            return self.after_epoch(info.epoch, last_step, requests);
        }
        if requests.save {
            self.save(Marks { best: requests.best, hooks_due: None })?;
        }
        Ok(requests.stop || self.stop.load(Ordering::Relaxed))
    }

    /// Calls the hooks of an epoch that has ended. What was trained reaches the disk before them
    /// where a checkpoint is due: an evaluation takes long, and may fail or be killed. A run that
    /// is resumed from there calls them again.
    fn after_epoch(
        &mut self,
        epoch: usize,
        last_step: usize,
        mut requests: Requests,
    ) -> Result<bool> {
        let (before, due) = (self.hooks.states(), Marks { best: false, hooks_due: Some(epoch) });
        let save_first = requests.save || self.state.step == last_step;
        if save_first {
            self.save_as(&before, due)?;
        }
        if let Err(error) = self.call_epoch_hooks(epoch, last_step, &mut requests) {
            if !save_first && let Err(second) = self.save_as(&before, due) {
                tracing::warn!("no checkpoint after the error below: {second}");
            }
            return Err(error);
        }
        if requests.is_interrupted {
            self.is_interrupted = true;
            if !save_first {
                self.save_as(&before, due)?;
            }
            return Ok(true);
        }
        if requests.save || save_first {
            self.save(Marks { best: requests.best, hooks_due: None })?;
        }
        Ok(requests.stop || self.stop.load(Ordering::Relaxed))
    }

    fn call_epoch_hooks(
        &mut self,
        epoch: usize,
        last_step: usize,
        requests: &mut Requests,
    ) -> Result<()> {
        self.swap_averages()?;
        let (hooks, view) = self.hooks_and_view(last_step);
        let result = hooks.after_epoch(epoch, &view, requests);
        self.swap_averages()?; // whatever the hooks say: what is saved next are the weights
        result
    }

    fn start_hooks(&mut self, last_step: usize, lost_best: Option<usize>) -> Result<()> {
        let (hooks, view) = self.hooks_and_view(last_step);
        hooks.start(&view, lost_best)
    }

    fn swap_averages(&mut self) -> Result<()> {
        self.ema.as_mut().map_or(Ok(()), Ema::swap)
    }

    fn hooks_and_view(&mut self, last_step: usize) -> (&mut Hooks<'h>, TrainerView<'_>) {
        let view = TrainerView {
            state: &self.state,
            config: &self.config,
            parameters: self.optimizer.parameters(),
            last_step,
            last_checkpoint: self.last_checkpoint.as_deref(),
            group: &*self.group,
            stop: &self.stop,
        };
        (&mut self.hooks, view)
    }

    /// Adds step and last good checkpoint to the error of a gradient that is not finite.
    fn diverged(&self, error: Error) -> Error {
        match error {
            Error::NonFiniteGradient { .. } => self.stopped_by(error.to_string()),
            other => other,
        }
    }

    fn stopped_by(&self, what: String) -> Error {
        let TrainerState { step, epoch, .. } = self.state;
        let last_checkpoint = self.last_checkpoint.clone();
        Error::Diverged { step: step + 1, epoch, what, last_checkpoint }
    }
}

fn resumable(checkpoint: &Path, faults: Vec<String>) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::Resume { checkpoint: checkpoint.to_path_buf(), faults })
}
