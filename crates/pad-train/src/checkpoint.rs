//! Checkpoints: folders that are whole or absent.
//!
//! `checkpoint-00000120/` holds `model.safetensors` (the trained variables), `optimizer.safetensors` (AdamW's moments)
//! and `state.json` (progress, hooks, what run it belongs to). It is written beside, every file synced, then renamed:
//! a folder with that name is complete.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::{AdamW, Error, Progress, Result, StepInfo};

const FORMAT: &str = "pad-train/1";
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const PREFIX: &str = "checkpoint-";

/// Settings that a resumed run must share with the checkpoint: names and values in words.
pub type Identity = BTreeMap<String, String>;

/// When checkpoints are written, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Folder of the checkpoints; created if need be.
    pub folder: PathBuf,
    /// Every so many updates, if any.
    pub every_steps: Option<usize>,
    /// Also at the end of every so many epochs, if any, and at the end of the run.
    pub every_epochs: Option<usize>,
    /// The newest so many are kept.
    pub keep: usize,
    /// What a checkpoint must agree with to be resumed.
    pub identity: Identity,
}

impl Plan {
    /// Whether a checkpoint is due after a step.
    pub(crate) fn is_due(&self, info: &StepInfo) -> bool {
        let steps = self.every_steps.is_some_and(|n| n > 0 && info.step.is_multiple_of(n));
        let epochs = self
            .every_epochs
            .is_some_and(|n| n > 0 && info.ends_epoch && (info.epoch + 1).is_multiple_of(n));
        steps || epochs || info.step == info.steps
    }
}

/// Everything in a checkpoint that is no tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RunState {
    pub(crate) progress: Progress,
    pub(crate) hooks: BTreeMap<String, serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct StateFile {
    format: String,
    progress: Progress,
    identity: Identity,
    hooks: BTreeMap<String, serde_json::Value>,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { path, source }
}

/// Writes a checkpoint and removes those that are too old; returns its folder.
pub(crate) fn save(plan: &Plan, state: &RunState, optimizer: &AdamW) -> Result<PathBuf> {
    let folder = &plan.folder;
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    let target = folder.join(format!("{PREFIX}{:08}", state.progress.step));
    let partial = folder.join(format!(".{PREFIX}{:08}.tmp", state.progress.step));
    let written = write_folder(&partial, plan, state, optimizer).and_then(|()| {
        if target.exists() {
            // The same step again, after a resume: the same content, so the old one may go first.
            std::fs::remove_dir_all(&target).map_err(io(&target))?;
        }
        std::fs::rename(&partial, &target).map_err(io(&target))?;
        pad_ops::fs::sync_folder(folder).map_err(io(folder))
    });
    if let Err(error) = written {
        std::fs::remove_dir_all(&partial).ok(); // what is left of it; the error below is the news
        return Err(error);
    }
    let mut old = list(folder)?;
    old.truncate(old.len().saturating_sub(plan.keep.max(1)));
    for (_, path) in old {
        std::fs::remove_dir_all(&path).map_err(io(&path))?;
    }
    Ok(target)
}

fn write_folder(folder: &Path, plan: &Plan, state: &RunState, optimizer: &AdamW) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(io(folder))?;
    }
    std::fs::create_dir(folder).map_err(io(folder))?;
    let variables = optimizer.parameters().iter();
    let variables = variables.map(|p| (p.name.clone(), p.var.as_tensor().clone())).collect();
    write_tensors(&folder.join(MODEL), &variables)?;
    write_tensors(&folder.join(OPTIMIZER), &optimizer.state()?)?;
    let state = StateFile {
        format: FORMAT.into(),
        progress: state.progress,
        identity: plan.identity.clone(),
        hooks: state.hooks.clone(),
    };
    let path = folder.join(STATE);
    let json = serde_json::to_vec_pretty(&state)
        .map_err(|error| Error::Checkpoint { path: path.clone(), what: error.to_string() })?;
    write_synced(&path, &json)?;
    pad_ops::fs::sync_folder(folder).map_err(io(folder))
}

fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let host = |t: &Tensor| t.to_device(&Device::Cpu)?.contiguous();
    let tensors = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.as_str(), host(tensor)?)))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(tensors, None)
        .map_err(|error| Error::Checkpoint { path: path.to_path_buf(), what: error.to_string() })?;
    write_synced(path, &bytes)
}

