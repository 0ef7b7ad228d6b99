//! What a run costs: time and memory, said before it starts and after its first updates.

use pad::train::{BoxError, Flow, Hook, StepInfo, TrainerView, log::duration};

use super::{peak_mib, schedule::Length};

/// Runs and evaluations that are longer than this are warned about, seconds.
const LONG: f64 = 86_400.0;

/// What is known of a run's cost before its first update.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Time of an update, seconds.
    pub step_seconds: Option<f64>,
    /// Images of an evaluation.
    pub eval_images: usize,
    /// Time of an image in evaluation, seconds.
    pub eval_seconds: Option<f64>,
    /// Number of evaluations between the updates, the one before the first included.
    pub evaluations: usize,
    /// Peak memory of the process, evaluation included, bytes.
    pub memory: Memory,
}

/// What is known of the peak memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Memory {
    /// Nothing.
    #[default]
    Unknown,
    /// An estimate.
    About(usize),
}

impl Cost {
    /// Logs it for the `steps` that are left.
    pub fn log(&self, length: &Length, steps: usize) {
        let evaluation = self.eval_seconds.map(|each| each * self.eval_images as f64);
        // Of a run that goes on, its share: the one before the first update was made.
        let left = match steps == length.steps {
            true => self.evaluations,
            false => (self.evaluations.saturating_sub(1) * steps).div_ceil(length.steps.max(1)),
        };
        let evaluations = evaluation.unwrap_or_default() * left as f64;
        let mut parts = vec![format!("{steps} updates")];
        if steps != length.steps {
            parts = vec![format!("{steps} of {} updates", length.steps)];
        }
        if let Some(each) = self.step_seconds {
            parts.push(format!("of about {}", precise(each)));
        }
        let mut text = parts.join(" ");
        if let Some(each) = evaluation {
            text += &format!(
                ", {} evaluations of about {} ({} images)",
                left,
                precise(each),
                self.eval_images
            );
        }
        let total = self.step_seconds.map(|each| each * steps as f64 + evaluations);
        if let Some(total) = total {
            text += &format!(": about {} in all", duration(total));
        }
        match self.memory {
            Memory::Unknown => {}
            Memory::About(bytes) => text += &format!(", about {} MiB of memory", bytes >> 20),
        }
        match total.is_some_and(|total| total > LONG) {
            true => {
                tracing::warn!("{text}; fewer updates, a smaller model or smaller images take less")
            }
            false => tracing::info!("{text}"),
        }
    }
}

/// A short time with its fractions, a long one without.
fn precise(seconds: f64) -> String {
    if seconds < 60.0 { format!("{seconds:.2} s") } else { duration(seconds) }
}

/// Logs the peak memory once the first updates have been made.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryLog {
    steps: usize,
}

impl Hook for MemoryLog {
    fn name(&self) -> &str {
        "memory"
    }

    fn after_step(&mut self, _: &StepInfo, _: &TrainerView<'_>) -> Result<Flow, BoxError> {
        self.steps += 1;
        if self.steps == 3
            && let Some(mib) = peak_mib()
        {
            tracing::info!("peak memory so far: {mib} MiB");
        }
        Ok(Flow::Continue)
    }
}
