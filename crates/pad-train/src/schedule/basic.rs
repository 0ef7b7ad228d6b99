//! The schedules that settings name: plain numbers, which files and flags can hold.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::LrSchedule;
use crate::{Error, Result};

/// A learning rate as a function of the epoch, from a few numbers. Other shapes, and combinations,
/// are other [`LrSchedule`]s.
///
/// ```
/// use pad_train::{Schedule, lr_for_batch};
/// let schedule = Schedule::warmup_cosine(lr_for_batch(1e-4, 4096), 0.0, 30.0, 100.0);
/// assert_eq!(schedule.at(15.0), 0.8e-3);
/// assert_eq!(schedule.at(65.0), 0.8e-3); // half of the cosine
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Schedule {
    /// The same rate at all times.
    Constant {
        /// The rate.
        lr: f64,
    },
    /// From 0 in a straight line to `peak_lr`, then down to `min_lr` along half a cosine
    /// (`util/lr_sched.py` of MAE).
    WarmupCosine {
        /// The highest rate, reached after the warm-up.
        peak_lr: f64,
        /// The rate at the end.
        min_lr: f64,
        /// Length of the warm-up, epochs.
        warmup_epochs: f64,
        /// Length of the run with the warm-up, epochs.
        epochs: f64,
    },
    /// Down to `min_lr` as `(1 - epoch / epochs) ^ power`; during the warm-up this rate, too, is
    /// multiplied by a factor that rises in a straight line from `warmup_ratio` to 1
    /// (mmsegmentation's `poly` policy with linear warm-up).
    Poly {
        /// The rate at the start, without warm-up.
        peak_lr: f64,
        /// The rate at the end.
        min_lr: f64,
        /// Exponent: 1 is a straight line.
        power: f64,
        /// Length of the warm-up, epochs.
        warmup_epochs: f64,
        /// Factor at the start of the warm-up.
        warmup_ratio: f64,
        /// Length of the run with the warm-up, epochs.
        epochs: f64,
    },
    /// `peak_lr`, from each of two moments on `gamma` times what it was before (detectron2's
    /// schedules: 10 times lower twice); during the warm-up, too, multiplied by a factor that rises
    /// in a straight line from `warmup_ratio` to 1.
    Steps {
        /// The rate at the start, without warm-up.
        peak_lr: f64,
        /// Factor at each moment.
        gamma: f64,
        /// The moments, epochs, in order. Both the same: one step of `gamma` squared.
        at_epochs: [f64; 2],
        /// Length of the warm-up, epochs.
        warmup_epochs: f64,
        /// Factor at the start of the warm-up.
        warmup_ratio: f64,
    },
}

impl Schedule {
    /// Creates [`Schedule::Constant`].
    ///
    /// ```
    /// assert_eq!(pad_train::Schedule::constant(0.1).at(7.5), 0.1);
    /// ```
    pub const fn constant(lr: f64) -> Self {
        Self::Constant { lr }
    }

    /// Creates half a cosine from `peak_lr` down to `min_lr`: [`Schedule::WarmupCosine`] without
    /// warm-up.
    ///
    /// ```
    /// let schedule = pad_train::Schedule::cosine(1.0, 0.0, 10.0);
    /// assert_eq!((schedule.at(0.0), schedule.at(5.0), schedule.at(10.0)), (1.0, 0.5, 0.0));
    /// ```
    pub const fn cosine(peak_lr: f64, min_lr: f64, epochs: f64) -> Self {
        Self::warmup_cosine(peak_lr, min_lr, 0.0, epochs)
    }

    /// Creates [`Schedule::WarmupCosine`].
    ///
    /// ```
    /// let schedule = pad_train::Schedule::warmup_cosine(1.0, 0.5, 2.0, 10.0);
    /// assert_eq!((schedule.at(1.0), schedule.at(2.0), schedule.at(6.0)), (0.5, 1.0, 0.75));
    /// ```
    pub const fn warmup_cosine(peak_lr: f64, min_lr: f64, warmup_epochs: f64, epochs: f64) -> Self {
        Self::WarmupCosine { peak_lr, min_lr, warmup_epochs, epochs }
    }

    /// Creates [`Schedule::Poly`] as the original trains its segmentation: a straight line to 0,
    /// warm-up from 1e-6 of the rate (there 1500 iterations: `1500 / iterations per epoch` epochs).
    ///
    /// ```
    /// assert_eq!(pad_train::Schedule::poly(1.0, 0.0, 10.0).at(2.5), 0.75);
    /// ```
    pub const fn poly(peak_lr: f64, warmup_epochs: f64, epochs: f64) -> Self {
        let (min_lr, power, warmup_ratio) = (0.0, 1.0, 1e-6);
        Self::Poly { peak_lr, min_lr, power, warmup_epochs, warmup_ratio, epochs }
    }

