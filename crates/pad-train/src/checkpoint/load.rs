//! A checkpoint that was written: opened, verified, loaded.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor, Var};
use serde_json::Value;

use super::{
    format::{AVERAGES, MODEL, OPTIMIZER, STATE, SavedState},
    tensors_file::TensorsFile,
};
use crate::{
    Error, Optimizer, Parameter, Result, TensorFaults, TrainerState, WrongTensor, adamw::describe,
};

/// A complete checkpoint on disk, verified when it was opened.
///
/// ```
/// use std::collections::BTreeMap;
/// use pad_train::{
///     CheckpointConfig, Checkpoints, Parameter, Schedule, Sgd, SgdConfig, Trainer, TrainerConfig,
///     TrainingCheckpoint, candle_core::{Device, Var},
/// };
/// let x = Var::new(&[1_f32, 2.0], &Device::Cpu)?;
/// let parameters = [Parameter::new("x", x.clone())];
/// let mut sgd = Sgd::new(parameters.to_vec(), SgdConfig::default())?;
/// # let other = Sgd::new(parameters.to_vec(), SgdConfig::default())?;
/// # let trainer = Trainer::new(TrainerConfig::default(), Schedule::constant(0.1), other)?;
/// # let folder = tempfile::tempdir()?;
/// # let path = Checkpoints::new(folder.path(), CheckpointConfig::default())?
/// #     .save(trainer.optimizer(), trainer.state(), &BTreeMap::new())?;
/// // `path` is one that a run has just written.
/// let saved = TrainingCheckpoint::open(&path)?;
/// assert_eq!((saved.path(), saved.trainer_state().step), (path.as_path(), 0));
/// assert_eq!((saved.best_step(), saved.hook_states().len()), (None, 0));
/// assert_eq!(saved.metadata()?.get("backbone"), None); // `Checkpoints::with_metadata`
///
/// // Its tensors by name; those that evaluations saw, which are averages in a run with some.
/// assert_eq!(saved.tensors(&Device::Cpu)?["x"].to_vec1::<f32>()?, [1.0, 2.0]);
/// assert_eq!(saved.evaluated_tensors(&Device::Cpu)?["x"].to_vec1::<f32>()?, [1.0, 2.0]);
///
/// // Into a model, all or none, and into an optimiser.
/// x.set(&x.zeros_like()?)?;
/// saved.load_parameters(&parameters, None)?;
/// assert_eq!(x.to_vec1::<f32>()?, [1.0, 2.0]);
/// saved.load_evaluated(&parameters)?;
/// saved.load_optimizer(&mut sgd)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TrainingCheckpoint {
    path: PathBuf,
    state: SavedState,
}

