//! Statistics of a set of images, for normalisation and fixed windows.

use std::collections::BTreeMap;

use pad_ops::ImageSize;
use rayon::prelude::*;

use crate::{
    Error, Result,
    dataset::Dataset,
    image::{DecodeOptions, Image, Pixels},
    window::{Window, percentile},
};

/// The number of pixels kept for the percentiles, all images together.
const KEPT_PIXELS: usize = 1 << 24;

/// The statistics of a set of images, each converted to grey.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// The number of images read.
    pub images: usize,
    /// The number of their pixels, without those that are [masked](Image::masked).
    pub pixels: u64,
    /// The number of masked pixels: nodata, NaN, absent tiles, dead pixels. They count for nothing
    /// else here.
    pub masked: u64,
    /// Mean of all pixels after the window, as a share of 255, as in
    /// [`Normalize`](crate::transform::Normalize).
    pub mean: f64,
    /// Standard deviation of all pixels after the window, as a share of 255.
    pub std: f64,
    /// The requested percentiles before the window, in the files' own units (levels, counts,
    /// kelvin), as in [`Window::Fixed`]. Exact up to 2^24 pixels; beyond, of 2^24 pixels evenly
    /// spaced in each image.
    pub percentiles: Vec<f64>,
    /// The smallest and the largest value, in the files' own units.
    pub range: (f32, f32),
    /// The number of images per kind of samples, most frequent first.
    pub kinds: Vec<(Samples, usize)>,
    /// The number of images per size, most frequent first.
    pub sizes: Vec<(ImageSize, usize)>,
    /// The errors of files that could not be read.
    pub unreadable: Vec<String>,
}

/// The type of an image's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Samples {
    /// 8-bit levels.
    U8,
    /// 16-bit counts.
    U16,
    /// Floats: kelvin, or counts of another width.
    F32,
}

impl std::fmt::Display for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Samples::U8 => "8 bits",
            Samples::U16 => "16 bits",
            Samples::F32 => "floats",
        })
    }
}

/// The contribution of one image.
struct Part {
    pixels: u64,
    masked: u64,
    size: ImageSize,
    samples: Samples,
    range: (f32, f32),
    sum: f64,
    squares: f64,
    kept: Vec<f32>,
}

impl Statistics {
    /// Reads all images of a set on all threads; the result does not depend on their number.
    /// `percents` are numbers from 0 to 100. Unreadable files are listed and skipped.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid window or percentile and for an empty set; the first
    /// file's error if no file can be read.
    pub fn of(
        images: &(impl Dataset<Sample = Image> + ?Sized),
        decode_options: &DecodeOptions,
        window: &Window,
        percents: &[f64],
    ) -> Result<Self> {
        window.validate()?;
        if let Some(percent) = percents.iter().find(|percent| !(0.0..=100.0).contains(*percent)) {
            return Err(Error::Setting {
                name: "percents",
                expected: "0 to 100".into(),
                found: percent.to_string(),
            });
        }
        let kept_each = (KEPT_PIXELS / images.len().max(1)).max(1);
        let parts: Vec<Result<Part>> = (0..images.len())
            .into_par_iter()
            .map(|index| Part::of(images.get(index, decode_options)?.to_gray(), window, kept_each))
            .collect();

        // In the order of the files: sums of floats depend on the order.
        let (mut count, mut pixels, mut masked) = (0, 0_u64, 0_u64);
        let (mut sum, mut squares) = (0.0, 0.0);
        let mut range = (f32::INFINITY, f32::NEG_INFINITY);
        let (mut kinds, mut sizes) = (BTreeMap::new(), BTreeMap::new());
        let (mut kept, mut unreadable, mut first_fault) = (Vec::new(), Vec::new(), None);
        for part in parts {
            match part {
                Ok(part) => {
                    count += 1;
                    range = (range.0.min(part.range.0), range.1.max(part.range.1));
                    *kinds.entry(part.samples).or_insert(0) += 1;
                    *sizes.entry((part.size.height, part.size.width)).or_insert(0) += 1;
                    pixels += part.pixels;
                    masked += part.masked;
                    sum += part.sum;
                    squares += part.squares;
                    kept.extend(part.kept);
                }
                Err(error) => {
                    unreadable.push(error.to_string());
                    first_fault.get_or_insert(error);
                }
            }
        }
        if pixels == 0 {
            return Err(first_fault.unwrap_or(Error::Setting {
                name: "images",
                expected: "at least one image".into(),
                found: "an empty set".into(),
            }));
        }
        let mean = sum / pixels as f64;
        let std = (squares / pixels as f64 - mean * mean).max(0.0).sqrt();
        let percentiles = percents.iter().map(|&percent| percentile(&mut kept, percent)).collect();
        let sizes =
            sizes.into_iter().map(|((height, width), n)| (ImageSize::new(height, width), n));
        Ok(Self {
            images: count,
            pixels,
            masked,
            mean,
            std,
            percentiles,
            range,
            kinds: by_frequency(kinds.into_iter().collect()),
            sizes: by_frequency(sizes.collect()),
            unreadable,
        })
    }
}

