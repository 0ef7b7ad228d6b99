//! The learning rate at every moment of a run. Time is counted in epochs, with fractions: a
//! schedule is evaluated at every optimisation step, not once an epoch.
//!
//! | schedule | what |
//! |---|---|
//! | [`Schedule`] | constant, half a cosine, a power of what is left, two steps; with a warm-up of their own; plain numbers for settings |
//! | [`MultiStep`] | falls by a factor at any moments |
//! | [`OneCycle`] | up and far down (Smith and Topin's one cycle) |
//! | [`WarmUp`] | any other, with a rise in front |
//! | [`Sequential`] | one after another |
//! | [`LrFn`] | a function |

mod basic;
mod multi_step;
mod one_cycle;
mod sequential;
mod warm_up;

pub use basic::Schedule;
pub use multi_step::MultiStep;
pub use one_cycle::{Anneal, OneCycle};
pub use sequential::Sequential;
pub use warm_up::WarmUp;

use std::fmt;

use crate::{Error, Result};

/// Returns the rate for a batch of `effective_batch` images (batch × accumulation × machines), by
/// the linear rule of MAE: `lr_per_256 · effective_batch / 256`.
///
/// ```
/// assert_eq!(pad_train::lr_for_batch(1e-4, 512), 2e-4);
/// ```
pub fn lr_for_batch(lr_per_256: f64, effective_batch: usize) -> f64 {
    lr_per_256 * effective_batch as f64 / 256.0
}

/// The learning rate of a run as a function of time.
///
/// ```
/// use pad_train::LrSchedule;
///
/// /// Falls by half every epoch.
/// struct Halving(f64);
/// impl LrSchedule for Halving {
///     fn at(&self, epoch: f64) -> f64 { self.0 * 0.5_f64.powf(epoch) }
/// }
/// assert_eq!(Halving(0.8).at(2.0), 0.2);
/// ```
pub trait LrSchedule {
    /// Returns the rate at `epoch` (from 0), e.g. 3.25 after a quarter of the fourth epoch: a finite
    /// number >= 0. It depends on `epoch` alone, so that a resumed run gets the same rates.
    fn at(&self, epoch: f64) -> f64;

    /// Checks the numbers of the schedule. [`Trainer::new`](crate::Trainer::new) calls it. The
    /// default finds no fault.
    ///
    /// # Errors
    /// [`Error::Settings`] with every fault.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

impl<S: LrSchedule + ?Sized> LrSchedule for Box<S> {
    fn at(&self, epoch: f64) -> f64 {
        (**self).at(epoch)
    }

    fn validate(&self) -> Result<()> {
        (**self).validate()
    }
}

impl<S: LrSchedule + ?Sized> LrSchedule for &S {
    fn at(&self, epoch: f64) -> f64 {
        (**self).at(epoch)
    }

    fn validate(&self) -> Result<()> {
        (**self).validate()
    }
}

/// A function of the epoch as a schedule. What it returns is checked at every step.
///
/// ```
/// use pad_train::{LrFn, LrSchedule};
/// assert_eq!(LrFn(|epoch| 0.1 / (1.0 + epoch)).at(4.0), 0.02);
/// ```
pub struct LrFn<F>(pub F);

impl<F: Fn(f64) -> f64> LrSchedule for LrFn<F> {
    fn at(&self, epoch: f64) -> f64 {
        (self.0)(epoch)
    }
}

impl<F> fmt::Debug for LrFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LrFn")
    }
}

/// Adds a fault unless `value` is finite and not negative.
fn not_negative(faults: &mut Vec<String>, name: &str, value: f64) {
    if !(value.is_finite() && value >= 0.0) {
        faults.push(format!("`{name}` is {value}, expected a finite number >= 0"));
    }
}

/// Adds a fault unless `value` is finite and greater than 0.
fn positive(faults: &mut Vec<String>, name: &str, value: f64) {
    if !(value.is_finite() && value > 0.0) {
        faults.push(format!("`{name}` is {value}, expected a finite number > 0"));
    }
}

