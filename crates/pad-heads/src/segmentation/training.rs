//! A segmentor as a training task.

use pad_adapter::params::Role;
pub use pad_data::loader::SegmentationBatch;
use pad_ops::Mode;
use pad_train::{BoxError, Losses, Task};

use super::Segmentor;

/// Returns the role of a segmentor's parameter by its full name, for
/// [`ParamStore::with_roles`](pad_adapter::params::ParamStore::with_roles). The names of the
/// backbone start with `backbone.`; the pyramid counts as head, since no pre-training has it.
///
/// ```
/// use pad_adapter::params::Role;
/// use pad_heads::segmentation::role_of;
/// assert_eq!(role_of("decode_head.conv_seg.weight"), Role::Head);
/// ```
pub fn role_of(name: &str) -> Role {
    name.strip_prefix("backbone.").map_or(Role::Head, Role::of)
}

/// Trains a segmentor.
#[derive(Clone, Copy)]
pub struct SegmentationTask<'a> {
    segmentor: &'a Segmentor,
}

impl<'a> SegmentationTask<'a> {
    /// Creates the task of training `segmentor`.
    pub fn new(segmentor: &'a Segmentor) -> Self {
        Self { segmentor }
    }
}

impl Task for SegmentationTask<'_> {
    type Batch = SegmentationBatch;

    fn losses(&self, batch: &SegmentationBatch, mode: Mode) -> Result<Losses, BoxError> {
        Ok(self.segmentor.losses(&batch.images, &batch.labels, mode)?)
    }

    fn images_in(&self, batch: &SegmentationBatch) -> usize {
        batch.len()
    }
}
