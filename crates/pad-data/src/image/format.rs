//! Formats of image files, by their content.

use std::path::Path;

use image::{ImageFormat, error::ImageFormatHint};

use crate::{Error, Result};

/// Extensions of the formats that [`decode`](super::decode) reads, lower case.
pub const EXTENSIONS: [&str; 10] =
    ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "npy", "seq", "csq", "fff"];

/// A format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One of the `image` crate.
    Known(ImageFormat),
    /// An array of NumPy.
    Npy,
    /// One or more FFF records of FLIR.
    Flir,
}

impl Format {
    /// The format of a file, by its content, then by its extension.
    pub(super) fn of(bytes: &[u8], path: &Path) -> Result<Self> {
        let unsupported = |what: String| Error::Unsupported { path: path.into(), what };
        if bytes.starts_with(b"\x93NUMPY") {
            return Ok(Self::Npy);
        }
        if bytes.starts_with(b"FFF\0") {
            return Ok(Self::Flir);
        }
        // BigTIFF, which the guess does not know.
        if bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+") {
            return Ok(Self::Known(ImageFormat::Tiff));
        }
        let other =
            "a file other than PNG, JPEG, BMP, TIFF, NumPy arrays and sequences of FLIR cameras";
        let by_name = || {
            let extension = path.extension()?.to_str()?.to_ascii_lowercase();
            match extension.as_str() {
                "npy" => Some(Self::Npy),
                "seq" | "csq" | "fff" => Some(Self::Flir),
                _ => ImageFormat::from_path(path).ok().map(Self::Known),
            }
        };
        let found = image::guess_format(bytes).ok().map(Self::Known).or_else(by_name);
        match found.ok_or_else(|| unsupported(other.into()))? {
            Self::Known(
                format @ (ImageFormat::Png
                | ImageFormat::Jpeg
                | ImageFormat::Bmp
                | ImageFormat::Tiff),
            ) => Ok(Self::Known(format)),
            Self::Known(format) => Err(unsupported(format!("a file of the format {format:?}"))),
            own => Ok(own),
        }
    }
}

impl From<Format> for ImageFormatHint {
    fn from(format: Format) -> Self {
        match format {
            Format::Known(format) => format.into(),
            Format::Npy => ImageFormatHint::Name("NPY".into()),
            Format::Flir => ImageFormatHint::Name("FFF".into()),
        }
    }
}
