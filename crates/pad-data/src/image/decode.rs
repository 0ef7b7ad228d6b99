//! Files to images. The format is taken from the content, then from the extension.
//!
//! A file comes from outside: its size is checked before memory is taken for it, a truncated one is refused, and a
//! decoder that panics is caught.

use std::{
    any::Any,
    fs,
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader,
    error::{DecodingError, ImageFormatHint},
};
use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use super::{Image, Pixels, flir::Radiometric, jpeg, tiff};
use crate::{Error, Result};

/// Extensions of the formats that [`decode`] reads, lower case.
pub const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff"];

/// Limits of [`decode`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecodeOptions {
    /// Most pixels of an image. Default 100 million.
    pub max_pixels: u64,
    /// Most bytes taken for a file, and for its decoded samples. Default 512 MiB.
    pub max_alloc_bytes: u64,
    /// Smallest usable side, pixels. Default 16, one patch.
    pub min_side: usize,
    /// Whether a radiometric JPEG of a FLIR camera gives its temperatures, kelvin, instead of its coloured picture
    /// (which may be of another size). Default yes.
    pub radiometric: bool,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            max_pixels: 100_000_000,
            max_alloc_bytes: 512 << 20,
            min_side: 16,
            radiometric: true,
        }
    }
}

impl DecodeOptions {
    /// Asks that an image of `size` with `bytes` of samples is within the limits.
    pub(crate) fn check(&self, path: &Path, size: ImageSize, bytes: u64) -> Result<()> {
        if size.height.min(size.width) < self.min_side.max(1) {
            return Err(Error::TooSmall {
                path: path.into(),
                found: size,
                min: self.min_side.max(1),
            });
        }
        let pixels = (size.height as u64).saturating_mul(size.width as u64);
        limit(path, "pixels", self.max_pixels, pixels)?;
        limit(path, "bytes of samples", self.max_alloc_bytes, bytes)
    }
}

fn limit(path: &Path, what: &'static str, limit: u64, found: u64) -> Result<()> {
    if found <= limit {
        return Ok(());
    }
    Err(Error::Limit { path: path.into(), what, limit, found })
}

