//! What a PNG file says beside its pixels.

use pad_ops::ImageSize;

use super::{Image, Pixels, exif::Exif, orientation::Orientation};
use crate::Result;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The orientation in the EXIF chunk of a PNG file, which may stand before or behind the pixels.
pub(super) fn orientation(bytes: &[u8]) -> Orientation {
    chunks(bytes)
        .find(|(name, _)| *name == b"eXIf")
        .map_or(Orientation::default(), |(_, body)| Exif::parse(body).orientation)
}

/// Whether the file holds further pictures, of an animation.
pub(super) fn is_animated(bytes: &[u8]) -> bool {
    chunks(bytes).take_while(|(name, _)| *name != b"IDAT").any(|(name, _)| name == b"acTL")
}

/// Size and bytes of an upright picture, of the decoded bytes of a file: as many for every pixel.
///
/// # Errors
/// Bytes that do not fit the size.
pub(crate) fn upright(
    file: &[u8],
    size: ImageSize,
    samples: Vec<u8>,
) -> Result<(ImageSize, Vec<u8>)> {
    let orientation = orientation(file);
    if orientation == Orientation::default() {
        return Ok((size, samples));
    }
    let each = samples.len() / size.area().max(1);
    let image = orientation.apply(Image::new(size, each, Pixels::U8(samples))?)?;
    match (image.size(), image.into_pixels()) {
        (size, Pixels::U8(samples)) => Ok((size, samples)),
        (size, _) => Ok((size, Vec::new())),
    }
}

/// Name and body of every chunk that is whole.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes.strip_prefix(SIGNATURE).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (name, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (body, after) = after.split_at_checked(length)?;
        // Behind the body stands a checksum.
        rest = after.get(4..)?;
        Some((name, body))
    })
}
