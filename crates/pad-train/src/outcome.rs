//! What came of a run.

/// How a run ended without error.
///
/// ```
/// use pad_train::RunEnd;
/// assert_ne!(RunEnd::Finished, RunEnd::Stopped);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunEnd {
    /// All steps are done.
    Finished,
    /// A stop was requested; [`Trainer::last_checkpoint`](crate::Trainer::last_checkpoint) holds every finished update.
    Stopped,
}

/// What came of a run without error.
///
/// ```
/// use pad_train::{
///     BoxError, EpochStream, Losses, Mode, Parameter, Schedule, Sgd, SgdConfig, Task, Trainer, TrainerConfig,
///     candle_core::{Device, Var},
/// };
/// struct Square(Var);
/// impl Task for Square {
///     type Batch = ();
///     fn losses(&self, (): &(), _: Mode) -> Result<Losses, BoxError> {
///         Ok(Losses::new(self.0.sqr()?.sum_all()?))
///     }
///     fn images_in(&self, (): &()) -> usize { 1 }
/// }
/// # fn main() -> Result<(), BoxError> {
/// let task = Square(Var::new(&[1_f32], &Device::Cpu)?);
/// let optimizer = Sgd::new(vec![Parameter::new("x", task.0.clone())], SgdConfig::default())?;
/// let config = TrainerConfig { epochs: 3, ..Default::default() };
/// let mut batches = EpochStream::new(10, |_, first, stride| {
///     Ok::<_, BoxError>((first..10).step_by(stride).map(|_| Ok::<_, BoxError>(())))
/// });
/// let outcome = Trainer::new(config, Schedule::constant(0.01), optimizer)?.run(&task, &mut batches)?;
/// assert!(outcome.is_finished() && !outcome.is_stopped());
/// assert_eq!(outcome.unused_parameters.len(), 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// How it ended.
    pub end: RunEnd,
    /// Names of the parameters that trained in this session and that no loss of it reached, in the
    /// parameters' order: they are what they were at its start. See
    /// [`Trainer::with_unused_parameters`](crate::Trainer::with_unused_parameters).
    pub unused_parameters: Vec<String>,
}

impl Outcome {
    /// Returns whether all steps are done.
    pub fn is_finished(&self) -> bool {
        self.end == RunEnd::Finished
    }

    /// Returns whether a stop was requested before all steps were done.
    pub fn is_stopped(&self) -> bool {
        self.end == RunEnd::Stopped
    }
}
