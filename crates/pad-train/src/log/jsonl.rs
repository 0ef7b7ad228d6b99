//! A log with one JSON object a line.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use pad_ops::fs::write_atomic;
use serde::Serialize;
use serde_json::Value;

use crate::{BoxError, EpochInfo, Error, Flow, Hook, Result, StepInfo, TrainerView};

/// Writes a line after each step, and one after each epoch that has metrics.
///
/// ```text
/// {"step":1,"epoch":0,"progress":0.0,"lr":0.1,"loss":2.5,"parts":{"a":2.0},"grad_norm":1.0,"images_per_s":9.8,"seconds":1.6}
/// {"step":40,"epoch":0,"metrics":{"val/accuracy":0.7}}
/// ```
/// On resume, lines of later steps than the checkpoint's are dropped, so that no step stands there twice. A run that
/// starts anew moves an existing log to `NAME.old`.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: Option<File>,
}

#[derive(Serialize)]
struct StepLine<'a> {
    step: usize,
    epoch: usize,
    progress: f64,
    lr: f64,
    loss: f64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parts: BTreeMap<&'a str, f64>,
    grad_norm: f64,
    images_per_s: f64,
    seconds: f64,
}

#[derive(Serialize)]
struct EpochLine<'a> {
    step: usize,
    epoch: usize,
    metrics: &'a BTreeMap<String, f64>,
}

impl JsonLines {
    /// A log in the file `path`, which is opened when the run starts.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None }
    }

    /// The line reaches the system at once: it survives a crash of the program.
    fn write(&mut self, line: &impl Serialize) -> Result<Flow, BoxError> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        if let Some(file) = &mut self.file {
            file.write_all(&bytes).map_err(Error::io(&self.path))?;
        }
        Ok(Flow::Continue)
    }
}

impl Hook for JsonLines {
    fn name(&self) -> &str {
        "json_lines"
    }

    fn start(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
        match view.state.step {
            0 => move_away(&self.path)?,
            step => drop_later(&self.path, step)?,
        }
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(&self.path);
        self.file = Some(file.map_err(Error::io(&self.path))?);
        Ok(())
    }

    fn after_step(&mut self, step: &StepInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        self.write(&StepLine {
            step: step.step,
            epoch: step.epoch,
            progress: step.progress,
            lr: step.lr,
            loss: step.loss,
            parts: step.parts.iter().copied().collect(),
            grad_norm: step.grad_norm,
            images_per_s: step.images_per_s(),
            seconds: step.seconds,
        })
    }

    fn after_epoch(
        &mut self,
        epoch: &mut EpochInfo,
        _: &TrainerView<'_>,
    ) -> Result<Flow, BoxError> {
        if epoch.metrics.is_empty() {
            return Ok(Flow::Continue);
        }
        let EpochInfo { step, epoch, metrics, .. } = &*epoch;
        self.write(&EpochLine { step: *step, epoch: *epoch, metrics })
    }
}

fn move_away(path: &Path) -> Result<()> {
    let holds_lines = fs::metadata(path).is_ok_and(|file| file.len() > 0);
    if !holds_lines {
        return Ok(());
    }
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    tracing::warn!("{} is of an earlier run: moved to {}", path.display(), old.display());
    fs::rename(path, &old).map_err(Error::io(path))
}

/// Rewrites the log without lines after `step` and without a half-written last line.
fn drop_later(path: &Path, step: usize) -> Result<()> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(path)(error)),
    };
    let lines = || bytes.split_inclusive(|&byte| byte == b'\n');
    let stays = |line: &&[u8]| line.ends_with(b"\n") && step_of(line).is_none_or(|s| s <= step);
    let dropped = lines().filter(|line| !stays(line)).count();
    if dropped == 0 {
        return Ok(());
    }
    tracing::info!("{}: {dropped} lines after step {step} dropped", path.display());
    write_atomic(path, |out| lines().filter(stays).try_for_each(|line| out.write_all(line)))
        .map_err(Error::io(path))
}

/// `None` for a line that is not ours: it stays.
fn step_of(line: &[u8]) -> Option<usize> {
    let line: Value = serde_json::from_slice(line).ok()?;
    line.get("step")?.as_u64()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_and_half_written_lines_go_and_foreign_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let start = "{\"step\":1}\n# a remark\n{\"step\":2}\n{\"step\":2,\"metrics\":{}}\n";
        fs::write(&path, format!("{start}{{\"step\":3}}\n{{\"step\":2,\"lo")).unwrap();
        drop_later(&path, 2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), start);
        drop_later(&folder.path().join("none.jsonl"), 2).unwrap();
        let error = drop_later(folder.path(), 2).unwrap_err().to_string();
        assert!(error.starts_with(&folder.path().display().to_string()), "{error}");
    }

    #[test]
    fn an_earlier_runs_log_is_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        move_away(&path).unwrap();
        fs::write(&path, "{\"step\":1}\n").unwrap();
        move_away(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(
            fs::read_to_string(folder.path().join("log.jsonl.old")).unwrap(),
            "{\"step\":1}\n"
        );
    }
}
