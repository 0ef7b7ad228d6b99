//! What the losses of the heads are computed on.

use pad_ops::{Mode, rng::Key};

use super::Boxes;

/// The key that the samples of a pass are drawn from.
pub(super) fn key_of(mode: Mode) -> Key {
    match mode {
        Mode::Train(key) => key,
        Mode::Eval => Key::new(0),
    }
}

/// The boxes of an image that the losses are computed on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoiSamples {
    /// Boxes.
    pub boxes: Boxes,
    /// Class of each; the number of classes is the background.
    pub labels: Vec<u32>,
    /// Box of each one's object; meaningless for the background.
    pub targets: Boxes,
    /// Index of each one's object in the [`Target`](super::Target); meaningless for the background.
    pub objects: Vec<usize>,
}
