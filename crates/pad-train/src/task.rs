//! What a program provides to a training run: a loss and batches.

use candle_core::Tensor;
use pad_ops::Mode;

use crate::BoxError;

/// A loss, and the parts it is made of.
#[derive(Clone, Debug)]
pub struct Losses {
    /// The loss that is minimised: a scalar, any float dtype.
    pub total: Tensor,
    /// Scalars for the log, e.g. `("classification", ..)`.
    pub parts: Vec<(&'static str, Tensor)>,
}

impl Losses {
    /// Creates a loss without parts.
    pub fn new(total: Tensor) -> Self {
        Self { total, parts: Vec::new() }
    }

    /// The numbers without the graph behind them.
    pub(crate) fn detached(self) -> Self {
        let parts = self.parts.into_iter().map(|(name, value)| (name, value.detach()));
        Self { total: self.total.detach(), parts: parts.collect() }
    }

    /// Adds a number for the log.
    #[must_use]
    pub fn with_part(mut self, name: &'static str, value: Tensor) -> Self {
        self.parts.push((name, value));
        self
    }
}

/// A training objective: computes losses from batches.
pub trait Task {
    /// A micro-batch, on the device of the model.
    type Batch;

    /// Computes the losses of a micro-batch. All randomness (dropout, masks) is drawn from `mode`,
    /// whose key is fixed by the run's seed and the number of the micro-batch in the run, so that a
    /// resumed run draws what it would have drawn.
    ///
    /// # Errors
    /// Any error of the model; the trainer adds the step.
    fn losses(&self, batch: &Self::Batch, mode: Mode) -> Result<Losses, BoxError>;

    /// Returns the number of images in a micro-batch. With 0 (no image of it could be read) the
    /// trainer does not compute losses: the micro-batch adds no loss and no gradient.
    fn images_in(&self, batch: &Self::Batch) -> usize;
}

/// The batches of one epoch that are still to come.
pub type BatchIter<'a, B> = Box<dyn Iterator<Item = Result<B, BoxError>> + 'a>;

/// The part of an epoch's micro-batches that one process of a group takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Number of the process, from 0.
    pub rank: usize,
    /// Processes of the group.
    pub of: usize,
}

/// A source of batches.
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
