//! The law of every reader of images.

use std::path::Path;

use pad_data::image::{
    DecodeOptions, RadiometricMode, decode_bytes, frame_count, image_size_bytes,
};

/// Limits that a fuzzer cannot use to fill the memory.
fn limits() -> DecodeOptions {
    DecodeOptions {
        max_pixels: 1 << 16,
        max_alloc_bytes: 1 << 20,
        min_side: 1,
        ..Default::default()
    }
}

/// Decodes `bytes` as a file `name` in several ways: what is read has as many samples as its size
/// promises, all of them finite, and the size that is found without decoding; errors are one line,
/// and no decoder panics.
pub(crate) fn check(bytes: &[u8], name: &str) {
    let name = Path::new(name);
    let frames = frame_count(bytes, name);
    let last = frames.as_ref().ok().and_then(|count| count.checked_sub(1));
    for options in [
        limits(),
        DecodeOptions { page: last, ..limits() },
        DecodeOptions { radiometric: RadiometricMode::Raw, alpha_is_band: true, ..limits() },
        DecodeOptions { radiometric: RadiometricMode::Celsius, ..limits() },
        DecodeOptions { radiometric: RadiometricMode::Picture, ..limits() },
    ] {
        let image = match decode_bytes(bytes, name, &options) {
            Ok(image) => image,
            Err(error) => {
                let text = error.to_string();
                assert!(!text.contains("panicked"), "{text}");
                assert_eq!(text.lines().count(), 1, "{text:?}");
                continue;
            }
        };
        assert!(image.size().area() <= 1 << 16);
        assert_eq!(image.pixels().len(), image.size().area() * image.channels());
        assert_eq!(image_size_bytes(bytes, name, &options).ok(), Some(image.size()));
        assert!(frames.is_ok());
        assert_eq!(image.first_not_finite(), None);
        if let Some(masked) = image.masked() {
            assert_eq!(masked.len(), image.size().area());
            assert!(masked.iter().any(|&masked| masked) && !masked.iter().all(|&masked| masked));
        }
    }
}
