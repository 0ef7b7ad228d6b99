//! R-JPEG of DJI's own thermal cameras (H20T, M2EA, M30T, M3T and later): segments APP3 hold the
//! counts, low byte first, without a header, as ExifTool (`ThermalData`) and GDAL (since 3.11) read
//! them. What turns them into temperatures is in DJI's library alone. (Files of the Zenmuse XT
//! cameras are FLIR's.)

use std::path::Path;

use pad_ops::ImageSize;

use super::{
    jpeg::{Facts, segments},
    notice::warn_once,
};

/// Other uses of APP3.
const OTHERS: [&[u8]; 6] = [b"Meta\0", b"META\0", b"Exif\0", b"Stim\0", b"_JPSJPS_", &[0xFF, 0xD8]];

/// Size and bytes of the counts; `None` for another file.
pub(super) fn find(bytes: &[u8], facts: &Facts, path: &Path) -> Option<(ImageSize, Vec<u8>)> {
    if !facts.exif.make.to_ascii_uppercase().starts_with("DJI") {
        return None;
    }
    let mut samples = Vec::new();
    for (_, _, body) in segments(bytes).filter(|(marker, ..)| *marker == 0xE3) {
        if samples.is_empty() && OTHERS.iter().any(|other| body.starts_with(other)) {
            return None;
        }
        samples.extend_from_slice(body);
    }
    if samples.is_empty() {
        return None;
    }
    let size = facts.stored_size().and_then(|picture| scaled(picture, samples.len()));
    if size.is_none() {
        warn_once(path, "unknown thermal data of DJI", || {
            format!("{} bytes of APP3 are no image of the picture's shape: ignored", samples.len())
        });
    }
    size.map(|size| (size, samples))
}

/// The size of 16-bit counts in `bytes` bytes, of the shape of the picture, which is the same or
/// enlarged by a whole number.
fn scaled(picture: ImageSize, bytes: usize) -> Option<ImageSize> {
    (1..=8_usize)
        .filter(|by| picture.height.is_multiple_of(*by) && picture.width.is_multiple_of(*by))
        .map(|by| ImageSize::new(picture.height / by, picture.width / by))
        .find(|size| size.area() * 2 == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_the_shape_of_the_picture() {
        let picture = ImageSize::new(1024, 1280);
        assert_eq!(scaled(picture, 655_360), Some(ImageSize::new(512, 640)));
        assert_eq!(scaled(picture, 1024 * 1280 * 2), Some(picture));
        assert_eq!(scaled(picture, 655_362), None);
    }
}
