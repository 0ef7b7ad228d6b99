//! A log with one JSON object a line.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use pad_ops::fs::write_atomic;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{BoxError, EpochInfo, Error, Flow, Hook, Result, StepInfo, TrainerView};

/// Writes a line after each step ([`StepInfo::scalars`]), and one of the metrics of each
/// [`EpochInfo`] that has some: before training (step 0), after epochs, after the last step. The
/// names are those in [`TensorBoard`](super::TensorBoard).
///
/// ```text
/// {"step":0,"epoch":0,"val/accuracy":0.1}
/// {"step":1,"epoch":0,"progress":0.0,"train/loss":2.5,"train/a":2.0,"train/lr":0.1,"train/grad_norm":1.0,"train/images_per_s":9.8,"train/seconds":1.6}
/// {"step":40,"epoch":0,"val/accuracy":0.7}
/// ```
/// On resume, lines of later steps than the checkpoint's are dropped, so that no step is logged
/// twice. A new run moves an existing log to `NAME.old`. A log that can no longer be written (a full
/// disk) ends with a warning; the run goes on.
///
/// ```
/// use pad_train::{
///     BoxError, EpochStream, Losses, Mode, Parameter, Schedule, Sgd, SgdConfig, Task, Trainer,
///     TrainerConfig, candle_core::{Device, Var}, log::JsonLines,
/// };
/// # struct Square(Var); // the loss is the square of one number
/// # impl Task for Square {
/// #     type Batch = ();
/// #     fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
/// #         Ok(Losses::new(self.0.sqr()?.sum_all()?))
/// #     }
/// #     fn images_in(&self, (): &()) -> usize { 4 }
/// # }
/// # let task = Square(Var::new(&[1_f32], &Device::Cpu)?);
/// # let config = SgdConfig { momentum: 0.0, ..Default::default() };
/// # let sgd = Sgd::new(vec![Parameter::new("x", task.0.clone())], config)?;
/// # let mut batches = EpochStream::new(2, |_, first, stride| {
/// #     Ok::<_, BoxError>((first..2).step_by(stride).map(|_| Ok::<_, BoxError>(())))
/// # });
/// # let config = TrainerConfig { epochs: 1, ..Default::default() };
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("log.jsonl");
/// Trainer::new(config, Schedule::constant(0.25), sgd)?
///     .with_hook(JsonLines::new(&path))
///     .run(&task, &mut batches)?; // two steps
/// let lines = std::fs::read_to_string(&path)?;
/// let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap())?;
/// assert_eq!((lines.lines().count(), last["step"].as_u64()), (2, Some(2)));
/// assert_eq!(last["train/loss"].as_f64(), Some(0.25));
/// # Ok::<(), BoxError>(())
/// ```
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: Option<File>,
    /// The step of the last line of metrics.
    measured: Option<usize>,
    /// That of the checkpoint that the run was resumed from.
    restored: Option<usize>,
}

/// A line: where it belongs, then the numbers under their names.
#[derive(Serialize)]
struct Line<'a> {
    step: usize,
    epoch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<f64>,
    #[serde(flatten)]
    scalars: Scalars<'a>,
}

/// Numbers by name, in their order.
struct Scalars<'a>(Vec<(&'a str, f64)>);

impl Serialize for Scalars<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl JsonLines {
    /// Creates a log in the file `path`, which is opened when the run starts.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None, measured: None, restored: None }
    }

    /// Writes a line. It reaches the system at once, so that it survives a crash of the program.
    fn write(&mut self, line: &Line<'_>) -> Result<Flow, BoxError> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(&bytes)
        {
            tracing::warn!("{}: {error}; the run goes on without this log", self.path.display());
            self.file = None;
        }
        Ok(Flow::Continue)
    }

    fn write_metrics(&mut self, info: &EpochInfo) -> Result<Flow, BoxError> {
        if info.metrics.is_empty() {
            return Ok(Flow::Continue);
        }
        let EpochInfo { step, epoch, metrics, .. } = info;
        self.measured = Some(*step);
        let scalars = metrics.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.write(&Line { step: *step, epoch: *epoch, progress: None, scalars: Scalars(scalars) })
    }
}

impl Hook for JsonLines {
    fn name(&self) -> &str {
        "json_lines"
    }

