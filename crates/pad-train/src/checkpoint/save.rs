//! The folder of a run's checkpoints: when one is written, how, and which are kept.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use candle_core::Tensor;
use pad_ops::fs::{sync_folder, write_atomic, write_atomic_bytes};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    find::{best_path, latest, numbered},
    format::{AVERAGES, BEST, FORMAT, FileFacts, MODEL, OPTIMIZER, STATE, SavedState, folder_name},
    load::TrainingCheckpoint,
    tensors_file,
};
use crate::{Error, Optimizer, Result, TrainerState};

/// An interval in steps or epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// A number of optimisation steps.
    Steps(usize),
    /// A number of epochs.
    Epochs(usize),
}

/// When checkpoints are written and how many are kept.
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

/// The folder of a run's checkpoints. One process writes to it at a time.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    config: CheckpointConfig,
    metadata: BTreeMap<String, String>,
}

impl Checkpoints {
    /// Keeps checkpoints in `folder`, which is created when the run starts.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn new(folder: impl Into<PathBuf>, config: CheckpointConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { folder: folder.into(), config, metadata: BTreeMap::new() })
    }

    /// Sets text that is saved in every model file and must be the same on resume, e.g. the digest
    /// of the frozen backbone.
    #[must_use]
    pub fn with_metadata(mut self, metadata: BTreeMap<String, String>) -> Self {
        self.metadata = metadata;
        self
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

    /// Creates the folder and removes what a crash left; fails if it holds a later checkpoint.
    pub(crate) fn start(&self, step: usize) -> Result<()> {
        fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder))?;
        self.remove_partial();
        let later = latest(&self.folder)?.filter(|found| found.trainer_state().step > step);
        match later {
            Some(newest) => Err(Error::FolderInUse {
                folder: self.folder.clone(),
                step,
                newest: newest.path().to_path_buf(),
            }),
            None => Ok(()),
        }
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
        self.save_with(optimizer, state, hooks, None)
    }

    /// [`Checkpoints::save`] with averages of the weights.
    pub(crate) fn save_with(
        &self,
        optimizer: &dyn Optimizer,
        state: &TrainerState,
        hooks: &BTreeMap<String, Value>,
        averages: Option<&BTreeMap<String, Tensor>>,
    ) -> Result<PathBuf> {
        let model: BTreeMap<String, Tensor> = (optimizer.parameters().iter())
            .map(|parameter| (parameter.name.clone(), parameter.var.as_tensor().clone()))
            .collect();
        let moments = optimizer.state()?;
        self.write_folder(state.step, |folder| {
            let mut files = BTreeMap::new();
            let none = BTreeMap::new();
            let always = [(MODEL, &model, &self.metadata), (OPTIMIZER, &moments, &none)];
            let averages = averages.map(|averages| (AVERAGES, averages, &none));
            for (name, tensors, metadata) in always.into_iter().chain(averages) {
                files.insert(name.to_string(), write_tensors(folder, name, tensors, metadata)?);
            }
            let state =
                SavedState { format: FORMAT, trainer: state.clone(), hooks: hooks.clone(), files };
            let text = serde_json::to_vec_pretty(&state).map_err(|e| (STATE, e.into()))?;
            write_atomic_bytes(&folder.join(STATE), &text).map_err(|error| (STATE, error))
        })
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
        fs::create_dir_all(&partial).map_err(Error::io(&target))?;
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
        let old = self.partial(step, "old.");
        let replaced = target.exists();
        if replaced {
            fs::rename(target, &old)?;
        }
        if let Err(error) = fs::rename(partial, target) {
            if replaced {
                fs::rename(&old, target)?;
            }
            return Err(error);
        }
        sync_folder(&self.folder)?;
        self.remove_partial();
        Ok(())
    }

    fn partial(&self, step: usize, mark: &str) -> PathBuf {
        self.folder.join(format!(".{}.{mark}partial", folder_name(step)))
    }

    /// Marks `checkpoint`, one of this folder, as the best so far.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn mark_best(&self, checkpoint: &Path) -> Result<()> {
        let pointer = self.folder.join(BEST);
        let name = checkpoint.file_name().unwrap_or_default().to_string_lossy();
        write_atomic_bytes(&pointer, format!("{name}\n").as_bytes()).map_err(Error::io(&pointer))
    }

    /// Removes all but the newest ones and the best one. What cannot be removed stays, with a
    /// warning.
    pub fn prune(&self) {
        if let Err(error) = self.prune_or_say() {
            tracing::warn!("old checkpoints stay: {error}");
        }
    }

    fn prune_or_say(&self) -> Result<()> {
        let best = best_path(&self.folder)?;
        let all = numbered(&self.folder)?;
        for (step, path) in all.into_iter().rev().skip(self.config.keep) {
            if Some(&path) != best.as_ref() {
                // Renamed first: a crash must not leave half a checkpoint under a whole one's name.
                let partial = self.partial(step, "");
                fs::rename(&path, &partial).map_err(Error::io(&path))?;
                fs::remove_dir_all(&partial).map_err(Error::io(&partial))?;
            }
        }
        Ok(())
    }

    /// Best effort: what stays is ignored by readers.
    fn remove_partial(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let partial = name.starts_with(".checkpoint-") && name.ends_with(".partial");
            if partial && let Err(error) = fs::remove_dir_all(&path) {
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
