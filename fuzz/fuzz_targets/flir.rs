//! Radiometric JPEG: counts of the promised size, temperatures above absolute zero.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pad_data::image::{DecodeOptions, Pixels, flir::Radiometric};

fuzz_target!(|bytes: &[u8]| {
    // What a fuzzer finds quickly should not be how to fill the memory.
    let options = DecodeOptions {
        max_pixels: 1 << 16,
        max_alloc_bytes: 1 << 20,
        min_side: 1,
        ..Default::default()
    };
    let Ok(Some(thermal)) = Radiometric::parse(bytes, Path::new("a.jpg"), &options) else { return };
    assert!(thermal.counts.size().area() <= 1 << 16);
    let Ok(kelvin) = thermal.kelvin() else { return };
    let Pixels::F32(values) = kelvin.pixels() else { panic!("kelvin are floats") };
    assert_eq!(values.len(), thermal.counts.size().area());
    assert!(values.iter().all(|value| value.is_finite() && *value > 0.0));
});
