//! How a session ends before its run does, and how little is lost then.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pad::train::{BoxError, EpochInfo, Flow, Hook, StepInfo, TrainerView};
use serde_json::Value;

use super::{folder::CONFIG, signals::Signals};

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
    checkpoint: Option<PathBuf>,
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

/// Ends the program some seconds after a signal, if it has not ended in order by then: inside a long
/// update, whose results would be discarded all the same, or while data are read.
pub struct Watch {
    /// Whether a checkpoint is being written, or the session ends in order.
    ending: Arc<AtomicBool>,
    /// Whether the session is over.
    over: Arc<AtomicBool>,
}

impl Watch {
    const PATIENCE: Duration = Duration::from_secs(8);

    /// Watches the signals, in a thread of its own, for a session whose run is in `folder`.
    pub fn start(signals: &Signals, folder: PathBuf) -> Self {
        let (ending, over) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let watch = Self { ending: Arc::clone(&ending), over: Arc::clone(&over) };
        let signals = signals.clone();
        thread::spawn(move || {
            while !signals.is_raised() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                thread::sleep(Duration::from_millis(100));
            }
            let mut since = Instant::now();
            while since.elapsed() < Self::PATIENCE {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                // A checkpoint takes as long as it takes.
                if ending.load(Ordering::Relaxed) {
                    since = Instant::now();
                }
                thread::sleep(Duration::from_millis(50));
            }
            let name = folder.display();
            match folder.join(CONFIG).exists() {
                true => tracing::warn!(
                    "stopped; continue from the newest checkpoint with --resume {name}"
                ),
                false => tracing::warn!("stopped before the run began"),
            }
            std::process::exit(signals.exit_status());
        });
        watch
    }

    /// The hook that tells when a session ends in order.
    pub fn hook(&self) -> impl Hook + use<> {
        InOrder { ending: Arc::clone(&self.ending) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Notes that a checkpoint is about to be written, and that it is.
struct InOrder {
    ending: Arc<AtomicBool>,
}

impl Hook for InOrder {
    fn name(&self) -> &str {
        "in_order"
    }

    /// An update: what was written before it is.
    fn after_step(&mut self, _: &StepInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        self.ending.store(false, Ordering::Relaxed);
        Ok(Flow::Continue)
    }

    /// An evaluation, which may take long: what is written before it is.
    fn after_epoch(&mut self, _: &mut EpochInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        self.ending.store(false, Ordering::Relaxed);
        Ok(Flow::Continue)
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
