//! The length of a run and the course of its learning rate.

use pad::train::{Schedule, TrainerConfig, lr_for_batch};

use super::Result;
use crate::settings::{RunSettings, names::ScheduleKind};

/// The length of a run in updates, and the trainer's epochs in it: passes over the data, or what
/// lies between two evaluations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Updates of the run.
    pub steps: usize,
    /// Updates of a pass over the data.
    pub steps_per_pass: usize,
    /// Updates of an epoch of the trainer.
    pub steps_per_epoch: usize,
    /// Epochs of the trainer.
    pub epochs: usize,
    /// Whether an epoch of the trainer is another thing than a pass over the data.
    pub own_epochs: bool,
}

impl Length {
    /// The length of a run whose passes over the data have `batches` micro-batches, `accumulate` to
    /// an update.
    ///
    /// # Errors
    /// No length; an epoch without an update.
    pub fn new(run: &RunSettings, batches: usize, accumulate: usize) -> Result<Self> {
        let per_pass = batches / accumulate.max(1);
        let passes = match run.epochs {
            Some(_) if per_pass == 0 => {
                return Err(format!(
                    "an epoch has {batches} batches, expected at least `accumulate` ({accumulate})"
                )
                .into());
            }
            Some(epochs) => Some(epochs.saturating_mul(per_pass)),
            None => None,
        };
        let limits = passes.into_iter().chain(run.max_steps);
        let steps = limits.min().ok_or("`epochs` and `max_steps` are missing")?;
        // Evaluations at other times than after passes need epochs of their own length. It does not
        // depend on that of the run, which may be extended.
        let interval = match run.eval_steps {
            Some(interval) => Some(interval),
            None if per_pass == 0 => Some(LONG_UPDATES),
            None => None,
        };
        let steps_per_epoch = interval.unwrap_or(per_pass).max(1);
        Ok(Self {
            steps,
            steps_per_pass: per_pass.max(1),
            steps_per_epoch,
            epochs: steps.div_ceil(steps_per_epoch),
            own_epochs: interval.is_some(),
        })
    }

    /// Micro-batches of an epoch, where it is no pass over the data.
    pub fn batches_per_epoch(&self, accumulate: usize) -> Option<usize> {
        self.own_epochs.then_some(self.steps_per_epoch * accumulate.max(1))
    }

    /// Epochs of the trainer from one evaluation to the next.
    pub fn eval_every(&self, run: &RunSettings) -> Option<usize> {
        match run.eval_steps {
            Some(_) => Some(1),
            None => run.eval_every.epochs(),
        }
    }

    /// The trainer's configuration.
    pub fn config(&self, run: &RunSettings, accumulate: usize) -> TrainerConfig {
        TrainerConfig {
            epochs: self.epochs,
            max_steps: Some(self.steps),
            accumulate,
            clip_norm: run.clip_norm,
            seed: run.seed,
        }
    }

    /// The learning rate over the run, for updates of `effective_batch` images.
    pub fn schedule(&self, run: &RunSettings, effective_batch: usize) -> Schedule {
        let peak_lr =
            run.lr.unwrap_or_else(|| lr_for_batch(run.blr.unwrap_or_default(), effective_batch));
        let per_epoch = self.steps_per_epoch as f64;
        let all = self.steps as f64;
        let warmup = match (run.warmup_steps, run.warmup_epochs) {
            (Some(steps), _) => steps as f64,
            (None, Some(epochs)) => epochs * self.steps_per_pass as f64,
            (None, None) => 0.0,
        };
        let epochs = all / per_epoch;
        match run.schedule {
            ScheduleKind::Cosine => {
                // The paper's share of a run that is no longer than its warm-up.
                let warmup = if warmup < all { warmup } else { shorter(warmup, 0.3 * all) };
                let min_lr = run.min_lr;
                Schedule::warmup_cosine(peak_lr, min_lr, warmup / per_epoch, epochs)
            }
            ScheduleKind::Poly => {
                let warmup = if warmup <= all / 2.0 {
                    warmup
                } else {
                    shorter(warmup, (self.steps / 2) as f64)
                };
                match Schedule::poly(peak_lr, warmup / per_epoch, epochs) {
                    Schedule::Poly {
                        peak_lr, power, warmup_epochs, warmup_ratio, epochs, ..
                    } => {
                        let min_lr = run.min_lr;
                        Schedule::Poly {
                            peak_lr,
                            min_lr,
                            power,
                            warmup_epochs,
                            warmup_ratio,
                            epochs,
                        }
                    }
                    other => other,
                }
            }
            ScheduleKind::Steps => Schedule::Steps {
                peak_lr,
                gamma: 0.1,
                at_epochs: run.lr_steps.0.map(|share| share * all / per_epoch),
                warmup_epochs: warmup.min(all / 10.0) / per_epoch,
                warmup_ratio: 1e-3,
            },
        }
    }
}

/// Updates between evaluations where an update takes more than a pass.
const LONG_UPDATES: usize = 100;

/// Logs a warm-up that is shorter than the setting.
fn shorter(setting: f64, used: f64) -> f64 {
    tracing::info!("warm-up of {setting:.0} updates is too long for this run: {used:.0} instead");
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(epochs: Option<usize>, max_steps: Option<usize>) -> RunSettings {
        RunSettings { epochs, max_steps, lr: Some(1e-3), ..Default::default() }
    }

    #[test]
    fn the_shorter_length_holds() {
        let length = |run: &RunSettings| Length::new(run, 10, 2).unwrap();
        assert_eq!(length(&run(Some(3), None)).steps, 15);
        assert_eq!(length(&run(Some(3), Some(7))).steps, 7);
        assert_eq!(length(&run(None, Some(7))).steps, 7);
        let three = length(&run(Some(3), None));
        assert_eq!((three.steps_per_epoch, three.epochs, three.own_epochs), (5, 3, false));
        let by_steps = RunSettings { eval_steps: Some(4), ..run(None, Some(10)) };
        let four = length(&by_steps);
        assert_eq!((four.steps_per_epoch, four.epochs, four.own_epochs), (4, 3, true));
        assert_eq!(four.batches_per_epoch(2), Some(8));
        assert!(Length::new(&run(Some(1), None), 1, 2).is_err());
        // A run that is extended keeps its epochs.
        for eval_steps in [None, Some(4), Some(50)] {
            let of = |steps| length(&RunSettings { eval_steps, ..run(None, Some(steps)) });
            let (short, long) = (of(3), of(30));
            assert_eq!((short.steps, long.steps), (3, 30));
            assert_eq!(short.batches_per_epoch(2), long.batches_per_epoch(2));
        }
    }

    #[test]
    fn the_warm_up_fits_into_the_run() {
        let long = RunSettings { warmup_epochs: Some(30.0), ..run(Some(3), None) };
        let length = Length::new(&long, 10, 1).unwrap();
        let schedule = length.schedule(&long, 8);
        assert!(schedule.at(0.9) > schedule.at(0.5) && schedule.at(0.9) > schedule.at(2.0));
    }
}
