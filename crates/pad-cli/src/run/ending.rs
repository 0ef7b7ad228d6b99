//! How a session ends before its run does, and how little is lost then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pad::train::{BoxError, Flow, Hook, StepInfo, TrainerView};
use serde_json::Value;

use super::signals::Signals;

/// Ends a session after an update of the run.
pub struct StopAfter(pub usize);

impl Hook for StopAfter {
    fn name(&self) -> &str {
        "stop_after"
    }

    fn on_every_rank(&self) -> bool {
        true
    }

    fn after_step(&mut self, step: &StepInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        Ok(if step.step >= self.0 { Flow::Stop } else { Flow::Continue })
    }
}

/// Writes a checkpoint when the newest one is older than ten minutes, however long updates take.
pub struct TimedSave {
    newest: Instant,
    checkpoint: Option<std::path::PathBuf>,
}

impl TimedSave {
    const INTERVAL: Duration = Duration::from_secs(600);

    /// Counts from now.
    pub fn new() -> Self {
        Self { newest: Instant::now(), checkpoint: None }
    }
}

impl Hook for TimedSave {
    fn name(&self) -> &str {
        "timed_save"
    }

    fn after_step(&mut self, _: &StepInfo, view: &TrainerView<'_>) -> Result<Flow, BoxError> {
        if self.checkpoint.as_deref() != view.last_checkpoint {
            self.checkpoint = view.last_checkpoint.map(Into::into);
            self.newest = Instant::now();
        }
        if self.newest.elapsed() < Self::INTERVAL {
            return Ok(Flow::Continue);
        }
        self.newest = Instant::now();
        Ok(Flow::Save)
    }
}

/// Ends the program some seconds after a signal if the update under way takes longer: what it has
/// computed so far would be discarded all the same.
pub struct Deadline {
    /// Whether the last checkpoint of the session is written, or was.
    ending: Arc<AtomicBool>,
    /// Whether the session is over.
    over: Arc<AtomicBool>,
}

impl Deadline {
    const PATIENCE: Duration = Duration::from_secs(8);

    /// Watches the signals in a thread of its own.
    pub fn watch(signals: &Signals, folder: &str) -> Self {
        let (ending, over) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let deadline = Self { ending: Arc::clone(&ending), over: Arc::clone(&over) };
        let (stop, signal) = (Arc::clone(&signals.stop), signals.clone());
        let folder = folder.to_string();
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                thread::sleep(Duration::from_millis(100));
            }
            ending.store(false, Ordering::Relaxed);
            let since = Instant::now();
            while since.elapsed() < Self::PATIENCE {
                if ending.load(Ordering::Relaxed) || over.load(Ordering::Relaxed) {
                    return;
                }
                thread::sleep(Duration::from_millis(50));
            }
            tracing::warn!(
                "stopped inside an update; continue from the newest checkpoint with --resume {folder}"
            );
            std::process::exit(signal.exit_status());
        });
        deadline
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Hook for Deadline {
    fn name(&self) -> &str {
        "deadline"
    }

    fn finish(&mut self, _: &TrainerView<'_>) -> Result<(), BoxError> {
        self.ending.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Called when a checkpoint is about to be written.
    fn state(&self) -> Value {
        self.ending.store(true, Ordering::Relaxed);
        Value::Null
    }
}
