//! One cycle: up to a high rate, then far down.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::{LrSchedule, not_negative, positive};
use crate::{Error, Result};

/// The way from one rate to the next.
///
/// ```
/// use pad_train::{Anneal, LrSchedule, OneCycle};
/// let cycle = OneCycle { rise: 0.5, anneal: Anneal::Linear, ..OneCycle::new(1.0, 4.0) };
/// assert_eq!(cycle.at(1.0), 0.52);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Anneal {
    /// Half a cosine.
    #[default]
    Cosine,
    /// A straight line.
    Linear,
}

/// Up from `peak_lr / initial_divisor` to `peak_lr`, then down to
/// `peak_lr / initial_divisor / final_divisor`: the policy of Smith and Topin (arXiv 1708.07120), in
/// the two phases of PyTorch's `OneCycleLR`. There the last step reaches the lowest rate, here the
/// end of the last epoch does.
///
/// ```
/// use pad_train::{LrSchedule, OneCycle};
/// let schedule = OneCycle { rise: 0.5, ..OneCycle::new(1.0, 10.0) };
/// assert_eq!(schedule.at(0.0), 0.04);
/// assert_eq!(schedule.at(2.5), 0.52); // half way up
/// assert_eq!(schedule.at(5.0), 1.0);
/// assert!((schedule.at(10.0) - 4e-6).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneCycle {
    /// The highest rate.
    pub peak_lr: f64,
    /// The highest rate divided by the first one. 25.
    pub initial_divisor: f64,
    /// The first rate divided by the last one. 10,000.
    pub final_divisor: f64,
    /// Share of the run in which the rate rises, 0 to 1. 0.3.
    pub rise: f64,
    /// Length of the run, epochs.
    pub epochs: f64,
    /// The way up and down. Half a cosine.
    pub anneal: Anneal,
}

impl OneCycle {
    /// Creates a cycle over a run of `epochs` with PyTorch's other numbers.
    ///
    /// ```
    /// assert_eq!(pad_train::OneCycle::new(0.5, 20.0).rise, 0.3);
    /// ```
    pub const fn new(peak_lr: f64, epochs: f64) -> Self {
        let (initial_divisor, final_divisor) = (25.0, 1e4);
        Self { peak_lr, initial_divisor, final_divisor, rise: 0.3, epochs, anneal: Anneal::Cosine }
    }
}

impl LrSchedule for OneCycle {
    fn at(&self, epoch: f64) -> f64 {
        let first = self.peak_lr / self.initial_divisor;
        let last = first / self.final_divisor;
        let top = self.rise * self.epochs;
        let (from, to, share) = if epoch < top {
            (first, self.peak_lr, epoch / top)
        } else if top < self.epochs {
            (self.peak_lr, last, ((epoch - top) / (self.epochs - top)).min(1.0))
        } else {
            return self.peak_lr;
        };
        match self.anneal {
            // Weighted, so that both ends are met exactly.
            Anneal::Cosine => {
                let left = 0.5 * (1.0 + (PI * share).cos());
                from * left + to * (1.0 - left)
            }
            Anneal::Linear => from * (1.0 - share) + to * share,
        }
    }

    fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        not_negative(&mut faults, "peak_lr", self.peak_lr);
        positive(&mut faults, "initial_divisor", self.initial_divisor);
        positive(&mut faults, "final_divisor", self.final_divisor);
        positive(&mut faults, "epochs", self.epochs);
        if !(0.0..=1.0).contains(&self.rise) {
            faults.push(format!("`rise` is {}, expected 0 to 1", self.rise));
        }
        Error::settings(faults)
    }
}
