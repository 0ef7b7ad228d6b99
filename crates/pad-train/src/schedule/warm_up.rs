//! A rise in front of any schedule.

use serde::{Deserialize, Serialize};

use super::{LrSchedule, faults_of, not_negative};
use crate::{Error, Result};

/// Another schedule, multiplied in the first epochs by a factor that rises in a straight line from
/// `warmup_ratio` to 1.
///
/// ```
/// use pad_train::{LrSchedule, MultiStep, WarmUp};
/// let steps = MultiStep { peak_lr: 0.5, gamma: 0.1, at_epochs: vec![30.0] };
/// let schedule = WarmUp::new(5.0, steps).with_ratio(0.5);
/// assert_eq!((schedule.at(0.0), schedule.at(2.5), schedule.at(5.0)), (0.25, 0.375, 0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp<S> {
    /// Length of the warm-up, epochs.
    pub warmup_epochs: f64,
    /// Factor at its start. 0.
    pub warmup_ratio: f64,
    /// The schedule, which runs from the start of the warm-up.
    pub schedule: S,
}

impl<S> WarmUp<S> {
    /// Creates a warm-up from 0.
    ///
    /// ```
    /// use pad_train::{LrSchedule, Schedule, WarmUp};
    /// assert_eq!(WarmUp::new(4.0, Schedule::constant(0.8)).at(1.0), 0.2);
    /// ```
    pub const fn new(warmup_epochs: f64, schedule: S) -> Self {
        Self { warmup_epochs, warmup_ratio: 0.0, schedule }
    }

    /// Sets the factor at the start.
    ///
    /// ```
    /// use pad_train::{LrSchedule, Schedule, WarmUp};
    /// assert_eq!(WarmUp::new(4.0, Schedule::constant(0.8)).with_ratio(0.5).at(0.0), 0.4);
    /// ```
    #[must_use]
    pub fn with_ratio(self, warmup_ratio: f64) -> Self {
        Self { warmup_ratio, ..self }
    }
}

impl<S: LrSchedule> LrSchedule for WarmUp<S> {
    fn at(&self, epoch: f64) -> f64 {
        let lr = self.schedule.at(epoch);
        if epoch >= self.warmup_epochs {
            return lr;
        }
        lr * (self.warmup_ratio + (1.0 - self.warmup_ratio) * epoch / self.warmup_epochs)
    }

    fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        not_negative(&mut faults, "warmup_epochs", self.warmup_epochs);
        not_negative(&mut faults, "warmup_ratio", self.warmup_ratio);
        faults_of(&mut faults, &self.schedule)?;
        Error::settings(faults)
    }
}
