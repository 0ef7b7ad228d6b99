//! What a PNG file says beside its pixels.

use pad_ops::ImageSize;

use super::{Image, Pixels, exif::Exif, orientation::Orientation};
use crate::Result;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Place of the kind of colours in the header, and the kind that has a palette.
const COLOR_TYPE: usize = 9;
const INDEXED: u8 = 3;

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

/// What is wrong with the colours of an indexed picture: decoders read beyond those that are there.
pub(crate) fn palette_fault(bytes: &[u8]) -> Option<String> {
    let indexed = chunks(bytes)
        .next()
        .is_some_and(|(name, body)| name == b"IHDR" && body.get(COLOR_TYPE) == Some(&INDEXED));
    let palettes = chunks(bytes).filter(|(name, _)| indexed && *name == b"PLTE");
    palettes.map(|(_, body)| body.len()).find(|len| len % 3 != 0 || !(3..=768).contains(len)).map(
        |found| format!("a palette of {found} bytes, expected three for each of 1 to 256 colours"),
    )
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

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::image::{DecodeOptions, decode_bytes};

    /// A picture of 2 x 2 pixels, the indices 0 to 3 of 8 bits, with this palette.
    pub(crate) fn with_palette(palette: &[u8]) -> Vec<u8> {
        let mut file = SIGNATURE.to_vec();
        let mut add = |name: &[u8], body: &[u8]| {
            let chunk = [name, body].concat();
            let mut crc = u32::MAX;
            for &byte in &chunk {
                crc ^= u32::from(byte);
                for _ in 0..8 {
                    crc = (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
                }
            }
            file.extend((body.len() as u32).to_be_bytes());
            file.extend(chunk);
            file.extend((!crc).to_be_bytes());
        };
        add(b"IHDR", &[0, 0, 0, 2, 0, 0, 0, 2, 8, INDEXED, 0, 0, 0]);
        add(b"PLTE", palette);
        // One stored block of two rows, each behind its filter; then the sum of Adler.
        let rows = [0, 0, 1, 0, 2, 3];
        let (a, b) = rows.iter().fold((1_u32, 0_u32), |(a, b), &byte: &u8| {
            let a = (a + u32::from(byte)) % 65521;
            (a, (b + a) % 65521)
        });
        let head = [0x78, 0x01, 0x01, 6, 0, !6, !0];
        add(b"IDAT", &[&head[..], &rows, &(b << 16 | a).to_be_bytes()].concat());
        add(b"IEND", &[]);
        file
    }

    #[test]
    fn palettes_that_hold_no_whole_colours_are_refused() {
        let colours: Vec<u8> = (0..=255).flat_map(|i| [i, 255 - i, 7]).collect();
        let read = |palette: &[u8]| {
            decode_bytes(
                &with_palette(palette),
                Path::new("a.png"),
                &DecodeOptions { min_side: 1, ..Default::default() },
            )
        };
        for whole in [12, 48, 768] {
            let image = read(&colours[..whole]).unwrap();
            let Pixels::U8(levels) = image.pixels() else { panic!("8 bits") };
            assert_eq!(levels, &colours[..12], "{whole}");
        }
        for odd in [0, 1, 2, 5, 49, 767, 769, 770, 771, 1024] {
            let palette: Vec<u8> = colours.iter().copied().cycle().take(odd).collect();
            let error = read(&palette).unwrap_err().to_string();
            let expected =
                format!("a palette of {odd} bytes, expected three for each of 1 to 256 colours");
            assert!(error.ends_with(&expected), "{error}");
        }
    }
}
