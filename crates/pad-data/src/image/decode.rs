//! Files to images. The format is taken from the content, then from the extension.
//!
//! A file comes from outside: its size is checked before memory is taken for it, a truncated one is
//! refused, and a decoder that panics is caught.

use std::{io::Read, ops::Range, path::Path};

use image::ImageFormat;
use pad_ops::ImageSize;

use super::{
    Image,
    flir::frames,
    format::Format,
    jpeg,
    limits::{damaged, guarded, read},
    npy,
    options::DecodeOptions,
    plain, thermal, tiff,
};
use crate::{Error, Result};

/// Bytes of a file in which the size of most images is found.
const HEAD: u64 = 64 << 10;

/// Reads an image file: PNG, JPEG, BMP, TIFF, an array of NumPy (`.npy`), or a frame of a FLIR
/// sequence (`.seq`, `.csq`, `.fff`); 8 or 16 bits, floats, and other integers, which become
/// floats; one channel or several. Palettes become RGB, an alpha channel is dropped, CMYK becomes
/// RGB. Of a radiometric JPEG [`DecodeOptions::radiometric`] is read. The orientation that EXIF or
/// TIFF states is applied, to the pixels and to [`image_size`]: labels refer to the upright image.
///
/// Pixels without data are [masked](Image::masked): the nodata value of a GeoTIFF, NaN, absent
/// tiles and strips, counts that the calibration of a radiometric file gives no temperature for.
/// `docs/inputs.md` has all of this in one table.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Decode`] if it is empty, truncated, damaged
/// or makes its decoder panic, [`Error::Unsupported`] for other formats and layouts,
/// [`Error::Limit`], [`Error::TooSmall`], [`Error::NotFinite`] for infinite floats,
/// [`Error::NoData`] if all pixels are without data, [`Error::Structure`] for a damaged radiometric
/// part.
///
/// ```
/// use pad_data::{ImageSize, draw::Canvas, image::{DecodeOptions, Pixels, decode}};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("a.png");
/// Canvas::new(ImageSize::new(16, 20), [1, 2, 3]).save_png(&path)?;
/// let image = decode(&path, &DecodeOptions::default())?;
/// assert_eq!((image.size(), image.channels()), (ImageSize::new(16, 20), 3));
/// let Pixels::U8(levels) = image.pixels() else { panic!("expected 8 bits") };
/// assert_eq!(levels[..3], [1, 2, 3]);
/// # Ok::<(), pad_data::Error>(())
/// ```
pub fn decode(path: &Path, options: &DecodeOptions) -> Result<Image> {
    decode_bytes(&read(path, options)?, path, options)
}

