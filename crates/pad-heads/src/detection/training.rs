//! A detector as a training task: what trains, how fast, and the losses of a batch.

use pad_adapter::params::Role;
use pad_ops::{Mode, rng::Key};
use pad_train::{BoxError, Losses, Task};

use super::{DetectionBatch, Detector};
use crate::segmentation::LayerDecay;

/// The role of a detector's parameter by its full name, for
/// [`ParamStore::roles`](pad_adapter::params::ParamStore::roles): the transformer's parts stand behind `backbone.net.`;
/// the pyramid counts as head, since no pre-training has it.
pub fn role_of(name: &str) -> Role {
    name.strip_prefix("backbone.net.").map_or(Role::Head, Role::of)
}

/// How learning rates fall from the heads down to the patches in ViTDet-B: 0.7 a layer, weight decay 0.1.
pub const LAYER_DECAY: LayerDecay = LayerDecay { rate: 0.7, weight_decay: 0.1 };

/// Where the samples of a pass are drawn.
pub(super) fn key_of(mode: Mode) -> Key {
    match mode {
        Mode::Train(key) => key,
        Mode::Eval => Key::new(0),
    }
}

/// Trains a detector.
#[derive(Clone, Copy)]
pub struct DetectionTask<'a> {
    detector: &'a Detector,
}

impl<'a> DetectionTask<'a> {
    /// The task of training `detector`.
    pub fn new(detector: &'a Detector) -> Self {
        Self { detector }
    }
}

impl Task for DetectionTask<'_> {
    type Batch = DetectionBatch;

    fn losses(&self, batch: &DetectionBatch, mode: Mode) -> Result<Losses, BoxError> {
        Ok(self.detector.losses(batch, mode)?)
    }
}
