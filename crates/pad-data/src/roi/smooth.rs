//! The Gaussian blur in front of the segmentation, with scipy's order of additions, so that every
//! bit is the same.

use pulp::Arch;

/// Maximum standard deviation of the blur, pixels.
pub(super) const MAX_SIGMA: f64 = 64.0;

/// Standard deviations that the kernel reaches on each side.
const TRUNCATE: f64 = 4.0;

/// Blurs 8-bit rows to `f64` in 0..1.
#[derive(Debug, Default)]
pub(super) struct Smoother {
    /// Weight of the middle, then of the distances 1, 2, ...
    weights: Vec<f64>,
    /// The last `2 * radius + 1` input rows as numbers, a ring.
    ring: Vec<f64>,
    /// One column-blurred row with `radius` mirrored values on both sides.
    padded: Vec<f64>,
}

impl Smoother {
    /// Writes the blurred image to `out`. `gray` has `height` rows of `width` bytes, neither is 0.
    ///
    /// First along the columns, then along the rows; beyond the border the image is mirrored, its
    /// edge repeated.
    pub(super) fn run(&mut self, gray: &[u8], width: usize, sigma: f64, out: &mut Vec<f64>) {
        let height = gray.len() / width;
        kernel(sigma, &mut self.weights);
        let radius = self.weights.len() - 1;
        let taps = 2 * radius + 1;
        // A zero-filled buffer of the right length; every value is overwritten below.
        out.resize(gray.len(), 0.0);
        self.ring.resize(taps * width, 0.0);
        self.padded.resize(width + 2 * radius, 0.0);
        let Self { weights, ring, padded } = self;

        // Row `i` (which may lie outside the image) lives in slot `i mod taps`.
        let slot = |i: isize| i.rem_euclid(taps as isize) as usize * width;
        let load = |ring: &mut [f64], i: isize| {
            let source = mirror(i, height) * width;
            let target = &mut ring[slot(i)..][..width];
            for (value, &byte) in target.iter_mut().zip(&gray[source..][..width]) {
                *value = f64::from(byte) * (1.0 / 255.0);
            }
        };
        for i in -(radius as isize)..radius as isize {
            load(ring, i);
        }
        let arch = Arch::new();
        for (y, out) in out.chunks_exact_mut(width).enumerate() {
            let y = y as isize;
            load(ring, y + radius as isize);
            let middle = &mut padded[radius..radius + width];
            let ring = &*ring;
            let weights = &weights[..];
            arch.dispatch(
                #[inline(always)]
                || {
                    scale(&ring[slot(y)..][..width], weights[0], middle);
                    for distance in (1..=radius).rev() {
                        let before = &ring[slot(y - distance as isize)..][..width];
                        let after = &ring[slot(y + distance as isize)..][..width];
                        add_pair(before, after, weights[distance], middle);
                    }
                },
            );
            for i in 0..radius {
                padded[i] = padded[radius + mirror(i as isize - radius as isize, width)];
                padded[radius + width + i] = padded[radius + mirror((width + i) as isize, width)];
            }
            let padded = &*padded;
            arch.dispatch(
                #[inline(always)]
                || {
                    scale(&padded[radius..][..width], weights[0], out);
                    for distance in (1..=radius).rev() {
                        let before = &padded[radius - distance..][..width];
                        let after = &padded[radius + distance..][..width];
                        add_pair(before, after, weights[distance], out);
                    }
                },
            );
        }
    }
}

#[inline(always)]
fn scale(source: &[f64], weight: f64, out: &mut [f64]) {
    for (out, &value) in out.iter_mut().zip(source) {
        *out = value * weight;
    }
}

#[inline(always)]
fn add_pair(before: &[f64], after: &[f64], weight: f64, out: &mut [f64]) {
    for ((out, &before), &after) in out.iter_mut().zip(before).zip(after) {
        *out += (before + after) * weight;
    }
}

/// The right half of the normalised kernel. The sum runs over the whole kernel from left to right.
fn kernel(sigma: f64, weights: &mut Vec<f64>) {
    weights.clear();
    if sigma <= 1e-15 {
        weights.push(1.0);
        return;
    }
    let radius = (TRUNCATE * sigma + 0.5) as usize;
    let exponent = -0.5 / (sigma * sigma);
    weights.extend((0..=radius).map(|x| (exponent * (x * x) as f64).exp()));
    let mut sum = 0.0;
    for x in -(radius as isize)..=radius as isize {
        sum += weights[x.unsigned_abs()];
    }
    for weight in weights {
        *weight /= sum;
    }
}

/// Index inside `0..n` of the mirrored position `i`: `.. 1 0 | 0 1 .. n-1 | n-1 n-2 ..`.
fn mirror(i: isize, n: usize) -> usize {
    let folded = i.rem_euclid(2 * n as isize) as usize;
    if folded < n { folded } else { 2 * n - 1 - folded }
}
