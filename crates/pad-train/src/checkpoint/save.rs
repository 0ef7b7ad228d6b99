//! The folder of a run's checkpoints: when one is written, how, and which are kept.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use candle_core::Tensor;
use pad_ops::fs::{
    create_folder, remove_folder, remove_temporary, rename, sync_folder, write_atomic,
    write_atomic_bytes,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    find::{aside, best_step, is_damage, is_folder, is_of_format_1, latest, numbered},
    format::{
        AVERAGES, BEST, FORMAT, FileFacts, MODEL, OPTIMIZER, STATE, SavedState, folder_name,
        step_of,
    },
    load::TrainingCheckpoint,
    lock::FolderLock,
    tensors_file,
};
use crate::{Error, Optimizer, Result, TrainerState};

/// An interval in steps or epochs.
///
/// ```
/// use pad_train::{CheckpointConfig, Every};
/// let read: CheckpointConfig = serde_json::from_str(r#"{"every":{"steps":500}}"#)?;
/// assert_eq!(read, CheckpointConfig { every: Every::Steps(500), keep: 2 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// A number of optimisation steps.
    Steps(usize),
    /// A number of epochs.
    Epochs(usize),
}

/// When checkpoints are written and how many are kept.
///
/// ```
/// use pad_train::{CheckpointConfig, Every};
/// assert_eq!(CheckpointConfig::default(), CheckpointConfig { every: Every::Epochs(1), keep: 2 });
/// let error = CheckpointConfig { keep: 0, ..Default::default() }.validate().unwrap_err();
/// assert_eq!(error.to_string(), "settings: `keep` is 0, expected at least 1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Interval between checkpoints; one more is written at the end of the run. Every epoch.
    pub every: Every,
    /// Number of checkpoints kept, beside the best one. 2.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: Every::Epochs(1), keep: 2 }
    }
}

impl CheckpointConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Settings`] with every fault.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if let Every::Steps(0) | Every::Epochs(0) = self.every {
            faults.push("`every` is 0, expected at least 1".into());
        }
        if self.keep == 0 {
            faults.push("`keep` is 0, expected at least 1".into());
        }
        Error::settings(faults)
    }
}

/// What a checkpoint says beside the state of the run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    /// It is the best so far.
    pub(crate) best: bool,
    /// The epoch that ended with it, if its hooks are still to be called.
    pub(crate) hooks_due: Option<usize>,
}

/// The folder of a run's checkpoints. One process writes to it at a time.
///
/// [`Trainer::with_checkpoints`](crate::Trainer::with_checkpoints) takes one, and calls what
/// follows.
///
/// ```
/// use std::collections::BTreeMap;
/// use pad_train::{
///     CheckpointConfig, Checkpoints, Every, Parameter, Schedule, Sgd, SgdConfig, Trainer,
///     TrainerConfig, candle_core::{Device, Var},
/// };
/// let x = Var::new(&[1_f32, 2.0], &Device::Cpu)?;
/// let sgd = Sgd::new(vec![Parameter::new("x", x)], SgdConfig::default())?;
/// let trainer = Trainer::new(TrainerConfig::default(), Schedule::constant(0.1), sgd)?;
///
/// let folder = tempfile::tempdir()?;
/// let config = CheckpointConfig { every: Every::Steps(100), keep: 2 };
/// let backbone = BTreeMap::from([("backbone".to_string(), "9f86d081".to_string())]);
/// let checkpoints = Checkpoints::new(folder.path(), config)?.with_metadata(backbone);
/// assert_eq!((checkpoints.folder(), checkpoints.metadata().len()), (folder.path(), 1));
///
/// assert!(checkpoints.due(trainer.state())); // 0, 100, 200, .. steps
/// let path = checkpoints.save(trainer.optimizer(), trainer.state(), &BTreeMap::new())?;
/// assert!(path.ends_with("checkpoint-00000000"));
/// checkpoints.mark_best(&path)?;
/// checkpoints.prune(); // it is the best one, and among the newest two
/// let latest = checkpoints.latest()?.expect("one is there");
/// assert_eq!((latest.best_step(), &*latest.metadata()?["backbone"]), (Some(0), "9f86d081"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    config: CheckpointConfig,
    metadata: BTreeMap<String, String>,
    /// Number of processes that train together, once the run has started.
    processes: Option<usize>,
}

