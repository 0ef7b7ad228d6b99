//! Schedules one after another.

use std::fmt;

use super::{LrSchedule, faults_of};
use crate::{Error, Result};

/// Schedules in a row, each with a time of its own that starts at 0 where it begins; PyTorch's
/// `SequentialLR`.
///
/// ```
/// use pad_train::{LrSchedule, Schedule, Sequential};
/// // Two epochs at a low rate, then half a cosine over the eight that are left.
/// let schedule = Sequential::new(Schedule::constant(0.01)).then(2.0, Schedule::cosine(1.0, 0.0, 8.0));
/// assert_eq!((schedule.at(1.9), schedule.at(2.0), schedule.at(6.0)), (0.01, 1.0, 0.5));
/// ```
pub struct Sequential<'a> {
    /// Start of each, and the schedule; the first starts at 0.
    parts: Vec<(f64, Box<dyn LrSchedule + 'a>)>,
}

impl<'a> Sequential<'a> {
    /// Creates a sequence that begins with `first`.
    ///
    /// ```
    /// use pad_train::{LrSchedule, Schedule, Sequential};
    /// assert_eq!(Sequential::new(Schedule::constant(0.1)).at(9.0), 0.1);
    /// ```
    pub fn new(first: impl LrSchedule + 'a) -> Self {
        Self { parts: vec![(0.0, Box::new(first))] }
    }

    /// Adds a schedule that takes over at an epoch, later than those before.
    ///
    /// ```
    /// use pad_train::{LrSchedule, Schedule, Sequential};
    /// let falling = Sequential::new(Schedule::constant(0.1)).then(3.0, Schedule::constant(0.01));
    /// assert_eq!((falling.at(2.9), falling.at(3.0)), (0.1, 0.01));
    /// ```
    #[must_use]
    pub fn then(mut self, at_epoch: f64, next: impl LrSchedule + 'a) -> Self {
        self.parts.push((at_epoch, Box::new(next)));
        self
    }
}

impl LrSchedule for Sequential<'_> {
    fn at(&self, epoch: f64) -> f64 {
        let started = self.parts.iter().rev().find(|(start, _)| epoch >= *start);
        match started.or(self.parts.first()) {
            Some((start, schedule)) => schedule.at(epoch - start),
            None => 0.0,
        }
    }

    fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let mut before: Option<f64> = None;
        for (start, schedule) in &self.parts {
            if let Some(before) = before
                && !(start.is_finite() && *start > before)
            {
                faults.push(format!(
                    "a schedule starts at epoch {start}, expected a finite number above {before}, where the one \
                     before starts"
                ));
            }
            before = Some(*start);
            faults_of(&mut faults, schedule)?;
        }
        Error::settings(faults)
    }
}

impl fmt::Debug for Sequential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts.iter().map(|(start, _)| start)).finish()
    }
}
