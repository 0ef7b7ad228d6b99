//! Segments as regions: box, number of pixels, histograms.

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use super::{Roi, texture::Texture};

/// Bins of the brightness histogram, over 0..255.
pub(super) const BRIGHTNESS: usize = 25;
/// Bins of the texture histogram.
pub(super) const TEXTURE: usize = 10;

/// The patterns that the texture histograms count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Histograms {
    /// The reference's: the range is set to 0..1 although patterns are 0..255, so that only the
    /// patterns 0 (first bin) and 1 (last bin) count. Colour is the brightness in 25 bins; hue and
    /// saturation of grey are 0 everywhere.
    #[default]
    Exact,
    /// All patterns, over their range 0..255. Not the reference's regions.
    Corrected,
}

/// The merge that created a region.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Merge {
    /// Index of the region named first in the pair.
    pub first: u32,
    /// Index of the other one.
    pub second: u32,
    /// Their similarity, 0 to 8: colour (3), texture (3), size (1), fill (1).
    pub similarity: f64,
}

/// A region of [`selective_search()`](super::selective_search()).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Its bounding box.
    pub rect: Roi,
    /// The number of its pixels.
    pub pixels: u32,
    /// The merge that created it; `None` for a segment.
    pub merged: Option<Merge>,
}

/// First and last column and row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) min_x: u32,
    pub(super) min_y: u32,
    pub(super) max_x: u32,
    pub(super) max_y: u32,
}

impl Bounds {
    const NOTHING: Self = Self { min_x: u32::MAX, min_y: u32::MAX, max_x: 0, max_y: 0 };

    pub(super) fn union(self, other: Self) -> Self {
        Self {
            min_x: self.min_x.min(other.min_x),
            min_y: self.min_y.min(other.min_y),
            max_x: self.max_x.max(other.max_x),
            max_y: self.max_y.max(other.max_y),
        }
    }

    pub(super) fn roi(self) -> Roi {
        Roi {
            x: self.min_x,
            y: self.min_y,
            width: self.max_x - self.min_x,
            height: self.max_y - self.min_y,
        }
    }

    /// The reference's test of neighbourhood: a corner of the `later` box strictly inside this one.
    #[inline]
    pub(super) fn holds_a_corner_of(&self, later: &Self) -> bool {
        let across = |x| self.min_x < x && x < self.max_x;
        let along = |y| self.min_y < y && y < self.max_y;
        (across(later.min_x) | across(later.max_x)) & (along(later.min_y) | along(later.max_y))
    }
}

/// The features by which regions are compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    pub(super) bounds: Bounds,
    pub(super) pixels: u32,
    /// Shares of the pixels.
    pub(super) brightness: [f64; BRIGHTNESS],
    pub(super) texture: [f64; TEXTURE],
}

impl Features {
    /// The features of both regions together, means weighted by pixels.
    pub(super) fn union(&self, other: &Self) -> Self {
        let pixels = self.pixels + other.pixels;
        let (a, b, n) = (f64::from(self.pixels), f64::from(other.pixels), f64::from(pixels));
        let mean = |x: f64, y: f64| (x * a + y * b) / n;
        Self {
            bounds: self.bounds.union(other.bounds),
            pixels,
            brightness: std::array::from_fn(|i| mean(self.brightness[i], other.brightness[i])),
            texture: std::array::from_fn(|i| mean(self.texture[i], other.texture[i])),
        }
    }
}

/// Counts of one segment.
#[derive(Clone, Copy, Debug)]
struct Counts {
    bounds: Bounds,
    pixels: u32,
    brightness: [u32; BRIGHTNESS],
    texture: [u32; TEXTURE],
}

/// Buffers of [`Extractor::run`].
#[derive(Debug, Default)]
pub(super) struct Extractor {
    counts: Vec<Counts>,
    bright: Vec<u8>,
}

