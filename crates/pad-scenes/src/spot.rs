//! A point of a surface as patterns see it, and the filtered steps that patterns are built from.

use crate::{
    material::Material,
    noise::split,
    vector::{V3, mix, smooth_step},
};

/// A point of a surface, as patterns see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    /// In the body's coordinates, metres.
    pub(crate) local: V3,
    /// The same point in texture coordinates.
    pub(crate) textured: V3,
    pub(crate) face: u8,
    /// Size of a pixel at this point, metres.
    pub(crate) footprint: f32,
    pub(crate) seed: u32,
}

/// The effect of a pattern at a spot: a temperature offset, and a second material with its share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) kelvin: f32,
    pub(crate) other: Material,
    pub(crate) share: f32,
}

/// Returns the share of a pixel of size `size` centred at `at` that lies between `low` and `high`.
pub(crate) fn cover(at: f32, low: f32, high: f32, size: f32) -> f32 {
    let size = size.max(1e-4);
    ((high.min(at + 0.5 * size) - low.max(at - 0.5 * size)) / size).clamp(0.0, 1.0)
}

/// Returns the same for an interval repeated every `pitch`, and the number of the repetition.
pub(crate) fn cover_repeated(at: f32, low: f32, high: f32, pitch: f32, size: f32) -> (f32, i32) {
    let (index, share) = split(at / pitch);
    let share =
        if size < pitch { cover(share * pitch, low, high, size) } else { (high - low) / pitch };
    // Between one and three pixels per repetition the pattern fades into its mean.
    let melt = smooth_step(0.4, 1.0, size / pitch);
    (mix(share, (high - low) / pitch, melt), index)
}

/// Returns a Gaussian bump: 1 at 0, falling off over `width`.
pub(crate) fn bump(at: f32, width: f32) -> f32 {
    (-(at / width) * (at / width)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_are_shares() {
        assert_eq!(cover(0.5, 0.0, 1.0, 0.1), 1.0);
        assert_eq!(cover(2.0, 0.0, 1.0, 0.1), 0.0);
        assert!((cover(1.0, 0.0, 1.0, 0.2) - 0.5).abs() < 1e-6);
        // Far away a repetition is its mean.
        let (share, _) = cover_repeated(7.3, 0.0, 0.25, 1.0, 50.0);
        assert!((share - 0.25).abs() < 1e-6);
        assert_eq!(cover_repeated(-0.9, 0.0, 0.25, 1.0, 1e-3).1, -1);
    }
}
