//! Near duplicates, by a hash of which parts of an image are brighter than their neighbours.

use std::collections::BTreeMap;

use pad_ops::ImageSize;

use crate::image::{Image, Pixels};

/// Number of rows and columns of comparisons.
const SIDE: usize = 8;

/// The difference hash of an image: 128 comparisons of adjacent parts, 8 x 8 across and 8 x 8 down.
/// Images that differ by a resize, by compression or by contrast differ in few bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Likeness(pub u128);

impl Likeness {
    /// Returns the hash of an image (of its first channel).
    pub fn of(image: &Image) -> Self {
        let (size, channels) = (image.size(), image.channels());
        match image.pixels() {
            Pixels::U8(values) => Self::of_values(values, size, channels),
            Pixels::U16(values) => Self::of_values(values, size, channels),
            Pixels::F32(values) => Self::of_values(values, size, channels),
        }
    }

    fn of_values<T: Copy + Into<f64>>(values: &[T], size: ImageSize, channels: usize) -> Self {
        let mut bits = 0_u128;
        let across = means(values, size, channels, ImageSize::new(SIDE, SIDE + 1));
        for row in across.chunks_exact(SIDE + 1) {
            row.windows(2).for_each(|pair| bits = bits << 1 | u128::from(pair[0] < pair[1]));
        }
        let down = means(values, size, channels, ImageSize::new(SIDE + 1, SIDE));
        for (above, below) in down.iter().zip(&down[SIDE..]) {
            bits = bits << 1 | u128::from(above < below);
        }
        Self(bits)
    }

    /// Returns the number of differing bits, 0 to 128.
    pub fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }
}

/// Returns the means of the parts of an image divided by `grid` (each part at least one pixel).
fn means<T: Copy + Into<f64>>(
    values: &[T],
    size: ImageSize,
    channels: usize,
    grid: ImageSize,
) -> Vec<f64> {
    let part = |index: usize, parts: usize, extent: usize| {
        let first = (index * extent / parts).min(extent.saturating_sub(1));
        first..((index + 1) * extent / parts).max(first + 1).min(extent)
    };
    let mut means = Vec::with_capacity(grid.area());
    for row in 0..grid.height {
        let rows = part(row, grid.height, size.height);
        for column in 0..grid.width {
            let columns = part(column, grid.width, size.width);
            let mut sum = 0.0;
            for y in rows.clone() {
                let line = &values[y * size.width * channels..][..size.width * channels];
                let pixels = line[columns.start * channels..columns.end * channels].iter();
                sum += pixels.step_by(channels).map(|&value| value.into()).sum::<f64>();
            }
            means.push(sum / (rows.len() * columns.len()) as f64);
        }
    }
    means
}

/// Returns for each hash the first earlier hash within `distance` bits that is no near duplicate
/// itself. Without the near duplicates, no two hashes are within `distance`. `distance` is at most
/// 127 (larger values count as 127).
pub fn near_duplicates(hashes: &[Likeness], distance: u32) -> Vec<Option<usize>> {
    // Two hashes that differ in d bits agree in at least one of d + 1 bands.
    let bands = distance.min(127) + 1;
    let band = |hash: Likeness, index: u32| {
        let (start, end) = (index * 128 / bands, (index + 1) * 128 / bands);
        let width = end - start;
        let mask = if width == 128 { u128::MAX } else { (1 << width) - 1 };
        (index, hash.0 >> start & mask)
    };
    let mut kept: BTreeMap<(u32, u128), Vec<usize>> = BTreeMap::new();
    let mut nearest = Vec::with_capacity(hashes.len());
    for (index, &hash) in hashes.iter().enumerate() {
        let candidates = (0..bands).filter_map(|part| kept.get(&band(hash, part))).flatten();
        let first =
            candidates.copied().filter(|&earlier| hashes[earlier].distance(hash) <= distance).min();
        if first.is_none() {
            (0..bands).for_each(|part| kept.entry(band(hash, part)).or_default().push(index));
        }
        nearest.push(first);
    }
    nearest
}

#[cfg(test)]
mod tests {
    use pad_ops::rng::Key;

    use super::*;

    fn picture(size: ImageSize, value: impl Fn(f64, f64) -> f64) -> Image {
        let at = |index: usize| {
            let (row, column) = (index / size.width, index % size.width);
            value(row as f64 / size.height as f64, column as f64 / size.width as f64)
        };
        let pixels = (0..size.area()).map(|index| at(index) as u8).collect();
        Image::new(size, 1, Pixels::U8(pixels)).unwrap()
    }

    #[test]
    fn the_same_picture_resized_and_dimmed_is_near_and_another_is_far() {
        let waves =
            |y: f64, x: f64| 120.0 + 60.0 * (7.0 * x).sin() + 50.0 * (5.0 * y + 2.0 * x).cos();
        let other =
            |y: f64, x: f64| 120.0 + 60.0 * (9.0 * y).sin() + 50.0 * (11.0 * x - 3.0 * y).cos();
        let first = Likeness::of(&picture(ImageSize::new(96, 128), waves));
        let again = Likeness::of(&picture(ImageSize::new(71, 90), |y, x| waves(y, x) * 0.6 + 9.0));
        let far = Likeness::of(&picture(ImageSize::new(96, 128), other));
        assert!(first.distance(again) <= 6, "{}", first.distance(again));
        assert!(first.distance(far) > 30, "{}", first.distance(far));
        assert_eq!(Likeness::of(&picture(ImageSize::new(1, 1), |_, _| 3.0)), Likeness(0));
    }

    #[test]
    fn bands_find_what_comparing_all_finds() {
        let mut draws = Key::new(3).stream();
        let mut hashes: Vec<Likeness> = Vec::new();
        for index in 0..300 {
            let bits = (0..4).fold(0, |bits, _| bits << 32 | u128::from(draws.next_u64() as u32));
            let near = hashes
                .get(index / 2)
                .map_or(bits, |hash| hash.0 ^ bits & bits >> 3 & bits >> 7 & bits >> 9 & 0x1357);
            hashes.push(Likeness(if index % 3 == 0 { bits } else { near }));
        }
        for distance in [0, 1, 3, 6, 40, 127] {
            let mut slow: Vec<Option<usize>> = Vec::new();
            for (index, &hash) in hashes.iter().enumerate() {
                let first = (0..index).find(|&earlier| {
                    slow[earlier].is_none() && hashes[earlier].distance(hash) <= distance
                });
                slow.push(first);
            }
            assert_eq!(near_duplicates(&hashes, distance), slow, "{distance}");
            assert!(slow.iter().any(Option::is_some));
        }
    }
}
