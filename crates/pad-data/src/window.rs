//! Windows: counts or kelvin to levels of 0 to 255.
//!
//! A thermal detector uses a narrow band of its 16 bits (a few hundred counts of 65,536). A window
//! maps a band of values to 0 to 255 without rounding, so that the band keeps its precision. Gain
//! controls as cameras have them spread values by how often they occur.

mod gain;
mod percentiles;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::percentiles::percentile;
use self::{
    gain::Samples,
    percentiles::{Percentiles, counts_percentiles, floats_percentiles},
};
use crate::{
    Error, Result,
    image::{Image, Pixels},
};

/// Percentiles of the band that a gain control spreads; a dead pixel must not stretch it.
const GAIN_BAND: (f64, f64) = (0.1, 99.9);

/// How values become levels of 0 to 255. Values outside of a band are clipped; 8-bit images stay
/// unchanged: a gain control was applied to them before they were stored.
///
/// ```
/// use pad_data::{ImageSize, image::{Image, Pixels}, window::Window};
/// let counts = Image::new(ImageSize::new(1, 3), 1, Pixels::U16(vec![7000, 7100, 7300]))?;
/// let window: Window = Window::Fixed { low: 7000.0, high: 7200.0 };
/// window.validate()?;
/// let levels = window.apply(counts)?;
/// assert_eq!(levels.into_pixels(), Pixels::F32(vec![0.0, 127.5, 255.0])); // clipped
/// assert_eq!(Window::default(), Window::Percentile { low: 1.0, high: 99.0 });
/// # Ok::<(), pad_data::Error>(())
/// ```
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
    /// Histogram equalisation with a plateau, separately for each image: the gain control of most
    /// thermal cameras. 1024 bins lie between the 0.1st and the 99.9th percentile; the level of a
    /// value is the share of values below it, where a bin counts at most `limit` per cent of the
    /// values.
    Plateau {
        /// Largest share of a bin, per cent, above 0 to 100; 100 is plain equalisation.
        limit: f64,
    },
    /// Contrast-limited adaptive histogram equalisation, separately for each image: a curve for
    /// each of `tiles` x `tiles` parts, interpolated between their centres, over 256 bins of the
    /// same band.
    Clahe {
        /// Parts per side, 1 to 64.
        tiles: usize,
        /// Largest count of a bin as a multiple of the mean one, at least 1; what exceeds it is
        /// spread over all bins.
        limit: f64,
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
///
/// ```
/// use pad_data::window::{Sensor, Window};
/// // 0 to 100 degrees Celsius in hundredths of a kelvin.
/// let Window::Fixed { low, high } = Sensor::TLINEAR_10_MK.celsius(0.0, 100.0)? else { panic!() };
/// assert!((low - 27_315.0).abs() < 1e-6 && (high - 37_315.0).abs() < 1e-6);
/// # Ok::<(), pad_data::Error>(())
/// ```
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

    /// [`Window::Plateau`] with a limit of 1 per cent.
    pub const PLATEAU: Self = Window::Plateau { limit: 1.0 };
    /// [`Window::Clahe`] with 8 x 8 tiles and a limit of 2.
    pub const CLAHE: Self = Window::Clahe { tiles: 8, limit: 2.0 };

    /// Checks that `low` is below `high`, and limits.
    ///
    /// # Errors
    /// [`Error::Setting`] if `low` is not below `high`, a percentile is outside 0 to 100, or a
    /// limit or a number of tiles is outside its range.
    pub fn validate(&self) -> Result<()> {
        let (fine, expected, found) = match *self {
            Window::Percentile { low, high } => (
                low >= 0.0 && high <= 100.0 && low < high,
                "percentiles with 0 <= low < high <= 100",
                format!("low {low}, high {high}"),
            ),
            Window::Fixed { low, high } => (
                low.is_finite() && high.is_finite() && low < high,
                "finite values with low < high",
                format!("low {low}, high {high}"),
            ),
            Window::Plateau { limit } => (
                limit > 0.0 && limit <= 100.0,
                "a plateau above 0 to 100 per cent",
                format!("a limit of {limit}"),
            ),
            Window::Clahe { tiles, limit } => (
                (1..=64).contains(&tiles) && limit >= 1.0 && limit.is_finite(),
                "1 to 64 tiles and a limit of at least 1",
                format!("{tiles} tiles, a limit of {limit}"),
            ),
        };
        match fine {
            true => Ok(()),
            false => Err(Error::Setting { name: "window", expected: expected.into(), found }),
        }
    }

    /// Returns the image in levels of 0 to 255: 16-bit and float images become floats,
    /// `255 (value - low) / (high - low)`, clipped and not rounded, or as the gain control says;
    /// 8-bit images stay unchanged. If the band is empty (all values equal), all levels are 0.
    ///
    /// [Masked](Image::masked) pixels count for no percentile and no histogram; their level is 0,
    /// the low end. Bands other than grey and RGB (2, 4 and more) have a window each, since their
    /// units may differ.
    ///
    /// # Errors
    /// As [`Window::validate`].
    pub fn apply(&self, image: Image) -> Result<Image> {
        self.validate()?;
        let mut levels = match image.pixels() {
            Pixels::U8(_) if image.masked().is_none() => return Ok(image),
            Pixels::U8(levels) => {
                let mut levels = levels.clone();
                blacken(&mut levels, &image, 0);
                return image.with_pixels(image.channels(), Pixels::U8(levels));
            }
            Pixels::U16(values) => self.levels(values, &image, counts_percentiles),
            Pixels::F32(values) => self.levels(values, &image, floats_percentiles),
        };
        blacken(&mut levels, &image, 0.0);
        image.with_pixels(image.channels(), Pixels::F32(levels))
    }

    /// Levels of all samples.
    fn levels<T: Copy + Into<f32>>(
        &self,
        values: &[T],
        image: &Image,
        percentiles: Percentiles<T>,
    ) -> Vec<f32> {
        let bands = image.channels();
        if matches!(bands, 1 | 3) {
            return self.levels_of_group(values, bands, image, percentiles);
        }
        let mut levels = vec![0.0; values.len()];
        for band in 0..bands {
            let of_band: Vec<T> = values.iter().skip(band).step_by(bands).copied().collect();
            let found = self.levels_of_group(&of_band, 1, image, percentiles);
            for (level, found) in levels.iter_mut().skip(band).step_by(bands).zip(found) {
                *level = found;
            }
        }
        levels
    }

    /// Levels of samples, `channels` a pixel, that share a window.
    fn levels_of_group<T: Copy + Into<f32>>(
        &self,
        values: &[T],
        channels: usize,
        image: &Image,
        percentiles: Percentiles<T>,
    ) -> Vec<f32> {
        let masked = image.masked();
        let band = |percents| match masked {
            None => percentiles(&mut values.iter().copied(), percents),
            Some(masked) => {
                let pixels = values.chunks_exact(channels).zip(masked);
                let valid = pixels.filter(|(_, masked)| !**masked).flat_map(|(pixel, _)| pixel);
                percentiles(&mut valid.copied(), percents)
            }
        };
        let samples = |band| Samples { values, size: image.size(), channels, masked, band };
        match *self {
            Window::Fixed { low, high } => stretched(values, low, high),
            Window::Percentile { low, high } => {
                let (low, high) = band((low, high));
                stretched(values, low, high)
            }
            Window::Plateau { limit } => match band(GAIN_BAND) {
                (low, high) if low < high => samples((low, high)).plateau(limit),
                _ => vec![0.0; values.len()],
            },
            Window::Clahe { tiles, limit } => match band(GAIN_BAND) {
                (low, high) if low < high => samples((low, high)).clahe(tiles, limit),
                _ => vec![0.0; values.len()],
            },
        }
    }
}

