//! Limits of decoding, and the errors of files that are outside of them or damaged.

use std::{
    any::Any,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use image::{
    ImageError,
    error::{DecodingError, ImageFormatHint},
};

use super::{
    Image, Pixels,
    options::{DecodeOptions, limit},
};
use crate::{Error, Result};

/// Reads a file within the limits.
pub(crate) fn read(path: &Path, options: &DecodeOptions) -> Result<Vec<u8>> {
    let io = |cause| Error::Io { path: path.into(), cause };
    let metadata = fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        // Opening a pipe would wait for ever.
        let what = if metadata.is_dir() { "a folder" } else { "a file that is not a regular file" };
        return Err(Error::Unsupported { path: path.into(), what: what.into() });
    }
    limit(path, "bytes of file", options.max_alloc_bytes, metadata.len())?;
    pad_ops::fs::read(path).map_err(io)
}

/// The refusal of a decoder, in our words where we have some.
pub(super) fn refused(path: &Path, source: ImageError) -> Error {
    match source {
        ImageError::Unsupported(what) => {
            Error::Unsupported { path: path.into(), what: format!("this kind of image ({what})") }
        }
        cause => Error::Decode { path: path.into(), cause },
    }
}

/// A file that is not what it claims to be.
pub(crate) fn damaged(
    path: &Path,
    format: impl Into<ImageFormatHint>,
    what: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let cause = ImageError::Decoding(DecodingError::new(format.into(), what));
    Error::Decode { path: path.into(), cause }
}

/// An image of decoded samples, with the pixels of `masked` and those that hold NaN masked.
///
/// # Errors
/// [`Error::NotFinite`] for an infinite sample of another pixel, [`Error::NoData`] if all pixels
/// are masked.
pub(super) fn finished(path: &Path, image: Image, mut masked: Vec<bool>) -> Result<Image> {
    let (width, channels) = (image.size().width, image.channels());
    if let Pixels::F32(values) = image.pixels() {
        let pixels = values.chunks_exact(channels).zip(&mut masked).enumerate();
        for (pixel, (samples, masked)) in pixels {
            *masked |= samples.iter().any(|value| value.is_nan());
            let infinite = samples.iter().find(|value| value.is_infinite());
            if let Some(&value) = infinite.filter(|_| !*masked) {
                let (row, column) = (pixel / width, pixel % width);
                return Err(Error::NotFinite { path: path.into(), row, column, value });
            }
        }
    }
    match masked.iter().all(|&masked| masked) {
        true => Err(Error::NoData { path: path.into() }),
        false => image.with_mask(masked),
    }
}

/// Runs a decoder; a panic becomes an error, because decoders see hostile input.
pub(super) fn guarded<T>(
    path: &Path,
    format: impl Into<ImageFormatHint>,
    decoder: impl FnOnce() -> Result<T>,
) -> Result<T> {
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
        let decoder = || -> Result<()> { panic!("index {}", 7) };
        let error = guarded(Path::new("a.bmp"), image::ImageFormat::Bmp, decoder);
        assert_eq!(
            error.unwrap_err().to_string(),
            "a.bmp: cannot decode: Format error decoding Bmp: the decoder panicked: index 7"
        );
    }
}
