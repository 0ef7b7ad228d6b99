//! A hook of training that evaluates a model between epochs and marks the best checkpoint.

use pad_train::{BoxError, EpochInfo, Flow, Hook, TrainerView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;

/// Something that measures a model.
pub trait Evaluator {
    /// The result.
    type Report: EvaluationReport;

    /// Measures the model as it is now. Calls `stopped` between images and returns `None` once it
    /// is true.
    ///
    /// # Errors
    /// An image that cannot be read; a model that fails.
    fn evaluate(&self, stopped: &dyn Fn() -> bool) -> Result<Option<Self::Report>>;
}

/// The result of an evaluation.
pub trait EvaluationReport {
    /// The defined metrics by name, e.g. `AP`.
    fn metrics(&self) -> Vec<(String, f64)>;

    /// The metric by which checkpoints are compared, higher is better; `None` if it is undefined.
    fn score(&self) -> Option<f64>;

    /// One line for the log.
    fn summary(&self) -> String;
}

/// The best evaluation of a run.
///
/// ```
/// use pad_heads::Best;
/// let best = Best { score: 0.5, step: 100 };
/// assert_eq!(serde_json::to_string(&best)?, "[0.5,100]");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f64, usize)", into = "(f64, usize)")]
pub struct Best {
    /// The score.
    pub score: f64,
    /// The number of updates before it.
    pub step: usize,
}

impl From<(f64, usize)> for Best {
    fn from((score, step): (f64, usize)) -> Self {
        Self { score, step }
    }
}

impl From<Best> for (f64, usize) {
    fn from(best: Best) -> Self {
        (best.score, best.step)
    }
}

/// Evaluates before the first update, every few epochs and after the last update, and marks the
/// checkpoint of the highest score as the best. The metrics reach the logs as `val/<name>`. What is
/// measured before the first update is logged and is never the best, since there is no checkpoint
/// of it.
pub struct Evaluation<E: Evaluator> {
    evaluator: E,
    every_epochs: Option<usize>,
    at_start: bool,
    best: Option<Best>,
    newest: Option<E::Report>,
}

impl<E: Evaluator> Evaluation<E> {
    /// Evaluates before the first update and after every epoch.
    pub fn new(evaluator: E) -> Self {
        Self { evaluator, every_epochs: Some(1), at_start: true, best: None, newest: None }
    }

    /// Sets the number of epochs from one evaluation to the next; `None` evaluates after the last
    /// update only.
    #[must_use]
    pub fn with_every_epochs(self, every_epochs: Option<usize>) -> Self {
        Self { every_epochs, ..self }
    }

    /// Sets whether the model is evaluated before the first update too. Default: true.
    #[must_use]
    pub fn with_start(self, at_start: bool) -> Self {
        Self { at_start, ..self }
    }

    /// The best evaluation so far.
    pub fn best(&self) -> Option<Best> {
        self.best
    }

    /// The newest report of this process.
    pub fn newest(&self) -> Option<&E::Report> {
        self.newest.as_ref()
    }

    /// Measures and fills `info`. Returns the score, if it is defined and the run was not stopped
    /// meanwhile.
    fn measure(&mut self, info: &mut EpochInfo, view: &TrainerView<'_>) -> Result<Option<f64>> {
        let Some(report) = self.evaluator.evaluate(&|| view.stop_requested())? else {
            return Ok(None);
        };
        tracing::info!("step {}: {}", info.step, report.summary());
        let metrics = report.metrics().into_iter();
        info.metrics.extend(metrics.map(|(name, value)| (format!("val/{name}"), value)));
        let score = report.score().filter(|score| !score.is_nan());
        self.newest = Some(report);
        Ok(score)
    }
}

impl<E: Evaluator> Hook for Evaluation<E> {
    fn name(&self) -> &str {
        "evaluation"
    }

    fn before_training(
        &mut self,
        info: &mut EpochInfo,
        view: &TrainerView<'_>,
    ) -> Result<(), BoxError> {
        if self.at_start {
            self.measure(info, view)?;
        }
        Ok(())
    }

    fn after_epoch(
        &mut self,
        epoch: &mut EpochInfo,
        view: &TrainerView<'_>,
    ) -> Result<Flow, BoxError> {
        let due =
            self.every_epochs.is_some_and(|every| (epoch.epoch + 1).is_multiple_of(every.max(1)));
        if !due && epoch.step != view.last_step {
            return Ok(Flow::Continue);
        }
        let Some(score) = self.measure(epoch, view)? else { return Ok(Flow::Continue) };
        if self.best.is_some_and(|best| best.score >= score) {
            return Ok(Flow::Continue);
        }
        self.best = Some(Best { score, step: epoch.step });
        Ok(Flow::Best)
    }

    fn state(&self) -> Value {
        serde_json::json!({ "best": self.best })
    }

    fn restore(&mut self, state: &Value) -> Result<(), BoxError> {
        // Checkpoints of segmentation before 0.1 hold the pair alone.
        let best = state.get("best").unwrap_or(state);
        self.best = serde_json::from_value(best.clone())?;
        Ok(())
    }
}