/// [`decode`] of a file that is already in memory. `path` names it in errors, and gives the format
/// where the content does not.
///
/// # Errors
/// As [`decode`].
///
/// ```
/// use pad_data::{ImageSize, draw::Canvas, image::{DecodeOptions, decode_bytes}};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("a.png");
/// Canvas::new(ImageSize::new(16, 20), [0; 3]).save_png(&path)?;
/// let (bytes, options) = (std::fs::read(&path).unwrap(), DecodeOptions::default());
/// let size = decode_bytes(&bytes, &path, &options)?.size();
/// assert_eq!(size, ImageSize::new(16, 20));
/// let error = decode_bytes(&bytes[..40], &path, &options).unwrap_err().to_string();
/// assert!(error.contains("a.png: "), "{error}"); // cut off
/// # Ok::<(), pad_data::Error>(())
/// ```
pub fn decode_bytes(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<Image> {
    let format = Format::of(bytes, path)?;
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
    let format = Format::of(bytes, path)?;
    guarded(path, format, || decode_known(bytes, path, format, options, true))
        .map(Image::collapse_gray)
}

/// The numbers or colours of a label file (TIFF, BMP) as they are stored, and of a TIFF the pixels that
/// it does not hold; empty for others.
///
/// # Errors
/// As [`decode`].
pub(crate) fn label_bytes(
    bytes: &[u8],
    path: &Path,
    options: &DecodeOptions,
) -> Result<(Image, Vec<bool>)> {
    let format = Format::of(bytes, path)?;
    guarded(path, format, || match format {
        Format::Known(ImageFormat::Tiff) => tiff::labels(bytes, path, options),
        _ => Ok((decode_known(bytes, path, format, options, false)?, Vec::new())),
    })
}

fn decode_known(
    bytes: &[u8],
    path: &Path,
    format: Format,
    options: &DecodeOptions,
    collapse: bool,
) -> Result<Image> {
    if bytes.is_empty() {
        return Err(damaged(path, format, "the file is empty"));
    }
    match format {
        Format::Known(ImageFormat::Tiff) => tiff::decode(bytes, path, options),
        Format::Known(ImageFormat::Jpeg) => {
            options.page_of(path, 1)?;
            match thermal::decode(bytes, path, options)? {
                Some(image) => Ok(image),
                None => picture(bytes, path, options, collapse),
            }
        }
        Format::Known(format) => {
            options.page_of(path, 1)?;
            plain::decode(bytes, path, format, options)
        }
        Format::Npy => npy::decode(bytes, path, options),
        Format::Flir => frames::decode(bytes, path, options),
    }
}

/// The picture of a JPEG file, upright.
fn picture(bytes: &[u8], path: &Path, options: &DecodeOptions, collapse: bool) -> Result<Image> {
    let facts = jpeg::Facts::of(bytes);
    if let Some(what) = facts.unknown_kind() {
        return Err(Error::Unsupported { path: path.into(), what: what.into() });
    }
    let image = match jpeg::decode(bytes, path, options)? {
        Some(decoded) if decoded.channels == 3 && !collapse => decoded.image.to_rgb(),
        Some(decoded) => decoded.image,
        None => plain::decode(&jpeg::as_libjpeg(bytes), path, ImageFormat::Jpeg, options)?,
    };
    let upright = facts.exif.orientation.apply(image)?;
    Ok(upright.with_companion(thermal::size(bytes, &facts, path)))
}

/// Height and width of the image that [`decode`] reads of a file, mostly without decoding it:
/// upright, and of the thermal image or the picture as [`DecodeOptions::radiometric`] says. The
/// limits are not checked.
///
/// # Errors
/// As [`decode`].
///
/// ```
/// use pad_data::{ImageSize, draw::Canvas, image::{DecodeOptions, image_size}};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("a.png");
/// Canvas::new(ImageSize::new(16, 20), [0; 3]).save_png(&path)?;
/// assert_eq!(image_size(&path, &DecodeOptions::default())?, ImageSize::new(16, 20));
/// # Ok::<(), pad_data::Error>(())
/// ```
pub fn image_size(path: &Path, options: &DecodeOptions) -> Result<ImageSize> {
    let io = |cause| Error::Io { path: path.into(), cause };
    // PNG and BMP say it at the start. Of other files, what stands far behind may count: segments
    // of a JPEG, directories of a TIFF.
    let mut head = Vec::new();
    if path.is_file() {
        let file = pad_ops::fs::open(path).map_err(io)?;
        file.take(HEAD).read_to_end(&mut head).map_err(io)?;
        if matches!(Format::of(&head, path), Ok(Format::Known(ImageFormat::Bmp))) {
            return image_size_bytes(&head, path, options);
        }
    }
    image_size_bytes(&read(path, options)?, path, options)
}

/// [`image_size`] of a file that is already in memory.
///
/// # Errors
/// As [`decode`].
///
/// ```
/// use pad_data::{ImageSize, draw::Canvas, image::{DecodeOptions, image_size_bytes}};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("a.png");
/// Canvas::new(ImageSize::new(16, 20), [0; 3]).save_png(&path)?;
/// let bytes = std::fs::read(&path).unwrap();
/// let size = image_size_bytes(&bytes, &path, &DecodeOptions::default())?;
/// assert_eq!(size, ImageSize::new(16, 20));
/// # Ok::<(), pad_data::Error>(())
/// ```
pub fn image_size_bytes(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<ImageSize> {
    let format = Format::of(bytes, path)?;
    if bytes.is_empty() {
        return Err(damaged(path, format, "the file is empty"));
    }
    guarded(path, format, || match format {
        Format::Known(ImageFormat::Tiff) => tiff::size(bytes, path, options),
        Format::Known(ImageFormat::Jpeg) => {
            if let Some(size) = thermal::chosen_size(bytes, path, options)? {
                return Ok(size);
            }
            let facts = jpeg::Facts::of(bytes);
            let missing = || damaged(path, format, "the file has no frame header");
            // Decoders skip bytes between segments.
            let by_decoder = || plain::size(bytes, path, ImageFormat::Jpeg).ok();
            let stored = || by_decoder().map(|size| facts.exif.orientation.size(size));
            facts.upright_size().or_else(stored).ok_or_else(missing)
        }
        Format::Known(format) => plain::size(bytes, path, format),
        Format::Npy => npy::size(bytes, path, options),
        Format::Flir => frames::size(bytes, path, options),
    })
}

/// Bytes of each frame of a file whose frames can be read alone; `None` for others.
pub(crate) fn frame_places(bytes: &[u8], path: &Path) -> Result<Option<Vec<Range<usize>>>> {
    Ok(match Format::of(bytes, path)? {
        Format::Flir => Some(frames::places(bytes)).filter(|places| !places.is_empty()),
        _ => None,
    })
}

/// Number of images in a file: pages of a TIFF without thumbnails and masks, frames of a sequence
/// or of a NumPy array; 1 for all other formats.
///
/// # Errors
/// As [`decode`].
///
/// ```
/// use pad_data::{ImageSize, draw::Canvas, image::frame_count};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("a.png");
/// Canvas::new(ImageSize::new(16, 20), [0; 3]).save_png(&path)?;
/// assert_eq!(frame_count(&std::fs::read(&path).unwrap(), &path)?, 1);
/// # Ok::<(), pad_data::Error>(())
/// ```
pub fn frame_count(bytes: &[u8], path: &Path) -> Result<usize> {
    let format = Format::of(bytes, path)?;
    guarded(path, format, || match format {
        Format::Known(ImageFormat::Tiff) => tiff::pages(bytes, path),
        Format::Npy => npy::frames(bytes, path),
        Format::Flir => Ok(frames::places(bytes).len().max(1)),
        Format::Known(_) => Ok(1),
    })
}
