//! An update of which the host has not seen the numbers yet.

use pad_ops::ComingNorms;

use super::{StepReport, checks::check_finite};
use crate::{Error, Parameter, Result};

/// An update that [`Optimizer::begin_step`](crate::Optimizer::begin_step) has enqueued and whose
/// numbers [`Optimizer::finish_step`](crate::Optimizer::finish_step) reads.
#[derive(Debug)]
pub struct StepBegun(Way);

#[derive(Debug)]
enum Way {
    Done(Result<StepReport>),
    Coming {
        norms: ComingNorms,
        /// Factor of the gradients as they were given.
        factor: f64,
        /// The parameters that are updated.
        updated: Vec<usize>,
        without_gradient: usize,
    },
}

impl StepBegun {
    /// Of an update that is done, or was refused.
    pub(crate) fn done(report: Result<StepReport>) -> Self {
        Self(Way::Done(report))
    }

    /// Of an update of the parameters `updated` that a device makes if their `norms` are finite.
    pub(crate) fn coming(
        norms: ComingNorms,
        factor: f64,
        updated: Vec<usize>,
        without_gradient: usize,
    ) -> Self {
        Self(Way::Coming { norms, factor, updated, without_gradient })
    }

    /// Waits for the numbers. `undo` is called with each parameter that was to be updated if none
    /// was.
    pub(crate) fn finish(
        self,
        parameters: &[Parameter],
        mut undo: impl FnMut(usize),
    ) -> Result<StepReport> {
        let (norms, factor, updated, without_gradient) = match self.0 {
            Way::Done(report) => return report,
            Way::Coming { norms, factor, updated, without_gradient } => {
                (norms, factor, updated, without_gradient)
            }
        };
        let wrap =
            |error: pad_ops::Error| Error::candle("reading norms of", "the update")(error.into());
        let found = norms.wait().map_err(wrap)?;
        if found.finite {
            return Ok(StepReport::new(found.norm, updated.len(), without_gradient));
        }
        updated.iter().for_each(|&index| undo(index));
        for (&index, &square) in updated.iter().zip(&found.squares) {
            if let Some(parameter) = parameters.get(index) {
                check_finite(parameter, factor, square)?;
            }
        }
        // A loss is not finite.
        Ok(StepReport::new(found.norm, 0, without_gradient))
    }
}
