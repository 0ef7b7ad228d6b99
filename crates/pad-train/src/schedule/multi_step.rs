//! A rate that falls by a factor at given moments.

use serde::{Deserialize, Serialize};

use super::{LrSchedule, not_negative};
use crate::{Error, Result};

/// `peak_lr`, from each moment on `gamma` times what it was before; PyTorch's `MultiStepLR`. Two
/// equal moments are one step of `gamma` squared.
///
/// ```
/// use pad_train::{LrSchedule, MultiStep};
/// let schedule = MultiStep { peak_lr: 0.1, gamma: 0.5, at_epochs: vec![30.0, 60.0, 90.0] };
/// assert_eq!(schedule.at(29.9), 0.1);
/// assert_eq!(schedule.at(90.0), 0.0125);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiStep {
    /// The rate at the start.
    pub peak_lr: f64,
    /// Factor at each moment.
    pub gamma: f64,
    /// The moments, epochs, ascending.
    pub at_epochs: Vec<f64>,
}

impl LrSchedule for MultiStep {
    fn at(&self, epoch: f64) -> f64 {
        let steps = self.at_epochs.iter().filter(|&&moment| epoch >= moment).count();
        self.peak_lr * self.gamma.powi(i32::try_from(steps).unwrap_or(i32::MAX))
    }

    fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        not_negative(&mut faults, "peak_lr", self.peak_lr);
        not_negative(&mut faults, "gamma", self.gamma);
        for &moment in &self.at_epochs {
            not_negative(&mut faults, "at_epochs", moment);
        }
        if faults.is_empty() && !self.at_epochs.is_sorted() {
            faults
                .push(format!("`at_epochs` are {:?}, expected ascending moments", self.at_epochs));
        }
        Error::settings(faults)
    }
}
