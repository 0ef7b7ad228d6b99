//! Gain control as cameras do it: levels by how often values occur.

use pad_ops::ImageSize;

/// Bins of the histogram of a whole image, and of a tile.
const BINS: usize = 1024;
const TILE_BINS: usize = 256;

/// Samples of an image, interleaved, of which some pixels count for nothing.
pub(super) struct Samples<'a, T> {
    pub(super) values: &'a [T],
    pub(super) size: ImageSize,
    pub(super) channels: usize,
    pub(super) masked: Option<&'a [bool]>,
    /// Band of the values that are spread; values outside are clipped.
    pub(super) band: (f64, f64),
}

impl<T: Copy + Into<f32>> Samples<'_, T> {
    /// Place of a value in the band, 0 to 1.
    fn share(&self, value: T) -> f64 {
        let (low, high) = self.band;
        ((f64::from(value.into()) - low) / (high - low)).clamp(0.0, 1.0)
    }

    fn is_masked(&self, pixel: usize) -> bool {
        self.masked.is_some_and(|masked| masked[pixel])
    }

    /// Histogram equalisation with a plateau: a bin counts at most `limit` per cent of all values,
    /// so that a large even area (sky) does not take all levels.
    pub(super) fn plateau(&self, limit: f64) -> Vec<f32> {
        let mut bins = vec![0.0; BINS];
        for (index, &value) in self.values.iter().enumerate() {
            if !self.is_masked(index / self.channels) {
                bins[bin(self.share(value), BINS)] += 1.0;
            }
        }
        let total: f64 = bins.iter().sum();
        let most = total * limit / 100.0;
        bins.iter_mut().for_each(|count| *count = count.min(most));
        let curve = Curve::of(&bins);
        self.values.iter().map(|&value| curve.level(self.share(value)) as f32).collect()
    }

    /// Contrast-limited adaptive histogram equalisation: a curve for each of `tiles` x `tiles`
    /// parts, between which levels are interpolated. A bin counts at most `limit` times the mean
    /// bin; what exceeds it is spread over all bins.
    pub(super) fn clahe(&self, tiles: usize, limit: f64) -> Vec<f32> {
        let ImageSize { height, width } = self.size;
        let (down, across) = (tiles.clamp(1, height), tiles.clamp(1, width));
        let mut bins = vec![vec![0.0; TILE_BINS]; down * across];
        for (index, &value) in self.values.iter().enumerate() {
            let pixel = index / self.channels;
            if !self.is_masked(pixel) {
                let (row, column) = (pixel / width, pixel % width);
                let tile = row * down / height * across + column * across / width;
                bins[tile][bin(self.share(value), TILE_BINS)] += 1.0;
            }
        }
        let curves: Vec<Curve> = bins
            .into_iter()
            .map(|mut bins| {
                let most = (bins.iter().sum::<f64>() / TILE_BINS as f64 * limit).max(1.0);
                let excess: f64 = bins.iter().map(|count| (count - most).max(0.0)).sum();
                let each = excess / TILE_BINS as f64;
                bins.iter_mut().for_each(|count| *count = count.min(most) + each);
                Curve::of(&bins)
            })
            .collect();
        let rows: Vec<_> = (0..height).map(|row| neighbours(row, height, down)).collect();
        let columns: Vec<_> = (0..width).map(|column| neighbours(column, width, across)).collect();
        let level = |(index, &value): (usize, &T)| {
            let pixel = index / self.channels;
            let (above, below, lower) = rows[pixel / width];
            let (left, right, righter) = columns[pixel % width];
            let share = self.share(value);
            let of_row = |row: usize| {
                let (a, b) = (&curves[row * across + left], &curves[row * across + right]);
                a.level(share) * (1.0 - righter) + b.level(share) * righter
            };
            (of_row(above) * (1.0 - lower) + of_row(below) * lower) as f32
        };
        self.values.iter().enumerate().map(level).collect()
    }
}

fn bin(share: f64, bins: usize) -> usize {
    ((share * bins as f64) as usize).min(bins - 1)
}

