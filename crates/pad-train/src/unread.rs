//! A step whose numbers the host has not read: losses of its micro-batches, norm of its gradients.

use candle_core::{DType, Tensor};
use pad_ops::device::{Fetch, fetch};

use crate::{Error, Losses, Result, StepBegun, TrainerState, tally::Tally};

/// The losses of a micro-batch.
pub(crate) struct Micro {
    /// Its number in the epoch.
    pub(crate) number: usize,
    pub(crate) losses: Losses,
    pub(crate) images: usize,
}

/// What is known of the losses of a step when its gradients are there.
pub(crate) enum Read {
    Now(Tally),
    Later(Vec<Micro>),
}

/// How far a step came without waiting for its numbers.
pub(crate) enum Begun {
    Unread(Box<Unread>),
    /// The optimiser has not begun.
    Read(Tally),
}

/// A loss that is not finite, and the micro-batch that it belongs to.
pub(crate) struct NotFinite {
    pub(crate) loss: f64,
    pub(crate) number: usize,
}

impl NotFinite {
    /// The fault as an error tells it.
    pub(crate) fn what(&self) -> String {
        format!("the loss is {} in batch {}", self.loss, self.number)
    }
}

/// Whether a loss can be judged by the device that the gradients are on.
pub(crate) fn can_wait(losses: &Losses) -> bool {
    matches!(losses.total.dtype(), DType::F32 | DType::BF16 | DType::F16)
}

/// The totals of all micro-batches.
pub(crate) fn totals(micros: &[Micro]) -> Vec<&Tensor> {
    micros.iter().map(|micro| &micro.losses.total).collect()
}

/// Checks that losses and their parts are scalars.
pub(crate) fn check_scalars(micros: &[Micro]) -> Result<()> {
    for Micro { losses, .. } in micros {
        let parts = losses.parts.iter().map(|(name, tensor)| (*name, tensor));
        for (name, tensor) in std::iter::once(("total", &losses.total)).chain(parts) {
            if tensor.rank() != 0 {
                let found = tensor.dims().to_vec();
                return Err(Error::NotScalar { name: name.into(), found });
            }
        }
    }
    Ok(())
}

/// Losses on their way to the host.
pub(crate) struct ComingLosses {
    micros: Vec<Micro>,
    coming: Fetch,
}

impl ComingLosses {
    /// Begins to copy the numbers, which are scalars.
    pub(crate) fn fetch(micros: Vec<Micro>) -> Result<Self> {
        let mut tensors = Vec::new();
        for Micro { losses, .. } in &micros {
            tensors.push(&losses.total);
            tensors.extend(losses.parts.iter().map(|(_, part)| part));
        }
        let wrap = |error: pad_ops::Error| Error::candle("reading loss", "total")(error.into());
        let coming = fetch(&tensors).map_err(wrap)?;
        Ok(Self { micros, coming })
    }

    /// Waits for the numbers and sums them up, to the first loss that is not finite.
    pub(crate) fn wait(self) -> Result<std::result::Result<Tally, NotFinite>> {
        let wrap = |error: pad_ops::Error| Error::candle("reading loss", "total")(error.into());
        let mut numbers = self.coming.wait().map_err(wrap)?.into_iter().flatten();
        let mut tally = Tally::default();
        for Micro { number, losses, images } in &self.micros {
            let mut next = || numbers.next().unwrap_or(f64::NAN);
            let total = next();
            let parts: Vec<_> = losses.parts.iter().map(|(name, _)| (*name, next())).collect();
            tally.add_numbers(total, &parts, *images);
            if !tally.loss.is_finite() {
                return Ok(Err(NotFinite { loss: tally.loss, number: *number }));
            }
        }
        Ok(Ok(tally))
    }
}

/// A step that has been enqueued, and what is needed to report it.
pub(crate) struct Unread {
    pub(crate) losses: ComingLosses,
    pub(crate) begun: StepBegun,
    /// The state before the step.
    pub(crate) before: TrainerState,
    pub(crate) lr: f64,
    pub(crate) epoch_ended: bool,
}
