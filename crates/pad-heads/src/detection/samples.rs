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
///
/// ```
/// use pad_heads::detection::RoiSamples;
/// // An object of class 0 of two classes, and background.
/// let object = [0.0, 0.0, 8.0, 8.0];
/// let samples = RoiSamples {
///     boxes: vec![[1.0, 0.0, 8.0, 8.0], [20.0, 20.0, 28.0, 28.0]],
///     labels: vec![0, 2],
///     targets: vec![object, object],
///     objects: vec![0, 0],
/// };
/// assert_eq!(samples.labels.iter().filter(|&&label| label < 2).count(), 1);
/// ```
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
