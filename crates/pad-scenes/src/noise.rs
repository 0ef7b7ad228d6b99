//! Value noise on a hashed lattice: smooth random fields without tables, the same on every thread.

use crate::vector::V3;

/// Returns 32 well mixed bits for a lattice point.
pub(crate) fn hash(x: i32, y: i32, z: i32, seed: u32) -> u32 {
    let mut bits = (x as u32).wrapping_mul(0x9E37_79B1)
        ^ (y as u32).wrapping_mul(0x85EB_CA77)
        ^ (z as u32).wrapping_mul(0xC2B2_AE3D)
        ^ seed.wrapping_mul(0x27D4_EB2F);
    bits ^= bits >> 15;
    bits = bits.wrapping_mul(0x2C1B_3C6D);
    bits ^= bits >> 12;
    bits = bits.wrapping_mul(0x297A_2D39);
    bits ^ (bits >> 15)
}

/// Returns the hash as a number in `[0, 1)`.
pub(crate) fn hash_unit(x: i32, y: i32, z: i32, seed: u32) -> f32 {
    (hash(x, y, z, seed) >> 8) as f32 * (1.0 / (1_u32 << 24) as f32)
}

/// Returns the value of a lattice point in `[-1, 1)`. One round of mixing less than [`hash`]:
/// enough under interpolation, and twice as fast in the hottest loop.
fn lattice(x: u32, y: u32, z: u32) -> f32 {
    let mut bits = x ^ y ^ z;
    bits ^= bits >> 15;
    bits = bits.wrapping_mul(0x2C1B_3C6D);
    bits ^= bits >> 13;
    bits = bits.wrapping_mul(0x297A_2D39);
    // The upper 24 bits, as a signed fraction.
    ((bits as i32) >> 8) as f32 * (1.0 / (1_u32 << 23) as f32)
}

/// Returns the two lattice neighbours of a coordinate along one axis, multiplied by `factor`.
fn pair(whole: i32, factor: u32) -> (u32, u32) {
    let low = (whole as u32).wrapping_mul(factor);
    (low, low.wrapping_add(factor))
}

/// Splits a value into its floor and the remainder. (`f32::floor` is a library call on older CPUs.)
pub(crate) fn split(value: f32) -> (i32, f32) {
    let whole = value as i32;
    let whole = if (whole as f32) > value { whole.saturating_sub(1) } else { whole };
    (whole, (value - whole as f32).clamp(0.0, 1.0))
}

fn ease(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// Returns smooth noise over the plane with lattice spacing 1, in `[-1, 1]`.
pub(crate) fn value2(x: f32, y: f32, seed: u32) -> f32 {
    let (ix, fx) = split(x);
    let (iy, fy) = split(y);
    let (x0, x1) = pair(ix, 0x9E37_79B1);
    let (y0, y1) = pair(iy, 0x85EB_CA77);
    let z = seed.wrapping_mul(0x27D4_EB2F);
    let (fx, fy) = (ease(fx), ease(fy));
    let (a, b) = (lattice(x0, y0, z), lattice(x1, y0, z));
    let (c, d) = (lattice(x0, y1, z), lattice(x1, y1, z));
    let (low, high) = (a + (b - a) * fx, c + (d - c) * fx);
    low + (high - low) * fy
}

/// Returns smooth noise over space with lattice spacing 1, in `[-1, 1]`.
pub(crate) fn value3(p: V3, seed: u32) -> f32 {
    let (ix, fx) = split(p.x);
    let (iy, fy) = split(p.y);
    let (iz, fz) = split(p.z);
    let (x0, x1) = pair(ix, 0x9E37_79B1);
    let (y0, y1) = pair(iy, 0x85EB_CA77);
    let (z0, z1) = pair(iz, 0xC2B2_AE3D);
    let seed = seed.wrapping_mul(0x27D4_EB2F);
    let (fx, fy, fz) = (ease(fx), ease(fy), ease(fz));
    let plane = |z: u32| {
        let (a, b) = (lattice(x0, y0, z), lattice(x1, y0, z));
        let (c, d) = (lattice(x0, y1, z), lattice(x1, y1, z));
        let (low, high) = (a + (b - a) * fx, c + (d - c) * fx);
        low + (high - low) * fy
    };
    let (near, far) = (plane(z0 ^ seed), plane(z1 ^ seed));
    near + (far - near) * fz
}

/// Returns the amplitude that remains of a wave of length `wavelength` under pixels that cover
/// `footprint`: 1 above four pixels, 0 below one and a half. Without this fading, distant texture
/// would alias.
fn survives(wavelength: f32, footprint: f32) -> f32 {
    ((wavelength - 1.5 * footprint) / (2.5 * footprint).max(1e-9)).clamp(0.0, 1.0)
}

/// Returns fractal noise over the plane: `octaves` of [`value2`], the first with wavelength
/// `scale`, each next one half as long and `gain` as strong, filtered for pixels that cover
/// `footprint` (same unit as `x`). About `[-1, 1]`.
pub(crate) fn fractal2(
    (x, y): (f32, f32),
    scale: f32,
    octaves: usize,
    gain: f32,
    footprint: f32,
    seed: u32,
) -> f32 {
    fractal(scale, octaves, gain, footprint, |per, octave| {
        value2(x * per, y * per, seed.wrapping_add(octave))
    })
}

/// Returns [`fractal2`] in space.
pub(crate) fn fractal3(
    p: V3,
    scale: f32,
    octaves: usize,
    gain: f32,
    footprint: f32,
    seed: u32,
) -> f32 {
    fractal(scale, octaves, gain, footprint, |per, octave| {
        value3(p * per, seed.wrapping_add(octave))
    })
}

/// Returns the normalised sum of octaves; the arguments of `value` are waves per unit and the
/// number of the octave.
#[inline(always)]
fn fractal(
    scale: f32,
    octaves: usize,
    gain: f32,
    footprint: f32,
    value: impl Fn(f32, u32) -> f32,
) -> f32 {
    let (mut sum, mut total, mut amplitude, mut wavelength) = (0.0, 0.0, 1.0, scale);
    for octave in 0..octaves {
        let keep = survives(wavelength, footprint);
        if keep > 0.0 {
            sum += amplitude * keep * value(1.0 / wavelength, octave as u32);
        }
        total += amplitude * amplitude;
        amplitude *= gain;
        wavelength *= 0.5;
    }
    sum / f32::sqrt(total).max(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_continuous_bounded_and_seeded() {
        let mut differs = 0;
        for step in 0..400 {
            let x = step as f32 * 0.173 - 30.0;
            let here = value2(x, 0.4 * x, 5);
            assert!((-1.0..=1.0).contains(&here));
            assert!((here - value2(x + 1e-3, 0.4 * x, 5)).abs() < 1e-2);
            let inside = value3(V3 { x, y: 1.1, z: -x }, 5);
            assert!((-1.0..=1.0).contains(&inside));
            differs += usize::from((here - value2(x, 0.4 * x, 6)).abs() > 0.05);
        }
        assert!(differs > 300, "{differs}");
    }

    #[test]
    fn fine_waves_vanish_under_large_pixels() {
        for step in 0..50 {
            let at = (step as f32 * 0.37, step as f32 * 0.21);
            assert_eq!(fractal2(at, 0.5, 4, 0.5, 10.0, 1), 0.0);
        }
    }

    #[test]
    fn splits_negative_numbers_downwards() {
        assert_eq!(split(-0.25), (-1, 0.75));
        assert_eq!(split(2.5), (2, 0.5));
        assert_eq!(split(-3.0), (-3, 0.0));
    }
}
