//! Learning rates over a run.

use serde::{Deserialize, Serialize};

/// The learning rate as a function of training progress.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Schedule {
    /// The same rate throughout.
    Constant {
        /// The rate.
        lr: f64,
    },
    /// Linear rise over `warmup_epochs`, then half a cosine down to `min_lr` at `epochs`, as MAE trains.
    WarmupCosine {
        /// Rate after the rise.
        peak_lr: f64,
        /// Rate at the end.
        min_lr: f64,
        /// Length of the rise, in epochs.
        warmup_epochs: f64,
        /// Length of the run, in epochs.
        epochs: f64,
    },
}

impl Schedule {
    /// The rate at `epoch`, a fraction: it changes from iteration to iteration.
    pub fn at(&self, epoch: f64) -> f64 {
        match *self {
            Schedule::Constant { lr } => lr,
            Schedule::WarmupCosine { peak_lr, min_lr, warmup_epochs, epochs } => {
                if epoch < warmup_epochs {
                    return peak_lr * epoch / warmup_epochs;
                }
                let progress = (epoch - warmup_epochs) / (epochs - warmup_epochs).max(f64::EPSILON);
                min_lr
                    + (peak_lr - min_lr)
                        * 0.5
                        * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
            }
        }
    }
}

/// The linear scaling rule: `blr * effective_batch / 256`.
pub fn scaled_lr(base_lr: f64, effective_batch: usize) -> f64 {
    base_lr * effective_batch as f64 / 256.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_cosine() {
        let schedule = Schedule::WarmupCosine {
            peak_lr: 1.0,
            min_lr: 0.1,
            warmup_epochs: 10.0,
            epochs: 110.0,
        };
        for (epoch, want) in [(0.0, 0.0), (5.0, 0.5), (10.0, 1.0), (60.0, 0.55), (110.0, 0.1)] {
            assert!((schedule.at(epoch) - want).abs() < 1e-12, "{epoch}");
        }
        assert_eq!(schedule.at(200.0), schedule.at(110.0));
        assert_eq!(scaled_lr(1.5e-4, 4096), 2.4e-3);
        let instant =
            Schedule::WarmupCosine { peak_lr: 1.0, min_lr: 0.0, warmup_epochs: 0.0, epochs: 0.0 };
        assert!(instant.at(0.0).is_finite());
    }
}
