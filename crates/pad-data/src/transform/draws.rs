//! Where random decisions come from.

use pad_ops::rng::Stream;

/// Where random numbers come from: a [`Stream`] in a run, a recorded list in a test.
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
