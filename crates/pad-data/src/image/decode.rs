//! Files to images. The format is taken from the content, then from the extension.
//!
//! A file comes from outside: its size is checked before memory is taken for it, a truncated one is
//! refused, and a decoder that panics is caught.

use std::path::Path;

use image::ImageFormat;

use super::{
    Image,
    flir::Radiometric,
    jpeg,
    limits::{DecodeOptions, damaged, guarded, read},
    plain, tiff,
};
use crate::{Error, Result};

/// Extensions of the formats that [`decode`] reads, lower case.
pub const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff"];

/// Reads an image file: PNG, JPEG, BMP or TIFF; 8 or 16 bits, grey or RGB; palettes become RGB, an
/// alpha channel is dropped; radiometric JPEG of FLIR as kelvin; TIFF also with floats and signed
/// or 32-bit counts, which become floats. Of a TIFF with several pages the first is read. An EXIF
/// orientation is not applied (boxes and masks refer to the pixels as stored).
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Decode`] if it is empty, truncated, damaged
/// or makes its decoder panic, [`Error::Unsupported`] for other formats and layouts,
/// [`Error::Limit`], [`Error::TooSmall`], and [`Error::NotFinite`] for floats that are not finite,
/// [`Error::Structure`] for a damaged radiometric JPEG.
pub fn decode(path: &Path, options: &DecodeOptions) -> Result<Image> {
    decode_bytes(&read(path, options)?, path, options)
}

/// [`decode`] of a file that is already in memory. `path` names it in errors, and gives the format
/// where the content does not.
///
/// # Errors
/// As [`decode`].
pub fn decode_bytes(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<Image> {
    let format = format(bytes, path)?;
    guarded(path, format, || decode_known(bytes, path, format, options, false))
}

/// [`decode`] that gives one channel wherever nothing is lost by it.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_collapsed(path: &Path, options: &DecodeOptions) -> Result<Image> {
    decode_bytes_collapsed(&read(path, options)?, path, options)
}

/// [`decode_bytes`] that gives one channel wherever nothing is lost by it.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_bytes_collapsed(
    bytes: &[u8],
    path: &Path,
    options: &DecodeOptions,
) -> Result<Image> {
    let format = format(bytes, path)?;
    guarded(path, format, || decode_known(bytes, path, format, options, true))
        .map(Image::collapse_gray)
}

fn decode_known(
    bytes: &[u8],
    path: &Path,
    format: ImageFormat,
    options: &DecodeOptions,
    collapse: bool,
) -> Result<Image> {
    if bytes.is_empty() {
        return Err(damaged(path, format, "the file is empty"));
    }
    if format == ImageFormat::Jpeg
        && options.radiometric
        && let Some(thermal) = Radiometric::parse(bytes, path, options)?
    {
        return thermal.kelvin().map_err(|error| damaged(path, format, error.to_string()));
    }
    if format == ImageFormat::Jpeg
        && let Some(decoded) = jpeg::decode(bytes, path, options)?
    {
        let repeat = decoded.channels == 3 && !collapse;
        return Ok(if repeat { decoded.image.to_rgb() } else { decoded.image });
    }
    match format {
        ImageFormat::Tiff => tiff::decode(bytes, path, options),
        _ => plain::decode(bytes, path, format, options),
    }
}

fn format(bytes: &[u8], path: &Path) -> Result<ImageFormat> {
    let unsupported = |what: String| Error::Unsupported { path: path.into(), what };
    let format = image::guess_format(bytes)
        .or_else(|_| ImageFormat::from_path(path))
        .map_err(|_| unsupported("a file other than PNG, JPEG, BMP and TIFF".into()))?;
    match format {
        ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Bmp | ImageFormat::Tiff => Ok(format),
        other => Err(unsupported(format!("a file of the format {other:?}"))),
    }
}
