//! What a PNG file says beside its pixels.

use super::{exif::Exif, orientation::Orientation};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The orientation in the EXIF chunk of a PNG file, which may stand before or behind the pixels.
pub(super) fn orientation(bytes: &[u8]) -> Orientation {
    chunks(bytes)
        .find(|(name, _)| *name == b"eXIf")
        .map_or(Orientation::default(), |(_, body)| Exif::parse(body).orientation)
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
