//! JPEG: a decoder that panics would be caught and told as an error; here that is a finding.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pad_data::image::{DecodeOptions, decode_bytes};

fuzz_target!(|bytes: &[u8]| {
    let options = DecodeOptions {
        max_pixels: 1 << 16,
        max_alloc_bytes: 1 << 20,
        min_side: 1,
        ..Default::default()
    };
    match decode_bytes(bytes, Path::new("a.jpg"), &options) {
        Ok(image) => assert!(image.size().area() <= 1 << 16),
        Err(error) => assert!(!error.to_string().contains("panicked"), "{error}"),
    }
});
