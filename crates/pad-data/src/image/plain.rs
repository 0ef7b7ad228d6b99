//! The formats that the `image` crate decodes: PNG, BMP, and JPEG of the kinds that our own decoder
//! leaves to it.

use std::{io::Cursor, path::Path};

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use pad_ops::ImageSize;

use super::{
    Image, Pixels, jpeg,
    limits::{damaged, refused},
    notice::warn_once,
    options::DecodeOptions,
    orientation::Orientation,
    png, without_alpha,
};
use crate::{Error, Result};

/// Decodes an image of a known format; a PNG upright, a JPEG as stored.
pub(super) fn decode(
    bytes: &[u8],
    path: &Path,
    format: ImageFormat,
    options: &DecodeOptions,
) -> Result<Image> {
    if format == ImageFormat::Jpeg && !jpeg::is_complete(bytes) {
        // The decoder would fill the rest with grey and report success.
        return Err(damaged(path, format, "the file ends before the end-of-image marker"));
    }
    if let Some(fault) = png::palette_fault(bytes) {
        return Err(damaged(path, format, fault));
    }
    if format == ImageFormat::Png && png::is_animated(bytes) {
        warn_once(path, "animations", || "the first picture of an animation is read".into());
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
    let keep = options.alpha_is_band;
    let (channels, pixels) = match decoded {
        DynamicImage::ImageLuma8(image) => (1, Pixels::U8(image.into_raw())),
        DynamicImage::ImageLumaA8(image) if keep => (2, Pixels::U8(image.into_raw())),
        DynamicImage::ImageLumaA8(image) => (1, Pixels::U8(without_alpha::<_, 2, 1>(&image))),
        DynamicImage::ImageRgb8(image) => (3, Pixels::U8(image.into_raw())),
        DynamicImage::ImageRgba8(image) if keep => (4, Pixels::U8(image.into_raw())),
        DynamicImage::ImageRgba8(image) => (3, Pixels::U8(without_alpha::<_, 4, 3>(&image))),
        DynamicImage::ImageLuma16(image) => (1, Pixels::U16(image.into_raw())),
        DynamicImage::ImageLumaA16(image) if keep => (2, Pixels::U16(image.into_raw())),
        DynamicImage::ImageLumaA16(image) => (1, Pixels::U16(without_alpha::<_, 2, 1>(&image))),
        DynamicImage::ImageRgb16(image) => (3, Pixels::U16(image.into_raw())),
        DynamicImage::ImageRgba16(image) if keep => (4, Pixels::U16(image.into_raw())),
        DynamicImage::ImageRgba16(image) => (3, Pixels::U16(without_alpha::<_, 4, 3>(&image))),
        other => {
            let what = format!("an image of the layout {:?}", other.color());
            return Err(Error::Unsupported { path: path.into(), what });
        }
    };
    orientation(bytes, format).apply(Image::new(size, channels, pixels)?)
}

fn orientation(bytes: &[u8], format: ImageFormat) -> Orientation {
    match format {
        ImageFormat::Png => png::orientation(bytes),
        _ => Orientation::default(),
    }
}

/// Height and width of an image of a known format, from its header; of a PNG upright.
pub(super) fn size(bytes: &[u8], path: &Path, format: ImageFormat) -> Result<ImageSize> {
    let decoder = ImageReader::with_format(Cursor::new(bytes), format)
        .into_decoder()
        .map_err(|source| refused(path, source))?;
    let (width, height) = decoder.dimensions();
    Ok(orientation(bytes, format).size(ImageSize::new(height as usize, width as usize)))
}
