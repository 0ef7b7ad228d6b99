//! A session of a run: opened, trained, stopped, logged and closed in one way for all programs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Instant,
};

use candle_core::Device;
use pad::{
    data::loader::UnreadableImage,
    params::StoreSummary,
    train::{
        AdamW, AdamWConfig, CheckpointConfig, Checkpoints, Collective, EmaConfig, EpochStream,
        Every, Hook, Parameter, ParameterSummary, Task, Trainer as TrainingLoop,
        checkpoint::{FolderLock, latest},
        log::{JsonLines, ProgressBar, TensorBoard},
    },
};

use super::{
    Result,
    cost::{Cost, MemoryLog},
    ending::{StopAfter, TimedSave, Watch},
    folder::{self, CHECKPOINTS, CONFIG, Reserved},
    group::{self, on_first},
    peak_mib,
    schedule::Length,
    signals::Signals,
    warm_up::WarmUp,
};
use crate::settings::{Flags, Given, Settings, Start, Trainer};

/// A run that is open in this process.
pub struct Session<P> {
    /// Its settings.
    pub settings: Settings<P>,
    /// Those of them that the user chose, if it begins.
    pub given: Given,
    /// Those that the user ever chose, if that is known.
    ever_chosen: Option<Given>,
    /// Its folder.
    pub folder: PathBuf,
    /// The device.
    pub device: Device,
    /// The processes that train together.
    pub group: Arc<dyn Collective>,
    /// Signals that end it.
    pub signals: Signals,
    resumed: bool,
    /// A resumed run without a checkpoint starts from the beginning.
    resume_anyway: bool,
    /// The folder is this process's alone until the session ends.
    lock: OnceLock<FolderLock>,
    _reserved: Option<Reserved>,
    /// Of a process that trains alone; others wait for each other.
    watch: Option<Watch>,
}

/// What a program gives to be trained.
pub struct Training<'a, 'c, T: Task> {
    /// From batches to losses.
    pub task: &'a T,
    /// The batches.
    pub batches: EpochStream<'a, T::Batch>,
    /// What trains.
    pub parameters: Vec<Parameter>,
    /// The length of the run.
    pub length: Length,
    /// Images of a micro-batch.
    pub batch_size: usize,
    /// Micro-batches of an update.
    pub accumulate: usize,
    /// Measures the model between updates.
    pub evaluation: Option<&'a mut dyn Hook>,
    /// Estimates the cost of the run, given what an update takes. Called once it is clear that the
    /// run can start.
    pub cost: Box<dyn FnOnce(WarmUp) -> Result<Cost> + 'c>,
    /// What a resumed run must find again beside the settings.
    pub facts: BTreeMap<String, String>,
    /// Files that the run's folder gets at once, by their names.
    pub texts: Vec<(&'static str, String)>,
}

/// Locks the folder of a run for the rest of a session.
fn hold(lock: &OnceLock<FolderLock>, folder: &Path) -> Result<()> {
    let held = FolderLock::acquire(folder)?;
    lock.set(held).map_err(|_| "the folder of the run is locked twice".into())
}

/// The end of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finish {
    /// Updates of the run.
    pub steps: usize,
    /// Time of this session, seconds.
    pub seconds: f64,
    /// Speed of this session, evaluation included.
    pub images_per_s: f64,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ended {
    /// The run has its whole length.
    Finished(Finish),
    /// The run had its whole length before, and its results are there.
    Before,
    /// The run goes on with `--resume`.
    Early,
}

impl<P: Trainer> Session<P> {
    /// Opens a run: reads its settings, joins its group, finds its folder, starts threads and device.
    /// Nothing is written yet.
    pub fn open(start: &Start, flags: &Flags<P>) -> Result<Self> {
        if let Some(folder) = &start.resume {
            folder::expect_run(folder, P::NAME)?;
        }
        let (settings, given) = (Settings::of(start, flags)?, Settings::chosen(start, flags)?);
        let ever_chosen = Settings::ever_chosen(start, flags)?;
        let joined = group::join(&settings.run.group, settings.run.device.0)?;
        let (group, device) = (joined.group, joined.device);
        let lock = OnceLock::new();
        let folder = match &start.resume {
            Some(folder) => {
                on_first(&*group, || hold(&lock, folder))?;
                folder.clone()
            }
            None => on_first(&*group, || folder::new_folder(P::NAME, start.out.clone()))?,
        };
        let is_new = start.resume.is_none() && start.out.is_none() && group.rank() == 0;
        let reserved = is_new.then(|| Reserved(folder.clone()));
        if group.world_size() > 1 {
            tracing::info!("{} processes train together", group.world_size());
        }
        super::threads(settings.run.threads)?;
        let (device, signals) = (device.open()?, Signals::watch()?);
        tracing::debug!("operators: {}", pad::ops::cpu_level());
        let watch = (group.world_size() == 1).then(|| Watch::start(&signals, folder.clone()));
        let (resumed, resume_anyway) = (start.resume.is_some(), start.resume_anyway);
        Ok(Self {
            settings,
            given,
            ever_chosen,
            folder,
            device,
            group,
            signals,
            resumed,
            resume_anyway,
            lock,
            _reserved: reserved,
            watch,
        })
    }

