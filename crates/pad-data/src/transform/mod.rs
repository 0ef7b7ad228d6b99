//! Augmentations. Each one is a `draw`, which decides and only decides, and an `apply`, which is a pure function of
//! the decision: so tests can replay decisions that another framework made.

mod crop;
pub mod detection;
mod flip;
mod normalize;
mod roi_crop;
pub mod segmentation;

use pad_ops::rng::Stream;

pub use self::{
    crop::{CenterCrop, RandomResizedCrop},
    flip::{Flip, HorizontalFlip},
    normalize::Normalize,
    roi_crop::RoiCrop,
};

/// Where random numbers come from. [`Stream`] in a run; a recorded list in a test.
pub trait Draws {
    /// A number of the interval from `low` to `high`.
    fn uniform(&mut self, low: f64, high: f64) -> f64;

    /// An integer of `0..n` (0 if `n` is 0).
    fn below(&mut self, n: usize) -> usize;
}

impl Draws for Stream {
    fn uniform(&mut self, low: f64, high: f64) -> f64 {
        self.range_f64(low, high)
    }

    fn below(&mut self, n: usize) -> usize {
        Stream::below(self, n as u64) as usize
    }
}
