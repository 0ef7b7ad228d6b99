//! Windows: counts or kelvin to levels of 0 to 255.
//!
//! A thermal detector uses a narrow band of its 16 bits (a few hundred counts of 65,536). A window
//! maps a band of values to 0 to 255 without rounding, so that the band keeps its precision.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    image::{Image, Pixels},
};

/// The band of values that is mapped to 0 to 255. Values outside are clipped; 8-bit images stay
/// unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Window {
    /// From the `low`-th to the `high`-th percentile (0 to 100), separately for each image.
    Percentile {
        /// Percentile mapped to 0.
        low: f64,
        /// Percentile mapped to 255.
        high: f64,
    },
    /// The same band for every image, in the file's own units: counts or kelvin.
    Fixed {
        /// Value mapped to 0.
        low: f64,
        /// Value mapped to 255.
        high: f64,
    },
}

impl Default for Window {
    /// The 1st to the 99th percentile of each image.
    fn default() -> Self {
        Window::Percentile { low: 1.0, high: 99.0 }
    }
}

/// The calibration of linear counts: `kelvin = count * kelvin_per_count`. Radiometric cameras give
/// such counts; for the counts of others only a percentile window makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensor {
    /// Kelvin per count.
    pub kelvin_per_count: f64,
}

impl Sensor {
    /// Files in kelvin: float TIFF, radiometric JPEG.
    pub const KELVIN: Self = Self { kelvin_per_count: 1.0 };
    /// Hundredths of a kelvin: FLIR's TLinear of high resolution (Lepton, Boson, Tau, A-series at
    /// 10 mK).
    pub const TLINEAR_10_MK: Self = Self { kelvin_per_count: 0.01 };
    /// 40 mK: FLIR's TLinear of low resolution (Tau, Quark), for scenes beyond 382 degrees Celsius.
    pub const TLINEAR_40_MK: Self = Self { kelvin_per_count: 0.04 };
    /// 100 mK: FLIR's A-series for furnaces, Lepton of low resolution.
    pub const TLINEAR_100_MK: Self = Self { kelvin_per_count: 0.1 };
    /// 1/64 kelvin: modules of InfiRay.
    pub const INFIRAY: Self = Self { kelvin_per_count: 1.0 / 64.0 };

    /// Returns the fixed window, in counts, from `low` to `high` degrees Celsius.
    ///
    /// # Errors
    /// [`Error::Setting`] if `low` is not below `high`, or `kelvin_per_count` is not positive and
    /// finite.
    pub fn celsius(self, low: f64, high: f64) -> Result<Window> {
        if !(self.kelvin_per_count > 0.0 && self.kelvin_per_count.is_finite()) {
            return Err(Error::Setting {
                name: "kelvin_per_count",
                expected: "a number above 0".into(),
                found: self.kelvin_per_count.to_string(),
            });
        }
        let counts = |celsius: f64| (celsius + 273.15) / self.kelvin_per_count;
        let window = Window::Fixed { low: counts(low), high: counts(high) };
        window.validate()?;
        Ok(window)
    }
}

impl Window {
    /// People and rooms, -10 to 45 degrees Celsius, for files in kelvin.
    pub const INDOOR_KELVIN: Self = Window::Fixed { low: 263.15, high: 318.15 };
    /// Streets and fields in all weathers, -40 to 85 degrees Celsius, for files in kelvin.
    pub const OUTDOOR_KELVIN: Self = Window::Fixed { low: 233.15, high: 358.15 };

    /// Checks that `low` is below `high`.
    ///
    /// # Errors
    /// [`Error::Setting`] if `low` is not below `high`, or a percentile is outside 0 to 100.
    pub fn validate(&self) -> Result<()> {
        let (low, high, within) = match *self {
            Window::Percentile { low, high } => (low, high, low >= 0.0 && high <= 100.0),
            Window::Fixed { low, high } => (low, high, low.is_finite() && high.is_finite()),
        };
        if within && low < high {
            return Ok(());
        }
        let expected = match self {
            Window::Percentile { .. } => "percentiles with 0 <= low < high <= 100",
            Window::Fixed { .. } => "finite values with low < high",
        };
        Err(Error::Setting {
            name: "window",
            expected: expected.into(),
            found: format!("low {low}, high {high}"),
        })
    }

    /// Returns the image in levels of 0 to 255: 16-bit and float images become floats,
    /// `255 (value - low) / (high - low)`, clipped and not rounded; 8-bit images stay unchanged. If
    /// the band is empty (all values equal), all levels are 0.
    ///
    /// # Errors
    /// As [`Window::validate`].
    pub fn apply(&self, image: Image) -> Result<Image> {
        self.validate()?;
        let (size, channels) = (image.size(), image.channels());
        let levels = match image.pixels() {
            Pixels::U8(_) => return Ok(image),
            Pixels::U16(values) => {
                let (low, high) = match *self {
                    Window::Fixed { low, high } => (low, high),
                    Window::Percentile { low, high } => {
                        let counts = Counts::of(values);
                        (counts.percentile(low), counts.percentile(high))
                    }
                };
                stretched(values, low, high)
            }
            Pixels::F32(values) => {
                let (low, high) = match *self {
                    Window::Fixed { low, high } => (low, high),
                    Window::Percentile { low, high } => {
                        let mut sorted = values.clone();
                        (percentile(&mut sorted, low), percentile(&mut sorted, high))
                    }
                };
                stretched(values, low, high)
            }
        };
        Image::new(size, channels, Pixels::F32(levels))
    }
}

