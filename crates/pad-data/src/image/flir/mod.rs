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

mod calibration;
mod container;

use std::path::Path;

use image::ImageFormat;
use pad_ops::ImageSize;

pub use self::calibration::{Atmosphere, Calibration, Planck};
use self::container::Records;
pub(crate) use self::container::contains;
use super::{
    Image, Pixels,
    limits::{DecodeOptions, damaged, guarded},
    plain,
};
use crate::{Error, Result};

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