/// Sets masked pixels of an image to the level `black`.
fn blacken<T: Copy>(levels: &mut [T], image: &Image, black: T) {
    let Some(masked) = image.masked() else { return };
    for (pixel, masked) in levels.chunks_exact_mut(image.channels()).zip(masked) {
        if *masked {
            pixel.fill(black);
        }
    }
}

/// `LOW%,HIGH%` for percentiles, `LOW,HIGH` for a fixed band, `plateau:LIMIT%`,
/// `clahe:TILES,LIMIT`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::Percentile { low, high } => write!(f, "{low}%,{high}%"),
            Window::Fixed { low, high } => write!(f, "{low},{high}"),
            Window::Plateau { limit } => write!(f, "plateau:{limit}%"),
            Window::Clahe { tiles, limit } => write!(f, "clahe:{tiles},{limit}"),
        }
    }
}

/// As [`Display`](fmt::Display) writes it; `plateau` and `clahe` alone have their default limits.
impl FromStr for Window {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let number = |part: &str| part.trim().parse::<f64>().ok();
        let percent = |part: &str| part.strip_suffix('%').and_then(number);
        let after = |name: &str| {
            let rest = parts.first()?.strip_prefix(name)?.trim().strip_prefix(':')?;
            Some(rest.trim())
        };
        let window = match (&parts[..], after("plateau"), after("clahe")) {
            (["plateau"], ..) => Some(Window::PLATEAU),
            (["clahe"], ..) => Some(Window::CLAHE),
            ([_], Some(limit), _) => percent(limit).map(|limit| Window::Plateau { limit }),
            ([_, limit], _, Some(tiles)) => {
                let numbers = tiles.parse().ok().zip(number(limit));
                numbers.map(|(tiles, limit)| Window::Clahe { tiles, limit })
            }
            ([low, high], ..) => match (number(low), number(high), percent(low), percent(high)) {
                (Some(low), Some(high), ..) => Some(Window::Fixed { low, high }),
                (.., Some(low), Some(high)) => Some(Window::Percentile { low, high }),
                _ => None,
            },
            _ => None,
        };
        let window = window.ok_or_else(|| Error::Setting {
            name: "window",
            expected: "LOW,HIGH in the files' units, LOW%,HIGH% for percentiles, plateau or clahe"
                .into(),
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
    fn masked_pixels_count_for_nothing_and_are_black() {
        // 100 values, and as many masked zeros.
        let counts: Vec<u16> = (0..200).map(|i| if i % 2 == 0 { 0 } else { 1000 + i }).collect();
        let masked: Vec<bool> = (0..200).map(|i| i % 2 == 0).collect();
        let odd: Vec<u16> = counts.iter().copied().filter(|&count| count > 0).collect();
        let floats = |counts: &[u16]| counts.iter().map(|&count| f32::from(count)).collect();
        for window in
            [Window::default(), Window::PLATEAU, Window::CLAHE, "1000,1200".parse().unwrap()]
        {
            for (with, without) in [
                (Pixels::U16(counts.clone()), Pixels::U16(odd.clone())),
                (Pixels::F32(floats(&counts)), Pixels::F32(floats(&odd))),
            ] {
                let masked = image(with).with_mask(masked.clone()).unwrap();
                let found = window.apply(masked).unwrap();
                assert_eq!(found.masked().unwrap().iter().filter(|&&masked| masked).count(), 100);
                let found = levels(found);
                let expected = levels(window.apply(image(without)).unwrap());
                assert!(found.iter().step_by(2).all(|&level| level == 0.0), "{window}");
                for (index, (found, expected)) in
                    found.iter().skip(1).step_by(2).zip(&expected).enumerate()
                {
                    // Parts of another size have other curves.
                    let near = if window == Window::CLAHE { 20.0 } else { 1e-3 };
                    assert!(
                        (found - expected).abs() < near,
                        "{window} {index}: {found} {expected}"
                    );
                }
            }
        }
        let bytes = image(Pixels::U8(vec![9, 7, 8])).with_mask(vec![true, false, false]).unwrap();
        assert_eq!(Window::default().apply(bytes).unwrap().pixels(), &Pixels::U8(vec![0, 7, 8]));
    }

    #[test]
    fn bands_have_a_window_each() {
        let values =
            (0..400).map(|i| if i % 4 == 3 { 290.0 + i as f32 } else { i as f32 }).collect();
        let bands = Image::new(ImageSize::new(1, 100), 4, Pixels::F32(values)).unwrap();
        let found = levels("0%,100%".parse::<Window>().unwrap().apply(bands).unwrap());
        for band in 0..4 {
            assert_eq!((found[band], found[396 + band]), (0.0, 255.0), "{band}");
        }
    }

    #[test]
    fn eight_bits_stay_unchanged() {
        let image = image(Pixels::U8(vec![3, 200]));
        assert_eq!(Window::default().apply(image.clone()).unwrap(), image);
    }

    #[test]
    fn texts_come_back() {
        for text in
            ["1%,99%", "0.5%,100%", "28000,31000.5", "-10,45", "plateau:0.5%", "clahe:4,2.5"]
        {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        assert_eq!("1 %, 99 %".parse::<Window>().unwrap(), Window::default());
        assert_eq!("plateau".parse::<Window>().unwrap(), Window::PLATEAU);
        assert_eq!("clahe".parse::<Window>().unwrap(), Window::CLAHE);
        assert!("plateau:0%".parse::<Window>().is_err() && "clahe:0,2".parse::<Window>().is_err());
        for text in ["plateau:1", "clahe:8", "1", "1%,99", "a,b", "1,2,3", ""] {
            assert_eq!(
                text.parse::<Window>().unwrap_err().to_string(),
                format!(
                    "`window` is `{text}`, expected LOW,HIGH in the files' units, LOW%,HIGH% for \
                     percentiles, plateau or clahe"
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
