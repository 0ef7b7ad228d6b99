//! Radiometric JPEG of FLIR cameras: beside the coloured picture the file carries the detector's
//! counts and what turns them into temperatures.
//!
//! Layout (as documented by ExifTool's FLIR tag tables): `APP1` segments that begin with `FLIR`
//! hold, in pieces, an FFF file, whose directory lists records; one is the raw image, one describes
//! the camera.
//!
//! With the count `s`, Planck's constants `R1 R2 B F O` of the calibration, emissivity `e`, the
//! atmosphere's transmission `t`, and `raw(T) = R1 / (R2 (exp(B / T) - F)) - O`:
//!
//! ```text
//! object = (s - (1 - t) raw(T_atmosphere) - (1 - e) t raw(T_reflected)) / (e t)
//! T      = B / ln(R1 / (R2 (object + O)) + F)
//! ```

mod container;

use std::path::Path;

use image::ImageFormat;
use pad_ops::ImageSize;

use self::container::Records;
pub(crate) use self::container::contains;
use super::{
    Image, Pixels,
    limits::{DecodeOptions, damaged, guarded},
    plain,
};
use crate::{Error, Result};

/// What turns counts into temperatures. Temperatures are in kelvin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Planck's constants of the camera.
    pub planck: Planck,
    /// Share of the object's radiation that is its own, above 0 to 1.
    pub emissivity: f64,
    /// Temperature of what the object reflects.
    pub reflected: f64,
    /// What lies between object and camera; `None` for nothing that counts.
    pub atmosphere: Option<Atmosphere>,
}

/// Constants of `raw(T) = R1 / (R2 (exp(B / T) - F)) - O`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planck {
    /// R1, counts.
    pub r1: f64,
    /// R2, dimensionless.
    pub r2: f64,
    /// B, kelvin.
    pub b: f64,
    /// F, dimensionless.
    pub f: f64,
    /// O, counts.
    pub o: f64,
}

/// The air between object and camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Atmosphere {
    /// Distance, metres.
    pub distance: f64,
    /// Temperature, kelvin.
    pub temperature: f64,
    /// Relative humidity, 0 to 1.
    pub humidity: f64,
    /// Attenuation without water vapour, of both terms.
    pub alpha: [f64; 2],
    /// Attenuation by water vapour, of both terms.
    pub beta: [f64; 2],
    /// Weight of the first term.
    pub weight: f64,
}

/// The thermal part of a radiometric JPEG.
#[derive(Clone, Debug, PartialEq)]
pub struct Radiometric {
    /// The detector's counts, one channel of 16 bits.
    pub counts: Image,
    /// From counts to kelvin.
    pub calibration: Calibration,
}

impl Radiometric {
    /// Reads the thermal part of a JPEG file in memory; `None` if it has none. `path` names it in
    /// errors.
    ///
    /// A raw image stored as PNG mostly has its bytes swapped, and nothing says whether: of both
    /// orders the smoother image is taken, since the wrong one turns the noisy low bytes into the
    /// high ones.
    ///
    /// # Errors
    /// [`Error::Structure`] for anything that contradicts the layout, [`Error::Unsupported`] for
    /// raw images other than 16-bit samples or PNG, [`Error::Limit`], [`Error::TooSmall`], and the
    /// faults of the PNG.
    pub fn parse(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<Option<Self>> {
        if !contains(bytes) {
            return Ok(None);
        }
        let records = Records::of_jpeg(bytes, path)?;
        let calibration = records.calibration()?;
        let raw = records.raw()?;
        options.check(path, raw.size, raw.size.area() as u64 * 2)?;
        let counts = if raw.data.starts_with(b"\x89PNG\r\n\x1a\n") {
            counts_of_png(raw.data, raw.size, path, options)?
        } else {
            raw.samples()?
        };
        let counts = Image::new(raw.size, 1, Pixels::U16(counts))?;
        Ok(Some(Self { counts, calibration }))
    }

    /// Temperatures, kelvin, one channel of floats.
    ///
    /// # Errors
    /// [`Error::Setting`] if the calibration is impossible or gives no temperature for a count that
    /// occurs.
    pub fn kelvin(&self) -> Result<Image> {
        let Pixels::U16(counts) = self.counts.pixels() else {
            return Err(Error::Setting {
                name: "counts",
                expected: "16 bits".into(),
                found: "another width".into(),
            });
        };
        let table = self.calibration.table()?;
        let mut kelvin = Vec::with_capacity(counts.len());
        for &count in counts {
            let value = table[usize::from(count)];
            if !value.is_finite() {
                return Err(Error::Setting {
                    name: "calibration",
                    expected: "a temperature for every count of the image".into(),
                    found: format!("none for {count}"),
                });
            }
            kelvin.push(value);
        }
        Image::new(self.counts.size(), 1, Pixels::F32(kelvin))
    }
}

impl Planck {
    /// The counts that a black body of `kelvin` gives.
    pub fn raw(&self, kelvin: f64) -> f64 {
        self.r1 / (self.r2 * ((self.b / kelvin).exp() - self.f)) - self.o
    }