/// Adds the faults of another schedule.
fn faults_of(faults: &mut Vec<String>, schedule: &(impl LrSchedule + ?Sized)) -> Result<()> {
    match schedule.validate() {
        Err(Error::Settings { faults: theirs }) => faults.extend(theirs),
        other => other?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(schedule: &dyn LrSchedule) -> String {
        schedule.validate().unwrap_err().to_string()
    }

    /// Steps of torch.optim.lr_scheduler.MultiStepLR(milestones=[2, 5, 5, 9], gamma=0.5), lr 0.8.
    #[test]
    fn any_number_of_steps() {
        let schedule = MultiStep { peak_lr: 0.8, gamma: 0.5, at_epochs: vec![2.0, 5.0, 5.0, 9.0] };
        schedule.validate().unwrap();
        let rates: Vec<f64> = (0..11).map(|epoch| schedule.at(epoch as f64)).collect();
        assert_eq!(rates, [0.8, 0.8, 0.4, 0.4, 0.4, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]);
        assert_eq!(MultiStep { at_epochs: vec![], ..schedule }.at(7.0), 0.8);
        let wrong =
            MultiStep { peak_lr: -1.0, gamma: f64::INFINITY, at_epochs: vec![3.0, f64::NAN, 2.0] };
        assert_eq!(
            text(&wrong),
            "settings: `peak_lr` is -1, expected a finite number >= 0; `gamma` is inf, expected a finite number >= \
             0; `at_epochs` is NaN, expected a finite number >= 0"
        );
        let order = MultiStep { peak_lr: 1.0, gamma: 0.1, at_epochs: vec![3.0, 2.0] };
        assert_eq!(
            text(&order),
            "settings: `at_epochs` are [3.0, 2.0], expected ascending moments"
        );
    }

    /// The formula of torch.optim.lr_scheduler.OneCycleLR (three_phase=False), with time that runs
    /// on between steps: max_lr 1, div_factor 25, final_div_factor 1e4, pct_start 0.3.
    #[test]
    fn one_cycle() {
        let schedule = OneCycle::new(1.0, 10.0);
        schedule.validate().unwrap();
        let cosine = |from: f64, to: f64, share: f64| {
            to + (from - to) / 2.0 * (1.0 + (std::f64::consts::PI * share).cos())
        };
        for (epoch, lr) in [
            (0.0, 0.04),
            (1.5, cosine(0.04, 1.0, 0.5)),
            (3.0, 1.0),
            (6.5, cosine(1.0, 4e-6, 0.5)),
            (9.0, cosine(1.0, 4e-6, 6.0 / 7.0)),
            (10.0, 4e-6),
            (12.0, 4e-6),
        ] {
            let got = schedule.at(epoch);
            assert!((got - lr).abs() < 1e-12, "{epoch}: {got} for {lr}");
        }
        let linear = OneCycle { anneal: Anneal::Linear, ..schedule };
        assert!((linear.at(1.5) - 0.52).abs() < 1e-12);
        assert_eq!(OneCycle { rise: 0.0, ..schedule }.at(0.0), 1.0);
        assert!((OneCycle { rise: 1.0, ..schedule }.at(10.0) - 1.0).abs() < 1e-12);
        let wrong = OneCycle {
            peak_lr: f64::NAN,
            initial_divisor: 0.0,
            final_divisor: -1.0,
            rise: 2.0,
            epochs: 0.0,
            ..schedule
        };
        assert_eq!(
            text(&wrong),
            "settings: `peak_lr` is NaN, expected a finite number >= 0; `initial_divisor` is 0, expected a finite \
             number > 0; `final_divisor` is -1, expected a finite number > 0; `epochs` is 0, expected a finite \
             number > 0; `rise` is 2, expected 0 to 1"
        );
    }

    #[test]
    fn a_rise_in_front_of_any_other() {
        let schedule =
            WarmUp::new(2.0, MultiStep { peak_lr: 1.0, gamma: 0.1, at_epochs: vec![1.0] });
        assert_eq!([0.0, 0.5, 2.0, 3.0].map(|epoch| schedule.at(epoch)), [0.0, 0.25, 0.1, 0.1]);
        let from = schedule.with_ratio(0.5);
        assert_eq!((from.at(0.0), from.at(0.5)), (0.5, 0.625));
        // As the enum's own warm-up.
        let own = Schedule::Steps {
            peak_lr: 1.0,
            gamma: 0.1,
            at_epochs: [3.0, 4.0],
            warmup_epochs: 2.0,
            warmup_ratio: 0.25,
        };
        let composed =
            WarmUp::new(2.0, MultiStep { peak_lr: 1.0, gamma: 0.1, at_epochs: vec![3.0, 4.0] })
                .with_ratio(0.25);
        for epoch in [0.0, 0.3, 1.9, 2.0, 3.0, 5.0] {
            assert!((own.at(epoch) - composed.at(epoch)).abs() < 1e-15, "{epoch}");
        }
        let wrong = WarmUp::new(f64::NAN, Schedule::constant(-1.0)).with_ratio(-0.5);
        assert_eq!(
            text(&wrong),
            "settings: `warmup_epochs` is NaN, expected a finite number >= 0; `warmup_ratio` is -0.5, expected a \
             finite number >= 0; `lr` is -1, expected a finite number >= 0"
        );
    }

    #[test]
    fn one_after_another() {
        let schedule = Sequential::new(Schedule::constant(0.1))
            .then(2.0, Schedule::cosine(1.0, 0.0, 4.0))
            .then(6.0, LrFn(|epoch| 0.01 / (1.0 + epoch)));
        schedule.validate().unwrap();
        let rates = [0.0, 1.9, 2.0, 4.0, 6.0, 7.0].map(|epoch| schedule.at(epoch));
        assert_eq!(rates, [0.1, 0.1, 1.0, 0.5, 0.01, 0.005]);
        let wrong = Sequential::new(Schedule::constant(f64::INFINITY))
            .then(3.0, Schedule::constant(0.1))
            .then(2.0, OneCycle { rise: -1.0, ..OneCycle::new(1.0, 1.0) });
        assert_eq!(
            text(&wrong),
            "settings: `lr` is inf, expected a finite number >= 0; a schedule starts at epoch 2, expected a finite \
             number above 3, where the one before starts; `rise` is -1, expected 0 to 1"
        );
    }
}
