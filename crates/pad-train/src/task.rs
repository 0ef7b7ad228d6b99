//! What a program provides to a training run: a loss and batches.

use candle_core::Tensor;
use pad_ops::Mode;

use crate::BoxError;

/// A loss, and the parts it is made of.
///
/// ```
/// use pad_train::{Losses, candle_core::{Device, Tensor}};
/// let one = Tensor::new(1_f32, &Device::Cpu)?;
/// let losses = Losses::new((&one * 3.0)?).with_part("classification", one);
/// assert_eq!(losses.total.to_scalar::<f32>()?, 3.0);
/// assert_eq!(losses.parts[0].0, "classification");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Losses {
    /// The loss that is minimised: a scalar, any float dtype.
    pub total: Tensor,
    /// Scalars for the log, e.g. `("classification", ..)`.
    pub parts: Vec<(&'static str, Tensor)>,
}

impl Losses {
    /// Creates a loss without parts.
    ///
    /// ```
    /// use pad_train::{Losses, candle_core::{Device, Tensor}};
    /// assert!(Losses::new(Tensor::new(1_f32, &Device::Cpu)?).parts.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(total: Tensor) -> Self {
        Self { total, parts: Vec::new() }
    }

    /// The numbers without the graph behind them.
    pub(crate) fn detached(self) -> Self {
        let parts = self.parts.into_iter().map(|(name, value)| (name, value.detach()));
        Self { total: self.total.detach(), parts: parts.collect() }
    }

    /// Adds a number for the log.
    ///
    /// ```
    /// use pad_train::{Losses, candle_core::{Device, Tensor}};
    /// let half = Tensor::new(0.5_f32, &Device::Cpu)?;
    /// assert_eq!(Losses::new(half.clone()).with_part("boxes", half).parts.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_part(mut self, name: &'static str, value: Tensor) -> Self {
        self.parts.push((name, value));
        self
    }
}

/// A training objective: computes losses from batches.
///
/// ```
/// use pad_train::{BoxError, Losses, Mode, Task, candle_core::{Device, Tensor, Var}};
/// /// Learns how long sentences are: a batch may be of any type.
/// struct Length(Var);
/// impl Task for Length {
///     type Batch = Vec<String>;
///     fn losses(&self, batch: &Vec<String>, _: Mode) -> Result<Losses, BoxError> {
///         let lengths: Vec<f32> = batch.iter().map(|text| text.len() as f32).collect();
///         let lengths = Tensor::new(lengths, &Device::Cpu)?;
///         Ok(Losses::new(lengths.broadcast_sub(&self.0)?.sqr()?.mean_all()?))
///     }
///     fn images_in(&self, batch: &Vec<String>) -> usize { batch.len() }
/// }
/// let task = Length(Var::new(&[0_f32], &Device::Cpu)?);
/// let losses = task.losses(&vec!["ab".into(), "abcd".into()], Mode::Eval).unwrap();
/// assert_eq!(losses.total.to_scalar::<f32>()?, 10.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Task {
    /// A micro-batch of any type. What of it are tensors is on the device of the model.
    type Batch;

    /// Computes the losses of a micro-batch. All randomness (dropout, masks) is drawn from `mode`,
    /// whose key is fixed by the run's seed and the number of the micro-batch in the run, so that a
    /// resumed run draws what it would have drawn.
    ///
    /// # Errors
    /// Any error of the model; the trainer adds the step.
    fn losses(&self, batch: &Self::Batch, mode: Mode) -> Result<Losses, BoxError>;

    /// Returns the number of samples in a micro-batch: images, sentences, whatever it holds. With 0
    /// (no image of it could be read) the trainer does not compute losses: the micro-batch adds no
    /// loss and no gradient.
    fn images_in(&self, batch: &Self::Batch) -> usize;
}

/// The batches of one epoch that are still to come.
///
/// ```
/// use pad_train::BatchIter;
/// let batches: BatchIter<'_, u32> = Box::new((2..5).map(Ok)); // the first two are done
/// assert_eq!(batches.map(Result::unwrap).collect::<Vec<_>>(), [2, 3, 4]);
/// ```
pub type BatchIter<'a, B> = Box<dyn Iterator<Item = Result<B, BoxError>> + 'a>;

/// The part of an epoch's micro-batches that one process of a group takes.
///
/// ```
/// use pad_train::{BatchIter, Batches, BoxError, Share};
/// struct Numbers;
/// impl Batches for Numbers {
///     type Batch = usize;
///     fn per_epoch(&self) -> usize { 7 }
///     fn epoch(&mut self, _: usize, first: usize) -> Result<BatchIter<'_, usize>, BoxError> {
///         Ok(Box::new((first..7).map(Ok)))
///     }
/// }
/// let share = Share { rank: 1, of: 3 };
/// let mine: Vec<usize> = Numbers.epoch_share(0, 2, share).unwrap().map(Result::unwrap).collect();
/// assert_eq!(mine, [3, 6]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Number of the process, from 0.
    pub rank: usize,
    /// Processes of the group.
    pub of: usize,
}

/// A source of batches.
///
/// ```
/// use pad_train::{BatchIter, Batches, BoxError};
/// /// Ten batches an epoch, which depend on the epoch and their number alone.
/// struct Ten;
/// impl Batches for Ten {
///     type Batch = String;
///     fn per_epoch(&self) -> usize { 10 }
///     fn epoch(&mut self, epoch: usize, first: usize) -> Result<BatchIter<'_, String>, BoxError> {
///         Ok(Box::new((first..10).map(move |number| Ok(format!("{epoch}-{number}")))))
///     }
/// }
/// assert_eq!(Ten.epoch(3, 8).unwrap().next().unwrap().unwrap(), "3-8");
/// ```
pub trait Batches {
    /// A micro-batch.
    type Batch;

    /// Returns the number of micro-batches of an epoch, the same for every epoch.
    fn per_epoch(&self) -> usize;

    /// Returns the micro-batches of `epoch` (from 0), from the one with number `first` on. Their
    /// order and content must depend on `epoch` and the run's seed alone.
    ///
    /// # Errors
    /// Any error of the data; the trainer adds the place.
    fn epoch(&mut self, epoch: usize, first: usize)
    -> Result<BatchIter<'_, Self::Batch>, BoxError>;

    /// Returns the micro-batches `first + share.rank`, `first + share.rank + share.of`, … of
    /// [`Batches::epoch`]. The default reads all and returns a share; sources that can skip the
    /// others override it.
    ///
    /// # Errors
    /// As [`Batches::epoch`].
    fn epoch_share(
        &mut self,
        epoch: usize,
        first: usize,
        share: Share,
    ) -> Result<BatchIter<'_, Self::Batch>, BoxError> {
        Ok(Box::new(self.epoch(epoch, first)?.skip(share.rank).step_by(share.of.max(1))))
    }
}
