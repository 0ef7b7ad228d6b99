//! A detector as a training task.

use pad_adapter::params::Role;
use pad_ops::Mode;
use pad_train::{BoxError, Losses, Task};

use super::{DetectionBatch, Detector};

/// Returns the role of a detector's parameter by its full name, for
/// [`ParamStore::with_roles`](pad_adapter::params::ParamStore::with_roles). The names of the
/// transformer start with `backbone.net.`; the pyramid counts as head, since no pre-training has
/// it.
///
/// ```
/// use pad_adapter::params::Role;
/// use pad_heads::detection::role_of;
/// assert_eq!(role_of("roi_heads.box_head.fc1.weight"), Role::Head);
/// ```
pub fn role_of(name: &str) -> Role {
    name.strip_prefix("backbone.net.").map_or(Role::Head, Role::of)
}

/// Trains a detector.
#[derive(Clone, Copy)]
pub struct DetectionTask<'a> {
    detector: &'a Detector,
}

impl<'a> DetectionTask<'a> {
    /// Creates the task of training `detector`.
    pub fn new(detector: &'a Detector) -> Self {
        Self { detector }
    }
}

impl Task for DetectionTask<'_> {
    type Batch = DetectionBatch;

    fn losses(&self, batch: &DetectionBatch, mode: Mode) -> Result<Losses, BoxError> {
        Ok(self.detector.losses(batch, mode)?)
    }

    fn images_in(&self, batch: &DetectionBatch) -> usize {
        batch.len()
    }
}
