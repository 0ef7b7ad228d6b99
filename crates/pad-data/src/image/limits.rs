//! Limits of decoding, and the errors of files that are outside of them or damaged.

use std::{
    any::Any,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use image::{
    ImageError, ImageFormat,
    error::{DecodingError, ImageFormatHint},
};
use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use super::Image;
use crate::{Error, Result};

/// Limits of [`decode`](super::decode), and what is read of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecodeOptions {
    /// Maximum number of pixels of an image. Default 100 million.
    pub max_pixels: u64,
    /// Maximum number of bytes of a file, and of its decoded samples. Default 512 MiB.
    pub max_alloc_bytes: u64,
    /// Minimum side, pixels. Default 16, one patch.
    pub min_side: usize,
    /// Whether a radiometric JPEG of a FLIR camera gives its temperatures, kelvin, instead of its
    /// coloured picture (which may be of another size). Default true.
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
    /// Checks that an image of `size` with `bytes` of samples is within the limits.
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
    fs::read(path).map_err(io)
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
    format: ImageFormat,
    what: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let cause = ImageError::Decoding(DecodingError::new(ImageFormatHint::Exact(format), what));
    Error::Decode { path: path.into(), cause }
}

/// Runs a decoder; a panic becomes an error, because decoders see hostile input.
pub(super) fn guarded(
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