/// Reads an image file: PNG, JPEG, BMP or TIFF; 8 or 16 bits, grey or RGB; palettes become RGB, an alpha channel is
/// dropped; radiometric JPEG of FLIR as kelvin; TIFF also with floats and signed or 32-bit counts, which become floats. Of a TIFF with several pages the
/// first is read. An EXIF orientation is not applied (boxes and masks refer to the pixels as stored).
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Decode`] if it is empty, truncated, damaged or makes its
/// decoder panic, [`Error::Unsupported`] for other formats and layouts, [`Error::Limit`], [`Error::TooSmall`], and
/// [`Error::NotFinite`] for floats that are no numbers, [`Error::Structure`] for a damaged radiometric JPEG.
pub fn decode(path: &Path, options: &DecodeOptions) -> Result<Image> {
    decode_bytes(&read(path, options)?, path, options)
}

/// The bytes of a file within the limits.
pub(crate) fn read(path: &Path, options: &DecodeOptions) -> Result<Vec<u8>> {
    let io = |source| Error::Io { path: path.into(), source };
    let metadata = fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        // Opening a pipe would wait for ever.
        let what = if metadata.is_dir() { "a folder" } else { "a file that is no regular file" };
        return Err(Error::Unsupported { path: path.into(), what: what.into() });
    }
    limit(path, "bytes of file", options.max_alloc_bytes, metadata.len())?;
    fs::read(path).map_err(io)
}

/// [`decode`] of a file that is already in memory. `path` names it in errors, and gives the format where the content
/// does not.
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
        _ => decode_common(bytes, path, format, options),
    }
}

fn format(bytes: &[u8], path: &Path) -> Result<ImageFormat> {
    let unsupported = |what: String| Error::Unsupported { path: path.into(), what };
    let format = image::guess_format(bytes)
        .or_else(|_| ImageFormat::from_path(path))
        .map_err(|_| unsupported("a file that is none of PNG, JPEG, BMP and TIFF".into()))?;
    match format {
        ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Bmp | ImageFormat::Tiff => Ok(format),
        other => Err(unsupported(format!("a file of the format {other:?}"))),
    }
}

fn decode_common(
    bytes: &[u8],
    path: &Path,
    format: ImageFormat,
    options: &DecodeOptions,
) -> Result<Image> {
    if format == ImageFormat::Jpeg && !jpeg::is_complete(bytes) {
        // The decoder would fill the rest with grey and report success.
        return Err(damaged(path, format, "the file ends before the end-of-image marker"));
    }
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format)
        .into_decoder()
        .map_err(|source| refused(path, source))?;
    let (width, height) = decoder.dimensions();
    let size = ImageSize::new(height as usize, width as usize);
    options.check(path, size, decoder.total_bytes())?;
    let mut limits = image::Limits::no_limits();
    // The decoder's own buffers come on top of the samples, whose size was checked.
    limits.max_alloc = Some(options.max_alloc_bytes.saturating_mul(2));
    decoder.set_limits(limits).map_err(|source| refused(path, source))?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(|source| refused(path, source))?;
    let (channels, pixels) = match decoded {
        DynamicImage::ImageLuma8(image) => (1, Pixels::U8(image.into_raw())),
        DynamicImage::ImageLumaA8(image) => (1, Pixels::U8(without_alpha::<_, 2, 1>(&image))),
        DynamicImage::ImageRgb8(image) => (3, Pixels::U8(image.into_raw())),
        DynamicImage::ImageRgba8(image) => (3, Pixels::U8(without_alpha::<_, 4, 3>(&image))),
        DynamicImage::ImageLuma16(image) => (1, Pixels::U16(image.into_raw())),
        DynamicImage::ImageLumaA16(image) => (1, Pixels::U16(without_alpha::<_, 2, 1>(&image))),
        DynamicImage::ImageRgb16(image) => (3, Pixels::U16(image.into_raw())),
        DynamicImage::ImageRgba16(image) => (3, Pixels::U16(without_alpha::<_, 4, 3>(&image))),
        other => {
            let what = format!("an image of the layout {:?}", other.color());
            return Err(Error::Unsupported { path: path.into(), what });
        }
    };
    Image::new(size, channels, pixels)
}

/// The first `KEPT` of every `ALL` samples.
pub(super) fn without_alpha<T: Copy, const ALL: usize, const KEPT: usize>(samples: &[T]) -> Vec<T> {
    samples.as_chunks::<ALL>().0.iter().flat_map(|pixel| pixel[..KEPT].iter().copied()).collect()
}

/// The refusal of a decoder, in our words where we have some.
pub(super) fn refused(path: &Path, source: ImageError) -> Error {
    match source {
        ImageError::Unsupported(what) => {
            Error::Unsupported { path: path.into(), what: format!("this kind of image ({what})") }
        }
        source => Error::Decode { path: path.into(), source },
    }
}

/// A file that is not what it claims to be.
pub(crate) fn damaged(
    path: &Path,
    format: ImageFormat,
    what: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let source = ImageError::Decoding(DecodingError::new(ImageFormatHint::Exact(format), what));
    Error::Decode { path: path.into(), source }
}

/// Runs a decoder so that its panic is an error: decoders see hostile input.
fn guarded(
    path: &Path,
    format: ImageFormat,
    decoder: impl FnOnce() -> Result<Image>,
) -> Result<Image> {
    catch_unwind(AssertUnwindSafe(decoder)).unwrap_or_else(|panic| {
        let what = format!("the decoder panicked: {}", panic_text(panic.as_ref()));
        Err(damaged(path, format, what))
    })
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "(no text)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panicking_decoder_is_an_error() {
        let error = guarded(Path::new("a.bmp"), ImageFormat::Bmp, || panic!("index {}", 7));
        assert_eq!(
            error.unwrap_err().to_string(),
            "a.bmp: cannot decode: Format error decoding Bmp: the decoder panicked: index 7"
        );
    }
}
