//! The state of a run, and its settings.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Settings of a run.
///
/// ```
/// use pad_train::TrainerConfig;
/// let config = TrainerConfig { epochs: 12, accumulate: 4, ..Default::default() };
/// assert_eq!((config.max_steps, config.clip_norm), (None, None));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainerConfig {
    /// Passes over the data. 100.
    pub epochs: usize,
    /// Maximum number of optimisation steps, even if epochs are left. None.
    pub max_steps: Option<usize>,
    /// Micro-batches whose gradients are averaged for one step, over all processes of a group. 1.
    /// What is left at the end of an epoch (fewer micro-batches than this) is not used, as in MAE.
    pub accumulate: usize,
    /// Maximum norm of the gradient; longer ones are scaled down to it. None.
    pub clip_norm: Option<f64>,
    /// Seed of everything random in the run. 0.
    pub seed: u64,
}

impl Default for TrainerConfig {
    fn default() -> Self {
        Self { epochs: 100, max_steps: None, accumulate: 1, clip_norm: None, seed: 0 }
    }
}

impl TrainerConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Settings`] with every fault.
    ///
    /// ```
    /// use pad_train::TrainerConfig;
    /// let config = TrainerConfig { clip_norm: Some(-1.0), ..Default::default() };
    /// assert_eq!(
    ///     config.validate().unwrap_err().to_string(),
    ///     "settings: `clip_norm` is -1, expected a finite number > 0"
    /// );
    /// ```
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if self.accumulate == 0 {
            faults.push("`accumulate` is 0, expected at least 1".into());
        }
        if let Some(norm) = self.clip_norm.filter(|norm| !(*norm > 0.0 && norm.is_finite())) {
            faults.push(format!("`clip_norm` is {norm}, expected a finite number > 0"));
        }
        Error::settings(faults)
    }
}

/// The state of a run between two optimisation steps. Saved in every checkpoint.
///
/// ```
/// use pad_train::TrainerState;
/// let text = r#"{"seed": 0, "step": 7, "epoch": 1, "batch_in_epoch": 8, "batches_per_epoch": 20,
///     "accumulate": 4}"#;
/// let state: TrainerState = serde_json::from_str(text)?;
/// assert_eq!((state.steps_per_epoch(), state.progress()), (5, 1.4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TrainerState {
    /// Seed of the run.
    pub seed: u64,
    /// Optimisation steps done.
    pub step: usize,
    /// Epoch of the next step, from 0.
    pub epoch: usize,
    /// Micro-batches of that epoch that are used up.
    pub batch_in_epoch: usize,
    /// Micro-batches of an epoch; 0 before the run has seen its data.
    pub batches_per_epoch: usize,
    /// Micro-batches of a step.
    pub accumulate: usize,
}

impl TrainerState {
    pub(crate) fn new(config: &TrainerConfig) -> Self {
        Self {
            seed: config.seed,
            step: 0,
            epoch: 0,
            batch_in_epoch: 0,
            batches_per_epoch: 0,
            accumulate: config.accumulate,
        }
    }

    /// Returns the number of optimisation steps of an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.batches_per_epoch.checked_div(self.accumulate).unwrap_or(0)
    }

    /// Returns the moment of the next step in epochs, e.g. 3.25, at which schedules are evaluated.
    pub fn progress(&self) -> f64 {
        self.epoch as f64 + self.batch_in_epoch as f64 / self.batches_per_epoch.max(1) as f64
    }

    /// Advances by a step. Returns whether an epoch ended with it.
    pub(crate) fn advance(&mut self) -> bool {
        self.step += 1;
        self.batch_in_epoch += self.accumulate;
        let ended = self.batch_in_epoch + self.accumulate > self.batches_per_epoch;
        if ended {
            self.epoch += 1;
            self.batch_in_epoch = 0;
        }
        ended
    }

    /// Returns why a run with `now`'s settings cannot continue from here; empty if it can.
    pub(crate) fn differences(&self, now: &TrainerState) -> Vec<String> {
        let compared = [
            ("`seed`", self.seed, now.seed),
            ("`accumulate`", self.accumulate as u64, now.accumulate as u64),
            ("batches per epoch", self.batches_per_epoch as u64, now.batches_per_epoch as u64),
        ];
        let different = compared.into_iter().filter(|(_, saved, now)| saved != now);
        different
            .map(|(name, saved, now)| format!("{name}: expected {saved}, found {now}"))
            .collect()
    }
}

/// What a change of the number of processes, before and now, changes in a run that is resumed.
pub(crate) fn regrouped([before, now]: [usize; 2], accumulate: usize, buffers: bool) -> String {
    let statistics = match buffers {
        true => {
            "; the first process keeps the running statistics of the micro-batches that it sees"
        }
        false => "",
    };
    format!(
        "number of processes: {before} in the checkpoint, {now} now: each takes {} of the {accumulate} micro-batches \
         of a step, and gradients are added in another order, so results may differ by rounding{statistics}",
        accumulate / now.max(1)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advances_over_epochs_and_leaves_the_rest_of_an_epoch() {
        let config = TrainerConfig { accumulate: 2, ..Default::default() };
        let mut state = TrainerState { batches_per_epoch: 5, ..TrainerState::new(&config) };
        assert_eq!(state.steps_per_epoch(), 2);
        let mut seen = Vec::new();
        for _ in 0..4 {
            let progress = state.progress();
            let ended = state.advance();
            seen.push((progress, ended, state.epoch, state.batch_in_epoch));
        }
        let expected =
            [(0.0, false, 0, 2), (0.4, true, 1, 0), (1.0, false, 1, 2), (1.4, true, 2, 0)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn faults_are_all_named() {
        let config =
            TrainerConfig { accumulate: 0, clip_norm: Some(f64::NAN), ..Default::default() };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "settings: `accumulate` is 0, expected at least 1; `clip_norm` is NaN, expected a finite number > 0"
        );
        let typo = serde_json::from_str::<TrainerConfig>(r#"{"epoch":3}"#).unwrap_err();
        assert!(typo.to_string().contains("unknown field `epoch`"), "{typo}");
    }

    #[test]
    fn a_change_of_the_number_of_processes_is_described() {
        let expected = "number of processes: 4 in the checkpoint, 2 now: each takes 4 of the 8 micro-batches of a step, \
                        and gradients are added in another order, so results may differ by rounding";
        assert_eq!(regrouped([4, 2], 8, false), expected);
        assert!(regrouped([1, 2], 8, true).ends_with(
            "; the first process keeps the running statistics of the \
            micro-batches that it sees"
        ));
    }
}
