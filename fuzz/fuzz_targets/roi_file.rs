//! RoI files: what is read lies inside the image, and is read again from what is written of it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pad_data::{Error, roi::parse_file};
use pad_ops::ImageSize;

fuzz_target!(|bytes: &[u8]| {
    let size = ImageSize::new(512, 640);
    let path = Path::new("a.txt");
    match parse_file(bytes, path, Some(size)) {
        Ok(rois) => {
            assert!(rois.iter().all(|roi| roi.is_inside(size) && roi.width > 0 && roi.height > 0));
            let text: String = rois.iter().map(|roi| format!("{roi}\n")).collect();
            assert_eq!(parse_file(text.as_bytes(), path, Some(size)).unwrap(), rois);
            assert_eq!(parse_file(bytes, path, None).unwrap(), rois);
        }
        Err(Error::Line { line, .. }) => {
            assert!((1..=bytes.split(|&byte| byte == b'\n').count()).contains(&line));
        }
        Err(other) => panic!("not an error of a line: {other}"),
    }
});