/// The two tiles between whose centres a pixel lies, and the weight of the second.
fn neighbours(place: usize, pixels: usize, tiles: usize) -> (usize, usize, f64) {
    let at = (place as f64 + 0.5) * tiles as f64 / pixels as f64 - 0.5;
    let first = at.floor().clamp(0.0, tiles as f64 - 1.0);
    let second = (first as usize + 1).min(tiles - 1);
    (first as usize, second, (at - first).clamp(0.0, 1.0))
}

/// Levels by place in the band: the share of values below, straight between the ends of bins.
struct Curve {
    /// Levels at the ends of the bins, 0 to 255; one more than bins.
    ends: Vec<f64>,
}

impl Curve {
    /// The curve of a histogram; a straight line for an empty one.
    fn of(bins: &[f64]) -> Self {
        let total: f64 = bins.iter().sum();
        let mut below = 0.0;
        let mut ends = vec![0.0];
        for (place, count) in bins.iter().enumerate() {
            below += count;
            ends.push(match total > 0.0 {
                true => 255.0 * below / total,
                false => 255.0 * (place + 1) as f64 / bins.len() as f64,
            });
        }
        Self { ends }
    }

    fn level(&self, share: f64) -> f64 {
        let bins = self.ends.len() - 1;
        let at = share * bins as f64;
        let first = (at as usize).min(bins - 1);
        let (low, high) = (self.ends[first], self.ends[first + 1]);
        (low + (high - low) * (at - first as f64)).clamp(0.0, 255.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[u16], size: ImageSize) -> Samples<'_, u16> {
        Samples { values, size, channels: 1, masked: None, band: (0.0, 1024.0) }
    }

    #[test]
    fn a_plateau_keeps_an_even_area_from_taking_all_levels() {
        // 900 pixels of one value below 100 that differ.
        let values: Vec<u16> =
            (0..1000).map(|i| if i < 900 { 10 } else { 100 + i - 900 }).collect();
        let values = samples(&values, ImageSize::new(10, 100));
        let contrast = |levels: Vec<f32>| levels[999] - levels[900];
        let plain = contrast(values.plateau(100.0));
        let limited = contrast(values.plateau(0.1));
        // Plain: 99 of 1000 values lie between; limited: 99 of 101 bins.
        assert!((plain - 255.0 * 99.0 / 1000.0).abs() < 0.5, "{plain}");
        assert!((limited - 255.0 * 99.0 / 101.0).abs() < 3.0, "{limited}");
        assert!(values.plateau(1.0).is_sorted(), "order is kept");
    }

    #[test]
    fn clahe_gives_every_part_its_contrast() {
        // The left half is dark, the right one bright, each with few values.
        let size = ImageSize::new(64, 64);
        let value =
            |i: usize| if i % 64 < 32 { 100 + (i % 8) as u16 } else { 900 + (i % 8) as u16 };
        let values: Vec<u16> = (0..64 * 64).map(value).collect();
        let samples = samples(&values, size);
        let global = samples.plateau(100.0);
        let local = samples.clahe(8, 100.0);
        let spread = |levels: &[f32], from: usize| {
            let part: Vec<f32> = (0..8).map(|i| levels[30 * 64 + from + i]).collect();
            part.iter().fold(0.0_f32, |a, &b| a.max(b))
                - part.iter().fold(255.0_f32, |a, &b| a.min(b))
        };
        // All values of a half lie in two bins of a tile.
        assert!(spread(&local, 8) > 120.0 && spread(&local, 48) > 120.0);
        assert!(spread(&local, 8) > spread(&global, 8));
        assert!(local.iter().all(|level| (0.0..=255.0).contains(level)));
        // With the smallest limit the curves are nearly straight.
        let straight = samples.clahe(8, 0.0);
        assert!((straight[0] - 255.0 * 100.0 / 1024.0).abs() < 12.0, "{}", straight[0]);
    }

    #[test]
    fn a_single_tile_is_the_whole_image() {
        let (first, second, weight) = neighbours(5, 10, 1);
        assert_eq!((first, second), (0, 0));
        assert!((weight - 0.05).abs() < 1e-12);
        let (first, second, weight) = neighbours(0, 16, 2);
        assert_eq!((first, second, weight), (0, 1, 0.0));
        let (first, second, weight) = neighbours(15, 16, 2);
        assert_eq!((first, second), (1, 1));
        assert!((0.0..=1.0).contains(&weight));
    }
}