/// `LOW%,HIGH%` for percentiles, `LOW,HIGH` for a fixed band.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::Percentile { low, high } => write!(f, "{low}%,{high}%"),
            Window::Fixed { low, high } => write!(f, "{low},{high}"),
        }
    }
}

/// As [`Display`](fmt::Display) writes it.
impl FromStr for Window {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let number = |part: &str| part.trim().parse::<f64>().ok();
        let percent = |part: &str| part.strip_suffix('%').and_then(number);
        let window = match parts[..] {
            [low, high] => match (number(low), number(high), percent(low), percent(high)) {
                (Some(low), Some(high), ..) => Some(Window::Fixed { low, high }),
                (.., Some(low), Some(high)) => Some(Window::Percentile { low, high }),
                _ => None,
            },
            _ => None,
        };
        let window = window.ok_or_else(|| Error::Setting {
            name: "window",
            expected: "LOW,HIGH in the files' units, or LOW%,HIGH% for percentiles".into(),
            found: format!("`{text}`"),
        })?;
        window.validate()?;
        Ok(window)
    }
}

fn stretched<T: Copy + Into<f32>>(values: &[T], low: f64, high: f64) -> Vec<f32> {
    if low >= high {
        return vec![0.0; values.len()];
    }
    // f32 represents every 16-bit count and the difference of close ones exactly: a narrow band
    // keeps its precision.
    let (offset, factor) = (low as f32, (255.0 / (high - low)) as f32);
    let level = |&value: &T| ((value.into() - offset) * factor).clamp(0.0, 255.0);
    values.iter().map(level).collect()
}

/// The number of occurrences of each 16-bit value.
struct Counts {
    of_value: Vec<usize>,
    total: usize,
}

impl Counts {
    fn of(values: &[u16]) -> Self {
        let mut of_value = vec![0_usize; 1 << 16];
        for &value in values {
            of_value[usize::from(value)] += 1;
        }
        Self { of_value, total: values.len() }
    }

    fn percentile(&self, percent: f64) -> f64 {
        let place = Place::of(percent, self.total);
        place.between(self.ranked(place.below), self.ranked(place.below + 1))
    }

    /// Returns the value at `rank` in sorted order (the largest beyond the end).
    fn ranked(&self, rank: usize) -> f64 {
        let mut seen = 0;
        let mut last = 0;
        for (value, &count) in self.of_value.iter().enumerate().filter(|(_, count)| **count > 0) {
            seen += count;
            last = value;
            if seen > rank {
                break;
            }
        }
        last as f64
    }
}

/// Returns the `percent`-th percentile (0 to 100) of finite values, interpolated linearly between
/// the two nearest ranks (numpy's default); 0 without values. `values` is reordered.
pub fn percentile(values: &mut [f32], percent: f64) -> f64 {
    let place = Place::of(percent, values.len());
    if values.is_empty() {
        return 0.0;
    }
    let (_, &mut below, rest) =
        values.select_nth_unstable_by(place.below.min(values.len() - 1), f32::total_cmp);
    let above = rest.iter().copied().min_by(f32::total_cmp).unwrap_or(below);
    place.between(f64::from(below), f64::from(above))
}

/// A position between two ranks of a sorted list.
struct Place {
    below: usize,
    share: f64,
}

impl Place {
    fn of(percent: f64, total: usize) -> Self {
        let place = (percent / 100.0).clamp(0.0, 1.0) * (total.max(1) - 1) as f64;
        Self { below: place.floor() as usize, share: place.fract() }
    }

    /// Interpolates as numpy does, from the nearer end, so that neither end is overshot.
    fn between(&self, low: f64, high: f64) -> f64 {
        let step = high - low;
        if self.share < 0.5 { low + step * self.share } else { high - step * (1.0 - self.share) }
    }
}

#[cfg(test)]
mod tests {
    use pad_ops::ImageSize;

    use super::*;

    fn image(pixels: Pixels) -> Image {
        Image::new(ImageSize::new(1, pixels.len()), 1, pixels).unwrap()
    }

    fn levels(image: Image) -> Vec<f32> {
        let Pixels::F32(levels) = image.into_pixels() else { panic!("levels are floats") };
        levels
    }

    #[test]
    fn percentiles_are_those_of_numpy() {
        // numpy 2.4: np.percentile([3, 1, 4, 1, 5, 9, 2, 6], [0, 1, 33, 50, 99, 100]).
        let expected = [1.0, 1.0, 2.31, 3.5, 8.79, 9.0];
        let values = [3_u16, 1, 4, 1, 5, 9, 2, 6];
        let counts = Counts::of(&values);
        for (percent, expected) in [0.0, 1.0, 33.0, 50.0, 99.0, 100.0].into_iter().zip(expected) {
            assert!((counts.percentile(percent) - expected).abs() < 1e-12, "{percent}");
            let mut floats = values.map(f32::from);
            assert!((percentile(&mut floats, percent) - expected).abs() < 1e-12, "{percent}");
        }
        assert_eq!(percentile(&mut [], 50.0), 0.0);
    }

