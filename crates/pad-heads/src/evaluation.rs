//! A hook of training that evaluates a model between epochs and marks the best checkpoint.

use pad_train::{BoxError, EpochInfo, Flow, Hook, TrainerView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;

/// Something that measures a model.
///
/// ```
/// use pad_heads::{EvaluationReport, Evaluator};
/// struct Accuracy(f64);
/// impl EvaluationReport for Accuracy {
///     fn metrics(&self) -> Vec<(String, f64)> { vec![("accuracy".into(), self.0)] }
///     fn score(&self) -> Option<f64> { Some(self.0) }
///     fn summary(&self) -> String { format!("accuracy {:.2}", self.0) }
/// }
/// /// A model that always says yes, on labels.
/// struct Yes(Vec<bool>);
/// impl Evaluator for Yes {
///     type Report = Accuracy;
///     fn evaluate(&self, stopped: &dyn Fn() -> bool) -> pad_heads::Result<Option<Accuracy>> {
///         if stopped() {
///             return Ok(None);
///         }
///         let right = self.0.iter().filter(|label| **label).count();
///         Ok(Some(Accuracy(right as f64 / self.0.len() as f64)))
///     }
/// }
/// let report = Yes(vec![true, true, false, true]).evaluate(&|| false)?.unwrap();
/// assert_eq!((report.score(), report.summary().as_str()), (Some(0.75), "accuracy 0.75"));
/// # Ok::<(), pad_heads::Error>(())
/// ```
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
///
/// ```
/// use pad_data::sets::segmentation::Classes;
/// use pad_heads::{EvaluationReport, segmentation::SegmentationReport};
/// use pad_metrics::confusion::Confusion;
/// let mut confusion = Confusion::new(2, None)?;
/// confusion.add(&[0, 1, 1, 1], &[0, 0, 1, 1])?; // predictions, labels
/// let classes = Classes::new(["ground", "person"])?;
/// let report = SegmentationReport::new(classes, confusion, 1, None);
/// // IoU 1/2 and 2/3.
/// assert!((report.score().unwrap() - 7.0 / 12.0).abs() < 1e-12);
/// assert!(report.metrics().iter().any(|(name, value)| name == "aAcc" && *value == 0.75));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use pad_heads::{Best, Evaluation, EvaluationReport, Evaluator};
/// use pad_train::{
///     BoxError, EpochStream, Losses, Mode, Parameter, Schedule, Sgd, SgdConfig, Task, Trainer,
///     TrainerConfig, candle_core::{Device, Var},
/// };
/// # struct Square(Var);
/// # impl Task for Square {
/// #     type Batch = ();
/// #     fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
/// #         Ok(Losses::new(self.0.sqr()?.sum_all()?))
/// #     }
/// #     fn images_in(&self, (): &()) -> usize { 1 }
/// # }
/// # struct Score(f64);
/// # impl EvaluationReport for Score {
/// #     fn metrics(&self) -> Vec<(String, f64)> { vec![("score".into(), self.0)] }
/// #     fn score(&self) -> Option<f64> { Some(self.0) }
/// #     fn summary(&self) -> String { self.0.to_string() }
/// # }
/// /// Measures how near to 0 the number is that the run makes small.
/// struct Nearness(Var);
/// impl Evaluator for Nearness {
///     type Report = Score;
///     fn evaluate(&self, _: &dyn Fn() -> bool) -> pad_heads::Result<Option<Score>> {
///         Ok(Some(Score(1.0 - f64::from(self.0.to_vec1::<f32>()?[0].abs()))))
///     }
/// }
/// # let x = Var::new(&[1_f32], &Device::Cpu)?;
/// # let config = SgdConfig { momentum: 0.0, ..Default::default() };
/// # let sgd = Sgd::new(vec![Parameter::new("x", x.clone())], config)?;
/// # let task = Square(x.clone());
/// # let mut batches = EpochStream::new(1, |_, first, stride| {
/// #     Ok::<_, BoxError>((first..1).step_by(stride).map(|_| Ok::<_, BoxError>(())))
/// # });
/// # let config = TrainerConfig { epochs: 2, ..Default::default() };
/// let mut evaluation = Evaluation::new(Nearness(x)).with_every_epochs(Some(1)).with_start(false);
/// let mut trainer =
///     Trainer::new(config, Schedule::constant(0.25), sgd)?.with_hook(&mut evaluation);
/// trainer.run(&task, &mut batches)?; // x is 1/2 after an epoch of one step, then 1/4
/// drop(trainer);
/// assert_eq!(evaluation.best(), Some(Best { score: 0.75, step: 2 }));
/// assert_eq!(evaluation.newest().and_then(EvaluationReport::score), Some(0.75));
/// # Ok::<(), BoxError>(())
/// ```
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
            info.is_interrupted = true;
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

    fn lose_best(&mut self, step: usize) -> Result<(), BoxError> {
        self.best = self.best.filter(|best| best.step != step);
        Ok(())
    }
}