    /// Returns the rate at `epoch`, e.g. 3.25 after a quarter of the fourth epoch. After the end it
    /// stays as at the end.
    ///
    /// ```
    /// assert_eq!(pad_train::Schedule::cosine(1.0, 0.1, 10.0).at(15.0), 0.1);
    /// ```
    pub fn at(&self, epoch: f64) -> f64 {
        match *self {
            Schedule::Constant { lr } => lr,
            Schedule::WarmupCosine { peak_lr, warmup_epochs, .. } if epoch < warmup_epochs => {
                peak_lr * epoch / warmup_epochs
            }
            Schedule::WarmupCosine { peak_lr, min_lr, warmup_epochs, epochs } => {
                let done = ((epoch - warmup_epochs) / (epochs - warmup_epochs)).min(1.0);
                min_lr + (peak_lr - min_lr) * 0.5 * (1.0 + (PI * done).cos())
            }
            Schedule::Poly { peak_lr, min_lr, power, warmup_epochs, warmup_ratio, epochs } => {
                let left = (1.0 - epoch / epochs).max(0.0);
                let lr = min_lr + (peak_lr - min_lr) * left.powf(power);
                if epoch < warmup_epochs {
                    lr * (1.0 - (1.0 - epoch / warmup_epochs) * (1.0 - warmup_ratio))
                } else {
                    lr
                }
            }
            Schedule::Steps { peak_lr, gamma, at_epochs, warmup_epochs, warmup_ratio } => {
                let steps = at_epochs.iter().filter(|&&moment| epoch >= moment).count();
                let lr = peak_lr * gamma.powi(steps as i32);
                if epoch < warmup_epochs {
                    lr * (1.0 - (1.0 - epoch / warmup_epochs) * (1.0 - warmup_ratio))
                } else {
                    lr
                }
            }
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Settings`] with every fault.
    ///
    /// ```
    /// use pad_train::Schedule;
    /// assert_eq!(
    ///     Schedule::constant(f64::NAN).validate().unwrap_err().to_string(),
    ///     "settings: `lr` is NaN, expected a finite number >= 0"
    /// );
    /// ```
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let mut rate = |name: &str, value: f64| {
            if !(value.is_finite() && value >= 0.0) {
                faults.push(format!("`{name}` is {value}, expected a finite number >= 0"));
            }
        };
        match *self {
            Schedule::Constant { lr } => rate("lr", lr),
            Schedule::WarmupCosine { peak_lr, min_lr, warmup_epochs, epochs } => {
                rate("peak_lr", peak_lr);
                rate("min_lr", min_lr);
                rate("warmup_epochs", warmup_epochs);
                rate("epochs", epochs);
                if warmup_epochs >= epochs {
                    faults.push(format!(
                        "`warmup_epochs` is {warmup_epochs}, expected less than `epochs` ({epochs})"
                    ));
                }
            }
            Schedule::Poly { peak_lr, min_lr, power, warmup_epochs, warmup_ratio, epochs } => {
                rate("peak_lr", peak_lr);
                rate("min_lr", min_lr);
                rate("power", power);
                rate("warmup_epochs", warmup_epochs);
                rate("warmup_ratio", warmup_ratio);
                rate("epochs", epochs);
                if warmup_epochs >= epochs {
                    faults.push(format!(
                        "`warmup_epochs` is {warmup_epochs}, expected less than `epochs` ({epochs})"
                    ));
                }
            }
            Schedule::Steps {
                peak_lr,
                gamma,
                at_epochs: [first, second],
                warmup_epochs,
                warmup_ratio,
            } => {
                rate("peak_lr", peak_lr);
                rate("gamma", gamma);
                rate("at_epochs", first);
                rate("at_epochs", second);
                rate("warmup_epochs", warmup_epochs);
                rate("warmup_ratio", warmup_ratio);
                if first > second {
                    faults.push(format!(
                        "`at_epochs` are {first} and {second}, expected the earlier one first"
                    ));
                }
            }
        }
        Error::settings(faults)
    }
}

impl LrSchedule for Schedule {
    fn at(&self, epoch: f64) -> f64 {
        self.at(epoch)
    }