impl Checkpoints {
    /// Keeps checkpoints in `folder`, which is created when the run starts.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn new(folder: impl Into<PathBuf>, config: CheckpointConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { folder: folder.into(), config, metadata: BTreeMap::new(), processes: None })
    }

    /// Sets text that is saved in every model file and must be the same on resume, e.g. the digest
    /// of the frozen backbone.
    #[must_use]
    pub fn with_metadata(mut self, metadata: BTreeMap<String, String>) -> Self {
        self.metadata = metadata;
        self
    }

    /// Sets the number of processes that train together.
    pub(crate) fn set_processes(&mut self, processes: usize) {
        self.processes = Some(processes);
    }

    /// Returns the text of [`Self::with_metadata`].
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns whether a checkpoint is due in this state, just after a step.
    pub fn due(&self, state: &TrainerState) -> bool {
        match self.config.every {
            Every::Steps(n) => state.step.is_multiple_of(n),
            Every::Epochs(n) => state.batch_in_epoch == 0 && state.epoch.is_multiple_of(n),
        }
    }

    /// Creates and locks the folder, removes what a crash left and sets damaged checkpoints aside;
    /// fails if it holds a later checkpoint, or one of a newer format. Returns the step of the best
    /// checkpoint too, if it is lost.
    pub(crate) fn start(&self, step: usize) -> Result<(FolderLock, Option<usize>)> {
        create_folder(&self.folder).map_err(Error::io(&self.folder))?;
        let lock = FolderLock::acquire(&self.folder)?;
        self.remove_partial();
        remove_temporary(&self.folder);
        self.set_damaged_aside()?;
        let lost = self.check_best()?;
        let later = latest(&self.folder)?.filter(|found| found.trainer_state().step > step);
        match later {
            Some(newest) => Err(Error::FolderInUse {
                folder: self.folder.clone(),
                step,
                newest: newest.path().to_path_buf(),
            }),
            None => Ok((lock, lost)),
        }
    }

    /// Checks that the best checkpoint is there, for whose loss nothing else would stop a run.
    /// Returns its step if it is not.
    fn check_best(&self) -> Result<Option<usize>> {
        let Some(step) = best_step(&self.folder)? else {
            self.point_to_none()?;
            return Ok(None);
        };
        let path = self.folder.join(folder_name(step));
        if is_folder(&path)? {
            self.point_to_best(step)?;
            return Ok(None);
        }
        tracing::warn!(
            "{} was the best checkpoint and is lost: the best is chosen among those that follow",
            path.display()
        );
        // In format 1 nothing else knows of the loss, until the next checkpoint does.
        if !is_of_format_1(&self.folder)? {
            self.point_to_none()?;
        }
        Ok(Some(step))
    }

    /// Gives damaged checkpoints another name: they would take the place of good ones among those
    /// that are kept.
    fn set_damaged_aside(&self) -> Result<()> {
        for path in numbered(&self.folder)?.into_values() {
            let error = match TrainingCheckpoint::open(&path) {
                Err(error) if is_damage(&error) => error,
                Err(error) => return Err(error),
                Ok(_) => continue,
            };
            let aside = aside(&path);
            if aside.exists() {
                remove_folder(&aside).map_err(Error::io(&aside))?;
            }
            rename(&path, &aside).map_err(Error::io(&path))?;
            tracing::warn!("{error}; set aside as {}", aside.display());
        }
        Ok(())
    }

    /// Whether `checkpoint` is the one of `step` in this folder.
    pub(crate) fn is_at(&self, checkpoint: Option<&Path>, step: usize) -> bool {
        checkpoint == Some(&self.folder.join(folder_name(step)))
    }

    /// Writes a checkpoint atomically and returns its folder.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file, e.g. for a full disk; then the older ones are untouched.
    pub fn save(
        &self,
        optimizer: &dyn Optimizer,
        state: &TrainerState,
        hooks: &BTreeMap<String, Value>,
    ) -> Result<PathBuf> {
        self.save_with(optimizer, state, hooks, None, Marks::default())
    }

    /// [`Checkpoints::save`] with averages of the weights, and marks.
    pub(crate) fn save_with(
        &self,
        optimizer: &dyn Optimizer,
        state: &TrainerState,
        hooks: &BTreeMap<String, Value>,
        averages: Option<&BTreeMap<String, Tensor>>,
        marks: Marks,
    ) -> Result<PathBuf> {
        let model: BTreeMap<String, Tensor> = (optimizer.parameters().iter())
            .map(|parameter| (parameter.name.clone(), parameter.var.as_tensor().clone()))
            .collect();
        let moments = optimizer.state()?;
        let best = self.best_with(marks, state.step)?;
        let path = self.write_folder(state.step, |folder| {
            let mut files = BTreeMap::new();
            let none = BTreeMap::new();
            let always = [(MODEL, &model, &self.metadata), (OPTIMIZER, &moments, &none)];
            let averages = averages.map(|averages| (AVERAGES, averages, &none));
            for (name, tensors, metadata) in always.into_iter().chain(averages) {
                files.insert(name.to_string(), write_tensors(folder, name, tensors, metadata)?);
            }
            let state = SavedState {
                format: FORMAT,
                trainer: state.clone(),
                hooks: hooks.clone(),
                files,
                best,
                hooks_due: marks.hooks_due,
                processes: self.processes,
            };
            let text = state.to_text().map_err(|error| (STATE, error.into()))?;
            write_atomic_bytes(&folder.join(STATE), text.as_bytes()).map_err(|error| (STATE, error))
        })?;
        match best {
            Some(best) if marks.best => self.point_to_best(best)?,
            Some(best) if is_folder(&self.folder.join(folder_name(best)))? => {}
            _ => self.point_to_none()?,
        }
        Ok(path)
    }

    /// Replaces what the checkpoint of this step says beside its tensors, which are as they were.
    pub(crate) fn update(
        &self,
        state: &TrainerState,
        hooks: &BTreeMap<String, Value>,
        marks: Marks,
    ) -> Result<()> {
        let folder = self.folder.join(folder_name(state.step));
        let saved = SavedState {
            format: FORMAT,
            trainer: state.clone(),
            hooks: hooks.clone(),
            best: self.best_with(marks, state.step)?,
            hooks_due: marks.hooks_due,
            ..SavedState::read(&folder)?
        };
        self.write_state(&folder, &saved)?;
        if marks.best {
            self.point_to_best(state.step)?;
        }
        Ok(())
    }

    fn write_state(&self, folder: &Path, state: &SavedState) -> Result<()> {
        let path = folder.join(STATE);
        let text = state.to_text().map_err(|error| Error::io(&path)(error.into()))?;
        write_atomic_bytes(&path, text.as_bytes()).map_err(Error::io(&path))
    }

    /// The best step after a checkpoint of `step` with these marks.
    fn best_with(&self, marks: Marks, step: usize) -> Result<Option<usize>> {
        if marks.best {
            return Ok(Some(step));
        }
        match best_step(&self.folder)? {
            // A lost one, whose step comes again in a run that goes on from before it.
            Some(best) if best == step && !is_folder(&self.folder.join(folder_name(best)))? => {
                Ok(None)
            }
            best => Ok(best),
        }
    }

    /// Fills a partial folder and gives it its name. `fill` names the file that failed.
    pub(super) fn write_folder(
        &self,
        step: usize,
        fill: impl FnOnce(&Path) -> Result<(), (&'static str, io::Error)>,
    ) -> Result<PathBuf> {
        self.remove_partial();
        let target = self.folder.join(folder_name(step));
        let partial = self.partial(step, "");
        create_folder(&partial).map_err(Error::io(&target))?;
        let filled = fill(&partial)
            .map_err(|(file, error)| Error::io(&target.join(file))(error))
            .and_then(|()| self.put(&partial, &target, step).map_err(Error::io(&target)));
        if filled.is_err() {
            self.remove_partial();
        }
        filled.map(|()| target)
    }

    fn put(&self, partial: &Path, target: &Path, step: usize) -> io::Result<()> {
        sync_folder(partial)?;
        // Only a damaged one, or one that this run wrote at the same step. A folder cannot be
        // renamed over another.
        let old = self.partial(step, ".old");
        let replaced = target.exists();
        if replaced {
            rename(target, &old)?;
        }
        if let Err(error) = rename(partial, target) {
            if replaced {
                rename(&old, target)?;
            }
            return Err(error);
        }
        sync_folder(&self.folder)?;
        self.remove_partial();
        Ok(())
    }

    fn partial(&self, step: usize, mark: &str) -> PathBuf {
        self.folder.join(format!(".{}{mark}.partial", folder_name(step)))
    }

    /// Marks `checkpoint`, one of this folder, as the best so far.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn mark_best(&self, checkpoint: &Path) -> Result<()> {
        let step = SavedState::read(checkpoint)?.trainer.step;
        // The newest state is the one that counts.
        let newest = numbered(&self.folder)?.into_values().next_back();
        let newest = newest.as_deref().unwrap_or(checkpoint);
        let state = SavedState::read(newest)?;
        self.write_state(newest, &SavedState { format: FORMAT, best: Some(step), ..state })?;
        self.point_to_best(step)
    }

    fn point_to_best(&self, step: usize) -> Result<()> {
        let pointer = self.folder.join(BEST);
        let text = format!("{}\n", folder_name(step));
        if pad_ops::fs::read(&pointer).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        write_atomic_bytes(&pointer, text.as_bytes()).map_err(Error::io(&pointer))
    }

    /// Removes the file [`BEST`], which would name nothing, or a checkpoint that is written later.
    fn point_to_none(&self) -> Result<()> {
        let pointer = self.folder.join(BEST);
        match fs::remove_file(&pointer) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(&pointer)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes all but the newest ones and the best one. What cannot be removed stays, with a
    /// warning.
    pub fn prune(&self) {
        if let Err(error) = self.prune_or_say() {
            tracing::warn!("old checkpoints stay: {error}");
        }
    }

    fn prune_or_say(&self) -> Result<()> {
        let best = best_step(&self.folder)?;
        let all = numbered(&self.folder)?;
        for (step, path) in all.into_iter().rev().skip(self.config.keep) {
            if Some(step) != best {
                // Renamed first: a crash must not leave half a checkpoint under a whole one's name.
                let partial = self.partial(step, "");
                rename(&path, &partial).map_err(Error::io(&path))?;
                remove_folder(&partial).map_err(Error::io(&partial))?;
            }
        }
        Ok(())
    }

    /// Best effort: what stays is ignored by readers. One that a crash caught between its two names
    /// gets its own back.
    fn remove_partial(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(name) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial"))
            else {
                continue;
            };
            let replaced = name.strip_suffix(".old").filter(|name| step_of(name).is_some());
            let target = replaced.map(|name| self.folder.join(name));
            let done = match target.filter(|target| !target.exists()) {
                Some(target) => rename(&path, &target),
                None if name.starts_with("checkpoint-") => remove_folder(&path),
                None => continue,
            };
            if let Err(error) = done {
                tracing::warn!("{} stays: {error}", path.display());
            }
        }
    }

    /// Returns the newest complete checkpoint, see [`latest`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn latest(&self) -> Result<Option<TrainingCheckpoint>> {
        latest(&self.folder)
    }
}

fn write_tensors(
    folder: &Path,
    name: &'static str,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<FileFacts, (&'static str, io::Error)> {
    let mut facts = None;
    write_atomic(&folder.join(name), |out| {
        facts = Some(tensors_file::write(out, tensors, metadata)?);
        Ok(())
    })
    .map_err(|error| (name, error))?;
    facts.ok_or_else(|| (name, io::Error::other("nothing was written")))
}
