//! Random choices of a scene. Each has a key, and the key alone fixes its value.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// The parts of a scene that draw random numbers. Each has a stream of its own, so that a change in
/// one part leaves the others as they are.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Part {
    Plan = 0,
    Weather = 1,
    World = 2,
    Sensor = 3,
    Gain = 4,
}

/// Word of the key that separates scenes from all other random decisions of a run with the same
/// seed.
const PURPOSE: u64 = 8;

/// A stream of random numbers. The conversions are written out here, so that a library's update
/// cannot change them.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of one part of scene `index`. Seed, index and part make up the 256-bit key of the
    /// generator: no two streams share a key.
    pub(crate) fn new(seed: u64, index: u64, part: Part) -> Self {
        let words = [seed, 0, index, (u64::from(part as u32) << 32) | PURPOSE];
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in `[0, 1)`, 24 bits.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 * (1.0 / (1_u32 << 24) as f32)
    }

    /// Uniform in `[0, 1)`, 53 bits.
    fn unit_f64(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// A whole number in `0..n` without bias (Lemire's method); 0 if `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        if n == 0 {
            return 0;
        }
        let reject_below = n.wrapping_neg() % n;
        loop {
            let wide = u128::from(self.0.next_u64()) * u128::from(n);
            if wide as u64 >= reject_below {
                return (wide >> 64) as usize;
            }
        }
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
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// One of the items (there is always one: arrays of the builders are literals).
    pub(crate) fn pick<T: Copy, const N: usize>(&mut self, items: [T; N]) -> T {
        const { assert!(N > 0) };
        items[self.below(N)]
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

    /// Standard normal (Box and Muller), computed in `f64`.
    pub(crate) fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.unit_f64()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.unit_f64()).cos()) as f32
    }

    /// Two independent standard normals, in `f32`: cheap enough for every pixel.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_key_matters() {
        let first = |seed, index, part| Dice::new(seed, index, part).seed();
        let here = first(1, 2, Part::World);
        assert_eq!(here, first(1, 2, Part::World));
        let others =
            [first(9, 2, Part::World), first(1, 9, Part::World), first(1, 2, Part::Sensor)];
        assert!(!others.contains(&here), "{others:?}");
    }

    #[test]
    fn numbers_have_their_moments() {
        let mut dice = Dice::new(5, 0, Part::Plan);
        let n = 100_000;
        let (mut uniform, mut normal, mut square) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            uniform += f64::from(dice.unit());
            let z = f64::from(dice.normal());
            normal += z;
            square += z * z;
        }
        let n = f64::from(n);
        assert!((uniform / n - 0.5).abs() < 5e-3);
        assert!((normal / n).abs() < 1.5e-2);
        assert!((square / n - 1.0).abs() < 2e-2);
        assert!((0..1000).all(|n| dice.below(n) < n.max(1)));
    }
}