    fn validate(&self) -> Result<()> {
        self.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::lr_for_batch;

    /// Rates of the reference implementation (`util/lr_sched.py`): warm-up 30, 100 epochs, peak
    /// 1.6e-3.
    const REFERENCE: [(f64, f64); 12] = [
        (0.0, 0.0),
        (0.25, 1.3333333333333333e-05),
        (1.0, 5.333333333333333e-05),
        (10.0, 0.0005333333333333334),
        (29.9, 0.0015946666666666668),
        (30.0, 0.0016),
        (45.5, 0.0014141157922864089),
        (60.0, 0.0009780167471650516),
        (61.0, 0.0009428455158389093),
        (80.0, 0.00030120815851301323),
        (99.0, 8.055467669483285e-07),
        (99.9, 8.056806395817519e-09),
    ];

    #[test]
    fn equals_the_reference() {
        let schedule = Schedule::warmup_cosine(1.6e-3, 0.0, 30.0, 100.0);
        schedule.validate().unwrap();
        for (epoch, lr) in REFERENCE {
            let got = schedule.at(epoch);
            assert!((got - lr).abs() <= 1e-12 * lr.max(1e-3), "epoch {epoch}: {got} for {lr}");
        }
    }

    /// Iterations of a run of 14,400 with 1,500 of warm-up, base rate 2e-4: the formula of mmcv's
    /// hooks, worked out with whole iterations.
    #[test]
    fn poly_equals_mmcv_iteration_by_iteration() {
        let per_epoch = 96.0;
        let schedule = Schedule::poly(2e-4, 1500.0 / per_epoch, 14_400.0 / per_epoch);
        schedule.validate().unwrap();
        for (iteration, lr) in [
            (0.0, 2e-10),
            (1.0, 1.335239268611e-7),
            (750.0, 9.479176145833e-5),
            (1499.0, 1.790611019713e-4),
            (1500.0, 1.791666666667e-4),
            (7200.0, 1e-4),
            (14_399.0, 1.388888888889e-8),
            (14_400.0, 0.0),
            (20_000.0, 0.0),
        ] {
            let got = schedule.at(iteration / per_epoch);
            assert!((got - lr).abs() <= 1e-9 * lr.max(1e-6), "{iteration}: {got} for {lr}");
        }
        let bent = Schedule::Poly {
            peak_lr: 1.0,
            min_lr: 0.1,
            power: 2.0,
            warmup_epochs: 0.0,
            warmup_ratio: 0.0,
            epochs: 10.0,
        };
        assert!((bent.at(0.0) - 1.0).abs() < 1e-12 && (bent.at(5.0) - 0.325).abs() < 1e-12);
        assert_eq!(
            Schedule::poly(-1.0, 5.0, 5.0).validate().unwrap_err().to_string(),
            "settings: `peak_lr` is -1, expected a finite number >= 0; `warmup_epochs` is 5, expected less than \
             `epochs` (5)"
        );
    }

    /// As the original trains detectors on FLIR: 12 epochs of 4431 iterations, 10 times lower from
    /// iterations 35,448 and 48,741 on, warm-up of 250 iterations from a thousandth.
    #[test]
    fn steps_fall_twice_after_the_warm_up() {
        let per_epoch = 4431.0;
        let schedule = Schedule::Steps {
            peak_lr: 1e-4,
            gamma: 0.1,
            at_epochs: [8.0, 11.0],
            warmup_epochs: 250.0 / per_epoch,
            warmup_ratio: 1e-3,
        };
        schedule.validate().unwrap();
        for (iteration, lr) in [
            (0.0, 1e-7),
            (125.0, 5.005e-5),
            (250.0, 1e-4),
            (35_447.0, 1e-4),
            (35_448.0, 1e-5),
            (48_740.0, 1e-5),
            (48_741.0, 1e-6),
            (60_000.0, 1e-6),
        ] {
            let got = schedule.at(iteration / per_epoch);
            assert!((got - lr).abs() <= 1e-9 * lr, "{iteration}: {got} for {lr}");
        }
        let wrong = Schedule::Steps {
            peak_lr: 1e-4,
            gamma: f64::NAN,
            at_epochs: [3.0, 2.0],
            warmup_epochs: 0.0,
            warmup_ratio: 0.0,
        };
        assert_eq!(
            wrong.validate().unwrap_err().to_string(),
            "settings: `gamma` is NaN, expected a finite number >= 0; `at_epochs` are 3 and 2, expected the earlier \
             one first"
        );
        assert_eq!(wrong.at(0.0), 1e-4, "no warm-up");
    }

    #[test]
    fn ends_and_edges() {
        let schedule = Schedule::warmup_cosine(1.0, 0.1, 0.0, 10.0);
        assert_eq!(schedule.at(0.0), 1.0, "no warm-up");
        assert!((schedule.at(10.0) - 0.1).abs() < 1e-12);
        assert_eq!(schedule.at(15.0), schedule.at(10.0), "the cosine must not rise again");
        assert_eq!(Schedule::Constant { lr: 0.5 }.at(3.0), 0.5);
        assert_eq!(lr_for_batch(1e-4, 4096), 1.6e-3);
    }

    #[test]
    fn faults_are_all_named() {
        let schedule = Schedule::warmup_cosine(f64::NAN, -1.0, 40.0, 40.0);
        assert_eq!(
            schedule.validate().unwrap_err().to_string(),
            "settings: `peak_lr` is NaN, expected a finite number >= 0; `min_lr` is -1, expected a finite number \
             >= 0; `warmup_epochs` is 40, expected less than `epochs` (40)"
        );
    }

    #[test]
    fn reads_from_configuration() {
        let text = r#"{"kind":"warmup_cosine","peak_lr":1.6e-3,"min_lr":0,"warmup_epochs":30,"epochs":100}"#;
        let schedule: Schedule = serde_json::from_str(text).unwrap();
        assert_eq!(schedule, Schedule::warmup_cosine(1.6e-3, 0.0, 30.0, 100.0));
        let typo = serde_json::from_str::<Schedule>(r#"{"kind":"constant","lr":1.0,"lf":2.0}"#);
        assert!(typo.unwrap_err().to_string().contains("unknown field `lf`"));
    }
}