    #[test]
    fn a_narrow_band_keeps_its_precision() {
        // 300 neighbouring counts of 65,536: rounding to 8 bits would merge some of them.
        let counts: Vec<u16> = (30_000..30_300).collect();
        let window = Window::Fixed { low: 30_000.0, high: 30_299.0 };
        let levels = levels(window.apply(image(Pixels::U16(counts))).unwrap());
        assert!(levels.is_sorted_by(|a, b| a < b), "every count has its own level");
        assert_eq!((levels[0], levels[299]), (0.0, 255.0));
        assert!((levels[100] - 100.0 / 299.0 * 255.0).abs() < 1e-4);
    }

    #[test]
    fn percentiles_clip_the_tails_of_each_image() {
        let mut kelvin: Vec<f32> = (0..1001).map(|step| 273.0 + step as f32 * 0.01).collect();
        kelvin[0] = -1e6;
        let window = Window::Percentile { low: 10.0, high: 90.0 };
        let levels = levels(window.apply(image(Pixels::F32(kelvin))).unwrap());
        assert_eq!((levels[0], levels[100], levels[1000]), (0.0, 0.0, 255.0));
        assert!((levels[500] - 127.5).abs() < 0.01, "{}", levels[500]);
    }

    #[test]
    fn sensors_say_what_counts_mean() {
        let window = |sensor: Sensor| sensor.celsius(0.0, 100.0).unwrap();
        let expected = [
            (Sensor::KELVIN, 273.15, 373.15),
            (Sensor::TLINEAR_10_MK, 27_315.0, 37_315.0),
            (Sensor::TLINEAR_40_MK, 6_828.75, 9_328.75),
            (Sensor::TLINEAR_100_MK, 2_731.5, 3_731.5),
            (Sensor::INFIRAY, 17_481.6, 23_881.6),
        ];
        for (sensor, zero, hundred) in expected {
            let Window::Fixed { low, high } = window(sensor) else { panic!("fixed") };
            assert!((low - zero).abs() < 1e-9 && (high - hundred).abs() < 1e-9, "{low} {high}");
        }
        // 20.5 degrees between 0 and 100, as hundredths of a kelvin.
        let count = image(Pixels::U16(vec![27_315 + 2_050]));
        let level = levels(window(Sensor::TLINEAR_10_MK).apply(count).unwrap())[0];
        assert!((level - 0.205 * 255.0).abs() < 1e-3, "{level}");
        let wrong = Sensor { kelvin_per_count: 0.0 }.celsius(0.0, 1.0).unwrap_err();
        assert_eq!(wrong.to_string(), "`kelvin_per_count` is 0, expected a number above 0");
        let wrong = Sensor::KELVIN.celsius(3.0, 2.0).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "`window` is low 276.15, high 275.15, expected finite values with low < high"
        );
        for preset in [Window::INDOOR_KELVIN, Window::OUTDOOR_KELVIN] {
            preset.validate().unwrap();
        }
    }

    #[test]
    fn constant_images_are_zero_and_not_nan() {
        for pixels in [Pixels::U16(vec![7; 9]), Pixels::F32(vec![300.5; 9])] {
            assert_eq!(levels(Window::default().apply(image(pixels)).unwrap()), [0.0; 9]);
        }
    }

    #[test]
    fn eight_bits_stay_unchanged() {
        let image = image(Pixels::U8(vec![3, 200]));
        assert_eq!(Window::default().apply(image.clone()).unwrap(), image);
    }

    #[test]
    fn texts_come_back() {
        for text in ["1%,99%", "0.5%,100%", "28000,31000.5", "-10,45"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        assert_eq!("1 %, 99 %".parse::<Window>().unwrap(), Window::default());
        for text in ["1", "1%,99", "a,b", "1,2,3", ""] {
            assert_eq!(
                text.parse::<Window>().unwrap_err().to_string(),
                format!(
                    "`window` is `{text}`, expected LOW,HIGH in the files' units, or LOW%,HIGH% for percentiles"
                )
            );
        }
        assert!(
            "5%,101%".parse::<Window>().unwrap_err().to_string().contains("expected percentiles")
        );
    }

    #[test]
    fn invalid_bands_are_errors() {
        let text = |window: Window| window.validate().unwrap_err().to_string();
        assert_eq!(
            text(Window::Percentile { low: 5.0, high: 101.0 }),
            "`window` is low 5, high 101, expected percentiles with 0 <= low < high <= 100"
        );
        assert_eq!(
            text(Window::Fixed { low: 3.0, high: 3.0 }),
            "`window` is low 3, high 3, expected finite values with low < high"
        );
        assert!(Window::Percentile { low: f64::NAN, high: 99.0 }.validate().is_err());
    }
}
