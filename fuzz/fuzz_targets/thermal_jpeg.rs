//! Radiometric JPEG of any maker, EXIF: the law of images.
#![no_main]

mod pictures;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| pictures::check(bytes, "a.jpg"));