    fn start(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
        match view.state.step {
            0 => move_away(&self.path)?,
            step => drop_later(&self.path, step, self.restored)?,
        }
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(&self.path);
        self.file = Some(file.map_err(Error::io(&self.path))?);
        Ok(())
    }

    fn before_training(
        &mut self,
        info: &mut EpochInfo,
        _: &TrainerView<'_>,
    ) -> Result<(), BoxError> {
        self.write_metrics(info)?;
        Ok(())
    }

    fn after_step(&mut self, step: &StepInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        let scalars = step.scalars();
        let scalars = scalars.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.write(&Line {
            step: step.step,
            epoch: step.epoch,
            progress: Some(step.progress),
            scalars: Scalars(scalars),
        })
    }

    fn after_epoch(
        &mut self,
        epoch: &mut EpochInfo,
        _: &TrainerView<'_>,
    ) -> Result<Flow, BoxError> {
        if epoch.is_interrupted { Ok(Flow::Continue) } else { self.write_metrics(epoch) }
    }

    fn state(&self) -> Value {
        serde_json::json!({ "measured": self.measured })
    }

    fn restore(&mut self, state: &Value) -> Result<(), BoxError> {
        let step = state.get("measured").and_then(Value::as_u64);
        self.measured = step.and_then(|step| step.try_into().ok());
        self.restored = self.measured;
        Ok(())
    }
}

fn move_away(path: &Path) -> Result<()> {
    let holds_lines = fs::metadata(path).is_ok_and(|file| file.len() > 0);
    if !holds_lines {
        return Ok(());
    }
    let numbered = |number: usize| {
        let mut old = path.as_os_str().to_owned();
        old.push(if number == 1 { ".old".into() } else { format!(".old-{number}") });
        old
    };
    let free = (1..).map(numbered).find(|old| !Path::new(old).exists());
    let old = free.unwrap_or_else(|| numbered(1));
    tracing::warn!("{} belongs to an earlier run: moved to {}", path.display(), old.display());
    fs::rename(path, &old).map_err(Error::io(path))
}

/// Rewrites the log without lines after `step` and without a half-written last line. Metrics of
/// `step` itself are lines after it unless the checkpoint has them (`measured`): they are measured
/// again.
fn drop_later(path: &Path, step: usize, measured: Option<usize>) -> Result<()> {
    let bytes = match pad_ops::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(path)(error)),
    };
    let lines = || bytes.split_inclusive(|&byte| byte == b'\n');
    let again = measured.is_some_and(|measured| measured < step);
    let stays = |line: &&[u8]| {
        let is_later = |(of, metrics): (usize, bool)| of > step || of == step && metrics && again;
        line.ends_with(b"\n") && !place_of(line).is_some_and(is_later)
    };
    let dropped = lines().filter(|line| !stays(line)).count();
    if dropped == 0 {
        return Ok(());
    }
    tracing::info!("{}: {dropped} lines after step {step} dropped", path.display());
    write_atomic(path, |out| lines().filter(stays).try_for_each(|line| out.write_all(line)))
        .map_err(Error::io(path))
}

/// Returns the step of a line and whether it holds metrics; `None` for a line of another program,
/// which stays.
fn place_of(line: &[u8]) -> Option<(usize, bool)> {
    let line: Value = serde_json::from_slice(line).ok()?;
    let step = line.get("step")?.as_u64()?.try_into().ok()?;
    Some((step, line.get("progress").is_none()))
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
        drop_later(&path, 2, None).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), start);
        // Metrics of step 2 that the checkpoint does not have yet come again.
        let steps = "{\"step\":2,\"progress\":0.5}\n";
        fs::write(&path, format!("{steps}{{\"step\":2,\"val/a\":1}}\n")).unwrap();
        drop_later(&path, 2, Some(0)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), steps);
        drop_later(&folder.path().join("none.jsonl"), 2, None).unwrap();
        let error = drop_later(folder.path(), 2, None).unwrap_err().to_string();
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
        fs::write(&path, "{\"step\":2}\n").unwrap();
        move_away(&path).unwrap();
        let second = fs::read_to_string(folder.path().join("log.jsonl.old-2")).unwrap();
        assert_eq!(second, "{\"step\":2}\n");
    }
}