    /// Runs `work`, and tells the other processes of the group if it fails.
    pub fn guarded<T>(&self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        work(self).inspect_err(|error| {
            if self.group.world_size() > 1 {
                // The others may be waiting for this process.
                self.group.abort(&error.to_string());
            }
        })
    }

    /// Whether this process writes the results.
    pub fn writes(&self) -> bool {
        self.group.rank() == 0
    }

    /// The folder of checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.folder.join(CHECKPOINTS)
    }

    /// The micro-batches of an update that a resumed run was trained with so far: another number of
    /// processes makes no other updates. `None` for a new run.
    ///
    /// # Errors
    /// A checkpoint that cannot be read.
    pub fn saved_accumulate(&self) -> Result<Option<usize>> {
        if !self.resumed {
            return Ok(None);
        }
        let newest = latest(&self.checkpoints())?;
        Ok(newest.map(|checkpoint| checkpoint.trainer_state().accumulate))
    }

    /// Trains to the end of the run, or of this session.
    pub fn train<T: Task>(&self, training: Training<'_, '_, T>) -> Result<Ended> {
        let Training { task, batches, parameters, length, batch_size, accumulate, .. } = training;
        let Training { evaluation, cost, facts, texts, .. } = training;
        let run = &self.settings.run;
        for line in ParameterSummary::new(&parameters).to_string().lines() {
            tracing::info!("{line}");
        }
        let effective_batch = batch_size * accumulate;
        let schedule = length.schedule(run, effective_batch);
        let mut batches = match length.batches_per_epoch(accumulate) {
            Some(count) => batches.with_epoch_len(count),
            None => batches,
        };
        let adamw = AdamWConfig { beta2: run.beta2, ..Default::default() };
        let optimizer = AdamW::new(parameters.clone(), adamw)?;
        let mut training = TrainingLoop::new(length.config(run, accumulate), schedule, optimizer)?
            .with_group(Arc::clone(&self.group))
            .with_stop(Arc::clone(&self.signals.stop));
        if let Some(decay) = run.ema {
            training = training.with_ema(EmaConfig { decay, ..Default::default() })?;
        }
        let mut identity = folder::identity(&self.settings, facts)?;
        if self.resumed {
            folder::as_begun::<P>(&self.folder, &mut identity)?;
        }
        let saving = CheckpointConfig { every: Every::Steps(run.checkpoint_every), keep: run.keep };
        let checkpoints = Checkpoints::new(self.checkpoints(), saving)?;
        training = training.with_checkpoints(checkpoints.with_metadata(identity.clone()));
        if self.resumed {
            folder::resume(&mut training, &self.folder, &identity, self.resume_anyway)?;
        }
        let first_step = training.state().step;
        if first_step > length.steps {
            return Err(format!(
                "{} has {first_step} updates already, expected a length of at least as many, found \
                 {} updates (--epochs, --max-steps)",
                self.folder.display(),
                length.steps
            )
            .into());
        }
        // The summary of a shorter run in the same folder does not end this one.
        if first_step == length.steps && folder::summary_steps(&self.folder) == Some(first_step) {
            tracing::info!(
                "{} is finished after {first_step} updates; a longer --epochs or --max-steps extends it",
                self.folder.display()
            );
            return Ok(Ended::Before);
        }

        let averaged = run.ema.is_some();
        let own = accumulate.div_ceil(self.group.world_size().max(1));
        let cost = cost(WarmUp::new(task, &mut batches, &parameters, own, averaged)?)?;

        // The folder appears only when nothing can be wrong with the settings any more.
        on_first(&*self.group, || {
            std::fs::create_dir_all(&self.folder)
                .map_err(|error| format!("{}: {error}", self.folder.display()))?;
            if !self.resumed {
                hold(&self.lock, &self.folder)?;
                folder::expect_no_run(&self.folder)?; // another process may have been faster
            }
            pad::ops::fs::remove_temporary(&self.folder);
            for (name, text) in &texts {
                super::write_text(&self.folder.join(name), text)?;
            }
            let config = self.settings.to_toml(self.ever_chosen.as_ref())?;
            super::write_text(&self.folder.join(CONFIG), &config)
        })?;
        if self.writes() {
            tracing::info!("run folder: {}", self.folder.display());
            cost.log(&length, length.steps - first_step);
        }
        // What measures comes before what writes; what watches hears of both.
        if let Some(watch) = &self.watch {
            training = training.with_hook(watch.hook());
        }
        if let Some(evaluation) = evaluation {
            training = training.with_hook(evaluation);
        }
        training = training
            .with_hook(JsonLines::new(self.folder.join("log.jsonl")))
            .with_hook(TensorBoard::new(self.folder.join("tensorboard")))
            .with_hook(ProgressBar::new(run.log_every))
            .with_hook(MemoryLog::default())
            .with_hook(TimedSave::new());
        if let Some(step) = run.stop_after {
            training = training.with_hook(StopAfter(step));
        }
        let start = Instant::now();
        let outcome = training.run(task, &mut batches)?;
        let seconds = start.elapsed().as_secs_f64();
        let steps = training.state().step;
        drop(training);
        if outcome.is_stopped() {
            tracing::info!(
                "{steps} of {} updates; continue with --resume {}",
                length.steps,
                self.folder.display()
            );
            self.signals.stopped()?;
            return Ok(Ended::Early);
        }
        let images = (steps - first_step) * effective_batch;
        let images_per_s = images as f64 / seconds.max(1e-9);
        Ok(Ended::Finished(Finish { steps, seconds, images_per_s }))
    }

    /// Writes the summary, what was `found` first, and names the files that the run left.
    pub fn close(
        &self,
        mut found: serde_json::Value,
        finish: &Finish,
        parameters: &StoreSummary,
        unreadable: &[UnreadableImage],
        mut files: Vec<PathBuf>,
    ) -> Result<()> {
        let unreadable: Vec<_> = unreadable.iter().map(|bad| &bad.reason).collect();
        found["images_per_s"] = finish.images_per_s.into();
        found["seconds"] = finish.seconds.into();
        found["peak_mib"] = peak_mib().into();
        found["steps"] = finish.steps.into();
        found["trained"] = parameters.trained.into();
        found["frozen"] = parameters.frozen.into();
        found["unreadable"] = serde_json::to_value(unreadable)?;
        files.push(folder::write_summary(&self.folder, &found)?);
        for file in files {
            crate::tools::output::print(format_args!("wrote {}", file.display()))?;
        }
        Ok(())
    }

    /// A path in the run's folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }
}
