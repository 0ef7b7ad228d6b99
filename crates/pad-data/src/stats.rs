//! Statistics of a set of images: what to normalise with, and where to put a fixed window.

use rayon::prelude::*;
use tracing::warn;

use crate::{
    Error, Result,
    image::{DecodeOptions, Image, Pixels, decode},
    sets::ImageFolder,
    window::{Window, percentile},
};

/// Pixels that are kept for the percentiles, all images together.
const KEPT_PIXELS: usize = 1 << 24;

/// Statistics of a set of images, each taken as grey.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Images that were read.
    pub images: usize,
    /// Their pixels.
    pub pixels: u64,
    /// Mean of all pixels after the window, as a share of 255: what [`Normalize`](crate::transform::Normalize) asks
    /// for.
    pub mean: f64,
    /// Standard deviation of the same.
    pub std: f64,
    /// The percentiles asked for, before the window, in the files' own units (levels, counts, kelvin): what
    /// [`Window::Fixed`] asks for. Exact up to 2^24 pixels; beyond, of so many pixels, evenly spaced in each image.
    pub percentiles: Vec<f64>,
    /// Files that could not be read, and why.
    pub unreadable: Vec<String>,
}

/// What one image adds.
struct Part {
    pixels: u64,
    sum: f64,
    squares: f64,
    kept: Vec<f32>,
}

impl Statistics {
    /// Reads all images of `folder`, on all threads; the numbers do not depend on how many. `percents` are from 0 to
    /// 100. Unreadable files are listed and left out.
    ///
    /// # Errors
    /// [`Error::Setting`] for an impossible window or percentile; the first file's fault if none can be read;
    /// [`Error::NoImages`] for an empty list.
    pub fn of(
        folder: &ImageFolder,
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
        let kept_each = (KEPT_PIXELS / folder.len().max(1)).max(1);
        let parts: Vec<Result<Part>> = (0..folder.len())
            .into_par_iter()
            .filter_map(|index| folder.path(index))
            .map(|path| Part::of(decode(path, decode_options)?.to_gray(), window, kept_each))
            .collect();

        // Added in the order of the files: floats depend on it.
        let (mut images, mut pixels, mut sum, mut squares) = (0, 0_u64, 0.0, 0.0);
        let (mut kept, mut unreadable, mut first_fault) = (Vec::new(), Vec::new(), None);
        for part in parts {
            match part {
                Ok(part) => {
                    images += 1;
                    pixels += part.pixels;
                    sum += part.sum;
                    squares += part.squares;
                    kept.extend(part.kept);
                }
                Err(error) => {
                    warn!(%error, "unreadable image is left out");
                    unreadable.push(error.to_string());
                    first_fault.get_or_insert(error);
                }
            }
        }
        if pixels == 0 {
            return Err(first_fault.unwrap_or(Error::NoImages {
                path: folder.root().into(),
                looked_for: "a list that is not empty",
            }));
        }
        let mean = sum / pixels as f64;
        let std = (squares / pixels as f64 - mean * mean).max(0.0).sqrt();
        let percentiles = percents.iter().map(|&percent| percentile(&mut kept, percent)).collect();
        Ok(Self { images, pixels, mean, std, percentiles, unreadable })
    }
}

impl Part {
    fn of(image: Image, window: &Window, kept_each: usize) -> Result<Self> {
        let pixels = image.size().area();
        let step = pixels.div_ceil(kept_each).max(1);
        let kept = match image.pixels() {
            Pixels::U8(values) => values.iter().step_by(step).map(|&v| f32::from(v)).collect(),
            Pixels::U16(values) => values.iter().step_by(step).map(|&v| f32::from(v)).collect(),
            Pixels::F32(values) => values.iter().step_by(step).copied().collect(),
        };
        let (sum, squares) = match window.apply(image)?.pixels() {
            Pixels::U8(levels) => sums(levels.iter().map(|&level| f64::from(level))),
            Pixels::U16(counts) => sums(counts.iter().map(|&count| f64::from(count))),
            Pixels::F32(levels) => sums(levels.iter().map(|&level| f64::from(level))),
        };
        Ok(Self { pixels: pixels as u64, sum, squares, kept })
    }
}

/// Sum and sum of squares of levels as shares of 255.
fn sums(levels: impl Iterator<Item = f64>) -> (f64, f64) {
    let (sum, squares) =
        levels.fold((0.0, 0.0), |(sum, squares), level| (sum + level, squares + level * level));
    (sum / 255.0, squares / (255.0 * 255.0))
}
