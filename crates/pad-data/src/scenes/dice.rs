//! Random choices of a scene, in the words the builders use.

use pad_ops::rng::{Key, Stream};

/// A keyed stream with choices in `f32`.
pub(crate) struct Dice(Stream);

impl Dice {
    pub(crate) fn new(key: Key) -> Self {
        Self(key.stream())
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f32 {
        self.0.uniform_f32()
    }

    /// Uniform between two numbers.
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform between the two ends of a configured range.
    pub(crate) fn within(&mut self, range: [f32; 2]) -> f32 {
        self.between(range[0], range[1])
    }

    /// Uniform in the logarithm; both ends must be positive.
    pub(crate) fn log_between(&mut self, low: f32, high: f32) -> f32 {
        low * (high / low).powf(self.unit())
    }

    pub(crate) fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// A whole number from `low` to `high`, both included.
    pub(crate) fn count(&mut self, low: usize, high: usize) -> usize {
        low + self.0.below((high.saturating_sub(low) + 1) as u64) as usize
    }

    /// One of the items (there is always one: arrays of the builders are literals).
    pub(crate) fn pick<T: Copy, const N: usize>(&mut self, items: [T; N]) -> T {
        const { assert!(N > 0) };
        items[self.0.below(N as u64) as usize]
    }

    /// An index drawn in proportion to the weights; 0 if none is positive.
    pub(crate) fn weighted(&mut self, weights: &[f32]) -> usize {
        let total: f32 = weights.iter().sum();
        let mut left = self.unit() * total;
        let mut last = 0;
        for (index, &weight) in weights.iter().enumerate() {
            if weight > 0.0 {
                last = index;
                if left < weight {
                    return index;
                }
                left -= weight;
            }
        }
        last
    }

    /// Standard normal.
    pub(crate) fn normal(&mut self) -> f32 {
        self.0.normal() as f32
    }

    /// A pair of independent standard normals (Box and Muller), cheap enough for every pixel.
    pub(crate) fn normal_pair(&mut self) -> (f32, f32) {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * self.unit()).sin_cos();
        (radius * cos, radius * sin)
    }

    /// -1 or 1.
    pub(crate) fn sign(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }

    /// Any direction, radians.
    pub(crate) fn angle(&mut self) -> f32 {
        self.between(0.0, std::f32::consts::TAU)
    }

    /// Seed of a noise field.
    pub(crate) fn seed(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Whole number in `0..n`, 0 if `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0.below(n as u64) as usize
    }
}
