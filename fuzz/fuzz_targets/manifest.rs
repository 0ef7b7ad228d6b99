//! Manifests: one text for each manifest, so that what is read is written as it was.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use pad_data::{Error, msip::Manifest};

fuzz_target!(|bytes: &[u8]| {
    match Manifest::parse(bytes, Path::new("manifest.tsv")) {
        Ok(manifest) => {
            assert_eq!(manifest.to_text().as_bytes(), bytes);
            for entry in &manifest.entries {
                let mut parts = Path::new(&entry.path).components();
                assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{}", entry.path);
            }
        }
        Err(Error::Line { line, .. }) => {
            assert!((1..=bytes.split(|&byte| byte == b'\n').count()).contains(&line));
        }
        Err(other) => panic!("not an error of a line: {other}"),
    }
});
