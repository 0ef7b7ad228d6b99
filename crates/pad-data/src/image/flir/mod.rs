//! Radiometric JPEG of FLIR cameras: beside the coloured picture the file carries the detector's
//! counts and what turns them into temperatures. Sequences of the same cameras (`.seq`, `.csq`)
//! hold such data for frame after frame, without pictures.
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
pub(super) mod frames;
mod jpegls;

use std::path::Path;

use image::ImageFormat;
use pad_ops::ImageSize;

pub use self::calibration::{Atmosphere, Calibration, Planck};
use self::container::Records;
pub(crate) use self::container::contains;
use super::{
    Image, Pixels,
    limits::{damaged, guarded},
    options::DecodeOptions,
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
        Ok(Some(Self { counts: counts(&records, path, options)?, calibration }))
    }

    /// Temperatures, kelvin, one channel of floats. Pixels whose count no temperature gives (dead
    /// ones) are [masked](Image::masked).
    ///
    /// # Errors
    /// [`Error::Setting`] if the calibration is impossible or gives no temperature for any count of
    /// the image.
    pub fn kelvin(&self) -> Result<Image> {
        self.calibration.apply(&self.counts, 0.0).map(|(image, _)| image)
    }
}

/// The counts of a JPEG file with a thermal part.
pub(super) fn counts_of_jpeg(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<Image> {
    counts(&Records::of_jpeg(bytes, path)?, path, options)
}

/// Height and width of the thermal part of a JPEG file.
pub(super) fn size_of_jpeg(bytes: &[u8], path: &Path) -> Result<ImageSize> {
    Ok(Records::of_jpeg(bytes, path)?.raw()?.size)
}

/// The counts of an FFF file.
fn counts(records: &Records, path: &Path, options: &DecodeOptions) -> Result<Image> {
    let raw = records.raw()?;
    options.check(path, raw.size, raw.size.area() as u64 * 2)?;
    let counts = if raw.data.starts_with(b"\x89PNG\r\n\x1a\n") {
        counts_of_png(raw.data, raw.size, path, options)?
    } else if raw.data.starts_with(&[0xFF, 0xD8]) {
        jpegls::decode(raw.data, raw.size).map_err(|what| raw.refuse(&what))?
    } else {
        raw.samples()?
    };
    Image::new(raw.size, 1, Pixels::U16(counts))
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