impl TrainingCheckpoint {
    /// Opens the folder `path` and verifies size and checksum of its files.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that is missing or unreadable, [`Error::Damaged`] for one that is
    /// not what was written, [`Error::NewerFormat`]; all name the file.
    pub fn open(path: &Path) -> Result<Self> {
        let state = SavedState::read(path)?;
        let damaged = |what| Error::Damaged { path: path.join(STATE), what };
        for name in [MODEL, OPTIMIZER] {
            let facts = state.files.get(name);
            let facts = facts.ok_or_else(|| damaged(format!("no checksum of `{name}`")))?;
            facts.verify(&path.join(name))?;
        }
        if let Some(facts) = state.files.get(AVERAGES) {
            facts.verify(&path.join(AVERAGES))?;
        }
        Ok(Self { path: path.to_path_buf(), state })
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the state of the run.
    pub fn trainer_state(&self) -> &TrainerState {
        &self.state.trainer
    }

    /// Returns the step of the best checkpoint when this one was written ([`Flow::Best`]); `None`
    /// if none was marked.
    ///
    /// [`Flow::Best`]: crate::Flow::Best
    pub fn best_step(&self) -> Option<usize> {
        self.state.best
    }

    /// Returns the epoch that ended with this checkpoint, if its hooks had not been called yet.
    pub(crate) fn hooks_due(&self) -> Option<usize> {
        self.state.hooks_due
    }

    /// Returns the number of processes that wrote it together; `None` if it does not say.
    pub(crate) fn processes(&self) -> Option<usize> {
        self.state.processes
    }

    /// Returns the hooks' states by name.
    pub fn hook_states(&self) -> &BTreeMap<String, Value> {
        &self.state.hooks
    }

    /// Reads the metadata that was saved with the model.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Damaged`].
    pub fn metadata(&self) -> Result<BTreeMap<String, String>> {
        TensorsFile::read(self.path.join(MODEL))?.metadata()
    }

    /// Reads all tensors of the model file by name, onto `device`: for programs that build a
    /// network from them.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`] or [`Error::Candle`].
    pub fn tensors(&self, device: &Device) -> Result<BTreeMap<String, Tensor>> {
        TensorsFile::read(self.path.join(MODEL))?.tensors(device)
    }

    /// Reads all tensors that an evaluation of the run saw, by name, onto `device`: the averages of
    /// a run that keeps them ([`Trainer::with_ema`](crate::Trainer::with_ema)), else the trained
    /// variables.
    ///
    /// # Errors
    /// As [`TrainingCheckpoint::tensors`].
    pub fn evaluated_tensors(&self, device: &Device) -> Result<BTreeMap<String, Tensor>> {
        match self.state.files.contains_key(AVERAGES) {
            true => TensorsFile::read(self.path.join(AVERAGES))?.tensors(device),
            false => self.tensors(device),
        }
    }

    /// Loads the variables of `parameters`, all or none.
    ///
    /// `metadata` is what must have been saved with them, no more and no less (a digest of the
    /// frozen backbone, say); `None` accepts anything.
    ///
    /// # Errors
    /// [`Error::Tensors`] with everything missing, unexpected or of another shape or dtype;
    /// [`Error::Metadata`]; [`Error::Io`], [`Error::Damaged`], [`Error::Candle`].
    pub fn load_parameters(
        &self,
        parameters: &[Parameter],
        metadata: Option<&BTreeMap<String, String>>,
    ) -> Result<()> {
        self.values_for(parameters, metadata)?.assign()
    }

    /// Loads what an evaluation of the run saw: the averages of a run that keeps them
    /// ([`Trainer::with_ema`](crate::Trainer::with_ema)), else the variables.
    ///
    /// # Errors
    /// As [`TrainingCheckpoint::load_parameters`].
    pub fn load_evaluated(&self, parameters: &[Parameter]) -> Result<()> {
        match self.state.files.contains_key(AVERAGES) {
            true => self.averages_for(parameters)?.assign(),
            false => self.load_parameters(parameters, None),
        }
    }

    /// Loads an optimiser's state, all or nothing.
    ///
    /// # Errors
    /// [`Error::Tensors`], [`Error::Io`], [`Error::Damaged`], [`Error::Candle`].
    pub fn load_optimizer(&self, optimizer: &mut dyn Optimizer) -> Result<()> {
        let path = self.path.join(OPTIMIZER);
        let state = TensorsFile::read(path.clone())?.tensors(&Device::Cpu)?;
        optimizer.load_state(&state).map_err(|error| match error {
            Error::Tensors { faults, .. } => {
                Error::Tensors { place: path.display().to_string(), faults }
            }
            other => other,
        })
    }

    /// Reads the values for `parameters`, checked but not yet assigned.
    pub(crate) fn values_for(
        &self,
        parameters: &[Parameter],
        metadata: Option<&BTreeMap<String, String>>,
    ) -> Result<Values> {
        let path = self.path.join(MODEL);
        let file = TensorsFile::read(path.clone())?;
        if let Some(expected) = metadata {
            check_metadata(&path, expected, &file.metadata()?)?;
        }
        fitting(&path, &file, parameters)
    }

    /// Whether it holds averages of the weights.
    pub(crate) fn has_averages(&self) -> bool {
        self.state.files.contains_key(AVERAGES)
    }

    /// Reads the averages of `parameters`, checked but not yet assigned.
    pub(crate) fn averages_for(&self, parameters: &[Parameter]) -> Result<Values> {
        if !self.has_averages() {
            let faults = vec!["averages: expected some, found none".to_string()];
            return Err(Error::Resume { checkpoint: self.path.clone(), faults });
        }
        let path = self.path.join(AVERAGES);
        fitting(&path, &TensorsFile::read(path.clone())?, parameters)
    }
}

/// The values of `file` for `parameters`, all of them and no others.
fn fitting(path: &Path, file: &TensorsFile, parameters: &[Parameter]) -> Result<Values> {
    let mut saved = file.tensors(&Device::Cpu)?;
    let mut faults = TensorFaults::default();
    let mut values = Vec::with_capacity(parameters.len());
    for parameter in parameters {
        let (name, var) = (&parameter.name, &parameter.var);
        match saved.remove(name) {
            None => faults.missing.push(name.clone()),
            Some(value) if value.dims() == var.dims() && value.dtype() == var.dtype() => {
                values.push((name.clone(), var.clone(), value));
            }
            Some(value) => faults.wrong.push(WrongTensor {
                name: name.clone(),
                expected: describe(var),
                found: describe(&value),
            }),
        }
    }
    faults.unexpected.extend(saved.into_keys());
    faults.into_result(path.display().to_string())?;
    Ok(Values(values))
}

/// Values that are known to fit their variables.
#[derive(Debug)]
pub(crate) struct Values(Vec<(String, Var, Tensor)>);

impl Values {
    /// The values on their variables' devices, in the parameters' order.
    pub(crate) fn into_tensors(self) -> Result<Vec<Tensor>> {
        let moved = self.0.into_iter().map(|(name, var, value)| {
            value.to_device(var.device()).map_err(Error::candle("loading", &name))
        });
        moved.collect()
    }

    pub(crate) fn assign(self) -> Result<()> {
        for (name, var, value) in self.0 {
            let assigned = value.to_device(var.device()).and_then(|value| var.set(&value));
            assigned.map_err(Error::candle("loading", &name))?;
        }
        Ok(())
    }
}

fn check_metadata(
    file: &Path,
    expected: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
) -> Result<()> {
    let mut faults = Vec::new();
    for (key, value) in expected {
        match found.get(key) {
            Some(found) if found == value => {}
            Some(found) => faults.push(format!("`{key}`: expected `{value}`, found `{found}`")),
            None => faults.push(format!("`{key}`: expected `{value}`, found nothing")),
        }
    }
    let unexpected = found.iter().filter(|(key, _)| !expected.contains_key(*key));
    faults.extend(
        unexpected.map(|(key, value)| format!("`{key}`: expected nothing, found `{value}`")),
    );
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::Metadata { file: file.to_path_buf(), faults })
}