/// Sorts by frequency, most frequent first; equally frequent items keep their order.
fn by_frequency<T>(mut counts: Vec<(T, usize)>) -> Vec<(T, usize)> {
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

impl Part {
    fn of(image: Image, window: &Window, kept_each: usize) -> Result<Self> {
        let size = image.size();
        let area = size.area();
        let mask = image.masked().map(<[bool]>::to_vec);
        let masked = mask.iter().flatten().filter(|&&masked| masked).count();
        let step = area.div_ceil(kept_each).max(1);
        let mask = mask.as_deref();
        let (kept, range, samples) = match image.pixels() {
            Pixels::U8(values) => of_values(values, mask, step, Samples::U8),
            Pixels::U16(values) => of_values(values, mask, step, Samples::U16),
            Pixels::F32(values) => of_values(values, mask, step, Samples::F32),
        };
        let (sum, squares) = match window.apply(image)?.pixels() {
            Pixels::U8(levels) => sums(valid(levels, mask).map(f64::from)),
            Pixels::U16(counts) => sums(valid(counts, mask).map(f64::from)),
            Pixels::F32(levels) => sums(valid(levels, mask).map(f64::from)),
        };
        let pixels = (area - masked) as u64;
        Ok(Self { pixels, masked: masked as u64, size, samples, range, sum, squares, kept })
    }
}

/// The values that are not masked.
fn valid<'a, T: Copy>(values: &'a [T], mask: Option<&'a [bool]>) -> impl Iterator<Item = T> + 'a {
    let is_valid = move |pixel: usize| mask.is_none_or(|mask| !mask[pixel]);
    values.iter().enumerate().filter(move |(pixel, _)| is_valid(*pixel)).map(|(_, &value)| value)
}

/// Returns every `step`-th value, the smallest and the largest.
fn of_values<T: Copy + Into<f32>>(
    values: &[T],
    mask: Option<&[bool]>,
    step: usize,
    samples: Samples,
) -> (Vec<f32>, (f32, f32), Samples) {
    let kept = valid(values, mask).step_by(step).map(Into::into).collect();
    let range = valid(values, mask)
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| {
            (low.min(value.into()), high.max(value.into()))
        });
    (kept, range, samples)
}

/// Returns sum and sum of squares of the levels as shares of 255.
fn sums(levels: impl Iterator<Item = f64>) -> (f64, f64) {
    let (sum, squares) =
        levels.fold((0.0, 0.0), |(sum, squares), level| (sum + level, squares + level * level));
    (sum / 255.0, squares / (255.0 * 255.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::ImageFolder;

    #[test]
    fn kinds_sizes_and_range_are_counted() {
        let root = tempfile::tempdir().unwrap();
        let save = |name: &str, image: image::DynamicImage| {
            image.save(root.path().join(name)).unwrap();
        };
        for index in 0..2 {
            let gray = image::GrayImage::from_pixel(20, 30, image::Luma([9 + index]));
            save(&format!("{index}.png"), gray.into());
        }
        let counts = image::ImageBuffer::from_fn(40, 16, |x, _| image::Luma([500 + x as u16]));
        save("2.png", counts.into());
        let folder = ImageFolder::open(root.path()).unwrap();
        let window = Window::default();
        let options = DecodeOptions::default();
        let found = Statistics::of(&folder, &options, &window, &[0.0, 50.0, 100.0]).unwrap();
        assert_eq!(found.range, (9.0, 539.0));
        assert_eq!(found.kinds, [(Samples::U8, 2), (Samples::U16, 1)]);
        let sizes = [(ImageSize::new(30, 20), 2), (ImageSize::new(16, 40), 1)];
        assert_eq!(found.sizes, sizes);
        assert_eq!((found.images, found.pixels), (3, 1840));
        // 600 nines, 600 tens, 640 counts: rank 919.5 lies among the tens.
        assert_eq!(found.percentiles, [9.0, 10.0, 539.0]);
    }
}