    /// The temperature of the black body that gives `raw` counts, kelvin; NaN or infinite if no
    /// temperature does.
    pub fn kelvin(&self, raw: f64) -> f64 {
        self.b / (self.r1 / (self.r2 * (raw + self.o)) + self.f).ln()
    }
}

impl Atmosphere {
    /// Share of the radiation that comes through, 0 to 1.
    pub fn transmission(&self) -> f64 {
        let celsius = self.temperature - 273.15;
        // Water vapour by a cubic of the temperature, as FLIR publishes it.
        let exponent = 1.5587 + 0.06939 * celsius - 0.000_278_16 * celsius.powi(2)
            + 0.000_000_684_55 * celsius.powi(3);
        let water = (self.humidity * exponent.exp()).sqrt();
        let way = self.distance.sqrt();
        let term = |index: usize| (-way * (self.alpha[index] + self.beta[index] * water)).exp();
        self.weight * term(0) + (1.0 - self.weight) * term(1)
    }
}

impl Calibration {
    /// Checks that the constants give temperatures.
    fn validate(&self) -> Result<()> {
        let Planck { r1, r2, b, f, o } = self.planck;
        let finite =
            [r1, r2, b, f, o, self.emissivity, self.reflected].iter().all(|x| x.is_finite());
        let sound = r1 > 0.0 && r2 > 0.0 && b > 0.0 && self.reflected > 0.0;
        if finite && sound && self.emissivity > 0.0 && self.emissivity <= 1.0 {
            return Ok(());
        }
        Err(Error::Setting {
            name: "calibration",
            expected: "R1, R2, B and the reflected temperature above 0, an emissivity above 0 to 1"
                .into(),
            found: format!(
                "R1 {r1}, R2 {r2}, B {b}, F {f}, O {o}, reflected {} K, emissivity {}",
                self.reflected, self.emissivity
            ),
        })
    }

    /// The object's temperature for `count`, kelvin; NaN or infinite if no temperature gives it.
    fn kelvin(&self, count: f64, transmission: f64, air: f64) -> f64 {
        let mirrored = self.planck.raw(self.reflected);
        let foreign =
            (1.0 - transmission) * air + (1.0 - self.emissivity) * transmission * mirrored;
        self.planck.kelvin((count - foreign) / (self.emissivity * transmission))
    }

    /// Temperatures of all counts, kelvin; NaN if no temperature gives a count.
    ///
    /// # Errors
    /// [`Error::Setting`] for constants that give no temperatures.
    pub fn table(&self) -> Result<Vec<f32>> {
        self.validate()?;
        // A transmission outside of 0 to 1 was not measured.
        let (transmission, air) = match self.atmosphere {
            Some(air) if air.transmission() > 0.0 && air.transmission() <= 1.0 => {
                (air.transmission(), self.planck.raw(air.temperature))
            }
            _ => (1.0, 0.0),
        };
        let kelvin = |count: u16| self.kelvin(f64::from(count), transmission, air) as f32;
        let physical = |kelvin: f32| if kelvin > 0.0 { kelvin } else { f32::NAN };
        Ok((0..=u16::MAX).map(|count| physical(kelvin(count))).collect())
    }
}

fn counts_of_png(
    png: &[u8],
    size: ImageSize,
    path: &Path,
    options: &DecodeOptions,
) -> Result<Vec<u16>> {
    let decode = || plain::decode(png, path, ImageFormat::Png, options);
    let image = guarded(path, ImageFormat::Png, decode)?;
    if image.size() != size {
        let what = format!("expected a raw image of {size}, found {}", image.size());
        return Err(damaged(path, ImageFormat::Png, what));
    }
    let channels = image.channels();
    match image.into_pixels() {
        Pixels::U16(counts) if channels == 1 => {
            let swapped: Vec<u16> = counts.iter().map(|count| count.swap_bytes()).collect();
            let keeps = roughness(&counts, size.width) < roughness(&swapped, size.width);
            Ok(if keeps { counts } else { swapped })
        }
        _ => Err(Error::Unsupported {
            path: path.into(),
            what: "a radiometric JPEG whose raw image is not a grey PNG of 16 bits".into(),
        }),
    }
}

/// Sum of the differences of neighbours within rows.
fn roughness(counts: &[u16], width: usize) -> u64 {
    let row =
        |row: &[u16]| row.windows(2).map(|pair| u64::from(pair[0].abs_diff(pair[1]))).sum::<u64>();
    counts.chunks_exact(width.max(1)).map(row).sum()
}