/// The folder is renamed as a whole, so its files need no temporary names of their own.
fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io(path))
}

/// Complete checkpoints of a folder, oldest first.
fn list(folder: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(io(folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(io(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let step = name.strip_prefix(PREFIX).and_then(|step| step.parse().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort();
    Ok(found)
}

/// The newest checkpoint of a folder that can be read; damaged ones are reported and passed over.
///
/// # Errors
/// [`Error::Io`] for a folder that cannot be listed.
pub fn latest(folder: &Path) -> Result<Option<PathBuf>> {
    for (_, path) in list(folder)?.into_iter().rev() {
        let sound = read_state(&path)
            .map(drop)
            .and_then(|()| read_tensors(&path.join(MODEL)).map(drop))
            .and_then(|()| read_tensors(&path.join(OPTIMIZER)).map(drop));
        match sound {
            Ok(()) => return Ok(Some(path)),
            Err(error) => tracing::warn!("passed over a damaged checkpoint: {error}"),
        }
    }
    Ok(None)
}

fn read_state(folder: &Path) -> Result<StateFile> {
    let path = folder.join(STATE);
    let text = std::fs::read_to_string(&path).map_err(io(&path))?;
    let refuse = |what: String| Error::Checkpoint { path: path.clone(), what };
    let state: StateFile = serde_json::from_str(&text).map_err(|e| refuse(e.to_string()))?;
    if state.format != FORMAT {
        return Err(refuse(format!("format {}, expected {FORMAT}", state.format)));
    }
    Ok(state)
}

/// The tensors of one of a checkpoint's files.
fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(io(path))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|error| {
        Error::Checkpoint { path: path.to_path_buf(), what: format!("cannot be read: {error}") }
    })?;
    Ok(tensors.into_iter().collect())
}

/// Loads a checkpoint into the optimiser and the variables it updates. Nothing is changed on an error.
pub(crate) fn load(folder: &Path, identity: &Identity, optimizer: &mut AdamW) -> Result<RunState> {
    let state = read_state(folder)?;
    for key in identity.keys().chain(state.identity.keys()) {
        let side = |identity: &Identity| identity.get(key).cloned().unwrap_or("not set".into());
        let (expected, found) = (side(identity), side(&state.identity));
        if expected != found {
            let path = folder.to_path_buf();
            return Err(Error::OtherRun { path, key: key.clone(), expected, found });
        }
    }
    let model_path = folder.join(MODEL);
    let model = read_tensors(&model_path)?;
    let mut faults = Vec::new();
    for parameter in optimizer.parameters() {
        let (name, expected) = (&parameter.name, parameter.var.dims());
        match model.get(name) {
            None => faults.push(format!("missing {name}")),
            Some(found) if found.dims() != expected => {
                faults.push(format!("{name} has shape {:?}, expected {expected:?}", found.dims()));
            }
            Some(_) => {}
        }
    }
    let known = |name: &str| optimizer.parameters().iter().any(|p| p.name == name);
    faults.extend(model.keys().filter(|n| !known(n)).map(|name| format!("unexpected {name}")));
    if !faults.is_empty() {
        return Err(Error::Tensors { path: model_path, faults });
    }
    let optimizer_path = folder.join(OPTIMIZER);
    let moments = read_tensors(&optimizer_path)?;
    optimizer
        .load_state(&moments)
        .map_err(|faults| Error::Tensors { path: optimizer_path, faults })?;
    for parameter in optimizer.parameters() {
        if let Some(value) = model.get(&parameter.name) {
            let var = parameter.var.as_tensor();
            parameter.var.set(&value.to_dtype(var.dtype())?.to_device(var.device())?)?;
        }
    }
    Ok(RunState { progress: state.progress, hooks: state.hooks })
}

/// The trained variables of a checkpoint, by name: for programs that only want the weights.
///
/// # Errors
/// [`Error::Io`] or [`Error::Checkpoint`].
pub fn read_model(folder: &Path) -> Result<BTreeMap<String, Tensor>> {
    read_tensors(&folder.join(MODEL))
}
