//! One JSON object a line: `step`, `epoch`, `lr`, `loss`, `gradient_norm`, `images_per_s`, `seconds`, and metrics.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{Error, Hook, Result, StepInfo};

/// Appends a line per step. A resumed run first drops the lines after its step, so no step appears twice.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: Option<File>,
    seconds: f64,
}

impl JsonLines {
    /// A log at `path`; nothing is written before the run begins.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_path_buf(), file: None, seconds: 0.0 }
    }

    fn io(&self) -> impl FnOnce(std::io::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Io { path, source }
    }
}

impl Hook for JsonLines {
    fn name(&self) -> &'static str {
        "jsonl"
    }

    fn before_run(&mut self, done: usize, _steps: usize) -> Result<()> {
        let old = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(self.io()(error)),
        };
        let is_past = |line: &&str| {
            let value: Option<Value> = serde_json::from_str(line).ok(); // a torn last line is dropped
            value.and_then(|v| v["step"].as_u64()).is_some_and(|step| step <= done as u64)
        };
        let kept: String = old.lines().filter(is_past).flat_map(|line| [line, "\n"]).collect();
        pad_ops::fs::write_atomic_bytes(&self.path, kept.as_bytes()).map_err(self.io())?;
        let file = OpenOptions::new().append(true).open(&self.path).map_err(self.io())?;
        self.file = Some(file);
        Ok(())
    }

    fn after_step(&mut self, info: &mut StepInfo) -> Result<()> {
        self.seconds += info.seconds;
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| line.insert(name.to_string(), value);
        put("step", info.step.into());
        put("epoch", info.epoch.into());
        put("lr", info.lr.into());
        put("loss", info.loss.into());
        put("gradient_norm", info.gradient_norm.into());
        put("images_per_s", (info.images as f64 / info.seconds.max(1e-9)).into());
        put("seconds", self.seconds.into());
        for (name, value) in &info.metrics {
            put(name, (*value).into());
        }
        let text = format!("{}\n", Value::Object(line));
        let failed = match &mut self.file {
            Some(file) => file.write_all(text.as_bytes()).err(),
            None => None,
        };
        failed.map_or(Ok(()), |error| Err(self.io()(error)))
    }

    fn state(&self) -> Value {
        self.seconds.into()
    }

    fn restore(&mut self, state: &Value) -> Result<()> {
        self.seconds = state.as_f64().unwrap_or(0.0);
        Ok(())
    }
}