impl Extractor {
    /// Appends the features of the segments `0..count` to `out`.
    pub(super) fn run(
        &mut self,
        gray: &[u8],
        size: ImageSize,
        labels: &[u32],
        count: u32,
        histograms: Histograms,
        out: &mut Vec<Features>,
    ) {
        let nothing = Counts {
            bounds: Bounds::NOTHING,
            pixels: 0,
            brightness: [0; BRIGHTNESS],
            texture: [0; TEXTURE],
        };
        self.counts.clear();
        self.counts.resize(count as usize, nothing);
        let counts = &mut self.counts;
        let bins = brightness_bins();
        for (y, (row, labels)) in
            gray.chunks_exact(size.width).zip(labels.chunks_exact(size.width)).enumerate()
        {
            let mut x = 0;
            for run in labels.chunk_by(|a, b| a == b) {
                let last = x + run.len() - 1;
                let counts = &mut counts[run[0] as usize];
                counts.pixels += run.len() as u32;
                counts.bounds = counts.bounds.union(Bounds {
                    min_x: x as u32,
                    min_y: y as u32,
                    max_x: last as u32,
                    max_y: y as u32,
                });
                for &value in &row[x..=last] {
                    counts.brightness[usize::from(bins[usize::from(value)])] += 1;
                }
                x = last + 1;
            }
        }
        let texture = Texture { gray, size };
        match histograms {
            Histograms::Exact => texture.darker_around(&mut self.bright, |pixel, code| {
                let bin = if code == 0 { 0 } else { TEXTURE - 1 };
                counts[labels[pixel] as usize].texture[bin] += 1;
            }),
            Histograms::Corrected => {
                for (pixel, &label) in labels.iter().enumerate() {
                    let code = texture.code(pixel / size.width, pixel % size.width);
                    let bin = (f64::from(code) * TEXTURE as f64 / 255.0) as usize;
                    counts[label as usize].texture[bin.min(TEXTURE - 1)] += 1;
                }
            }
        }
        out.extend(counts.iter().map(|counts| {
            let share = |count| f64::from(count) / f64::from(counts.pixels);
            Features {
                bounds: counts.bounds,
                pixels: counts.pixels,
                brightness: counts.brightness.map(share),
                texture: counts.texture.map(share),
            }
        }));
    }
}

/// The bin of each byte: 25 bins over 0..=255, each including its lower edge, the last its upper
/// edge too.
fn brightness_bins() -> [u8; 256] {
    let mut bins = [0; 256];
    let mut bin = 0;
    for (value, slot) in bins.iter_mut().enumerate() {
        while bin + 1 < BRIGHTNESS && (bin + 1) as f64 * (255.0 / BRIGHTNESS as f64) <= value as f64
        {
            bin += 1;
        }
        *slot = bin as u8;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts that numpy gives for each byte once.
    #[test]
    fn brightness_bins_are_numpys() {
        let mut counts = [0; BRIGHTNESS];
        for bin in brightness_bins() {
            counts[usize::from(bin)] += 1;
        }
        let mut expected = [10; BRIGHTNESS];
        for bin in [0, 5, 10, 15, 20, 24] {
            expected[bin] = 11;
        }
        assert_eq!(counts, expected);
    }

    /// Asymmetric, and blind to crosses, to equal boxes and to an earlier box inside a later one.
    #[test]
    fn neighbourhood_is_the_references() {
        let bounds = |min_x, min_y, max_x, max_y| Bounds { min_x, min_y, max_x, max_y };
        let outer = bounds(0, 0, 10, 10);
        let inner = bounds(3, 3, 5, 5);
        assert!(outer.holds_a_corner_of(&inner));
        assert!(!inner.holds_a_corner_of(&outer));
        assert!(!outer.holds_a_corner_of(&outer));
        assert!(!bounds(0, 4, 10, 6).holds_a_corner_of(&bounds(4, 0, 6, 10)));
        assert!(outer.holds_a_corner_of(&bounds(9, 9, 20, 20)));
        assert!(!outer.holds_a_corner_of(&bounds(10, 10, 20, 20)));
    }
}
