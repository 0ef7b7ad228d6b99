//! Sequences of FLIR cameras: as many samples as promised, all finite, in every mode; frames do not overlap.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pad_data::image::{
    DecodeOptions, Pixels, RadiometricMode, decode_bytes, decoded_size_bytes, frame_count,
};

fuzz_target!(|bytes: &[u8]| {
    let name = Path::new("a.seq");
    let _ = frame_count(bytes, name);
    for radiometric in [RadiometricMode::Auto, RadiometricMode::Raw, RadiometricMode::Picture] {
        let options = DecodeOptions {
            max_pixels: 1 << 16,
            max_alloc_bytes: 1 << 20,
            min_side: 1,
            radiometric,
            ..Default::default()
        };
        let Ok(image) = decode_bytes(bytes, name, &options) else { continue };
        assert_eq!(image.pixels().len(), image.size().area() * image.channels());
        assert_eq!(decoded_size_bytes(bytes, name, &options).ok(), Some(image.size()));
        if let Pixels::F32(values) = image.pixels() {
            assert!(values.iter().all(|value| value.is_finite()));
        }
        if let Some(masked) = image.masked() {
            assert_eq!(masked.len(), image.size().area());
        }
    }
});
