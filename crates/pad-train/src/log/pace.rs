//! How fast a run is, and how long it takes.

use crate::{StepInfo, TrainerView};

/// Weight of the newest step in the running means.
const NEWEST: f64 = 0.1;

/// Running means of a run's speed, and the time left.
///
/// ```
/// use pad_train::log::{Pace, duration};
/// assert_eq!(Pace::default().seconds_per_step(), None);
/// assert_eq!(duration(125.0), "2m05s");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    means: Option<Means>,
    steps: usize,
}

#[derive(Clone, Copy, Debug)]
struct Means {
    images_per_s: f64,
    seconds_per_step: f64,
}

impl Pace {
    /// Adds a step to the means.
    ///
    /// ```
    /// use pad_train::{
    ///     BoxError, EpochStream, Flow, Hook, Losses, Mode, Parameter, Schedule, Sgd, SgdConfig,
    ///     StepInfo, Task, Trainer, TrainerConfig, TrainerView, candle_core::{Device, Var}, log::Pace,
    /// };
    /// /// What your own bar shows.
    /// struct Left(Pace);
    /// impl Hook for Left {
    ///     fn name(&self) -> &str { "left" }
    ///     fn after_step(
    ///         &mut self, step: &StepInfo, view: &TrainerView<'_>,
    ///     ) -> Result<Flow, BoxError> {
    ///         self.0.add(step);
    ///         assert_eq!(self.0.steps(), step.step);
    ///         assert!(self.0.seconds_per_step() >= Some(0.0) && self.0.images_per_s().is_some());
    ///         let left = self.0.seconds_left(view).unwrap();
    ///         assert!(step.step == 1 || left == 0.0); // of two steps
    ///         Ok(Flow::Continue)
    ///     }
    /// }
    /// # struct Square(Var); // the loss is the square of one number
    /// # impl Task for Square {
    /// #     type Batch = ();
    /// #     fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
    /// #         Ok(Losses::new(self.0.sqr()?.sum_all()?))
    /// #     }
    /// #     fn images_in(&self, (): &()) -> usize { 4 }
    /// # }
    /// # let task = Square(Var::new(&[1_f32], &Device::Cpu)?);
    /// # let config = SgdConfig { momentum: 0.0, ..Default::default() };
    /// # let sgd = Sgd::new(vec![Parameter::new("x", task.0.clone())], config)?;
    /// # let mut batches = EpochStream::new(2, |_, first, stride| {
    /// #     Ok::<_, BoxError>((first..2).step_by(stride).map(|_| Ok::<_, BoxError>(())))
    /// # });
    /// # let config = TrainerConfig { epochs: 1, ..Default::default() };
    /// Trainer::new(config, Schedule::constant(0.25), sgd)?
    ///     .with_hook(Left(Pace::default()))
    ///     .run(&task, &mut batches)?;
    /// # Ok::<(), BoxError>(())
    /// ```
    pub fn add(&mut self, step: &StepInfo) {
        let new = Means { images_per_s: step.images_per_s(), seconds_per_step: step.seconds };
        let mix = |old: f64, new: f64| old + (new - old) * NEWEST;
        self.means = Some(self.means.map_or(new, |old| Means {
            images_per_s: mix(old.images_per_s, new.images_per_s),
            seconds_per_step: mix(old.seconds_per_step, new.seconds_per_step),
        }));
        self.steps += 1;
    }

    /// Returns the number of steps added.
    ///
    /// ```
    /// assert_eq!(pad_train::log::Pace::default().steps(), 0);
    /// ```
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Returns the mean number of images per second; `None` before the first step.
    pub fn images_per_s(&self) -> Option<f64> {
        self.means.map(|means| means.images_per_s)
    }

    /// Returns the mean seconds of a step, waiting for data included; `None` before the first step.
    pub fn seconds_per_step(&self) -> Option<f64> {
        self.means.map(|means| means.seconds_per_step)
    }

    /// Estimates the seconds until the last step of the run at this pace, evaluations not included;
    /// `None` before the first step.
    pub fn seconds_left(&self, view: &TrainerView<'_>) -> Option<f64> {
        let steps = view.last_step.saturating_sub(view.state.step);
        self.seconds_per_step().map(|seconds| steps as f64 * seconds)
    }
}

/// Formats a time in two units: `7s`, `2m05s`, `31h07m`, and from two days on `4d03h`.
///
/// ```
/// use pad_train::log::duration;
/// assert_eq!((duration(7.0), duration(112_020.0)), ("7s".to_string(), "31h07m".to_string()));
/// ```
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64; // saturates
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) if h < 48 => format!("{h}h{m:02}m"),
        (h, _, _) => format!("{}d{:02}h", h / 24, h % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let shown = [0.4, 7.0, 125.0, 3599.0, 112_020.0, 356_400.0, f64::NAN].map(duration);
        assert_eq!(shown, ["0s", "7s", "2m05s", "59m59s", "31h07m", "4d03h", "0s"]);
    }
}
