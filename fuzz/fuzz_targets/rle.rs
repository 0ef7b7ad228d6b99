//! Runs and outlines: what is read is written back as the same, and fills its image.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pad_data::rle::{Rle, Segmentation};
use pad_ops::ImageSize;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(rle) = Rle::parse(ImageSize::new(20, 30), text)
    {
        assert_eq!(Rle::parse(rle.size(), &rle.to_text()).unwrap(), rle);
        assert_eq!(rle.counts().iter().map(|&run| u64::from(run)).sum::<u64>(), 600);
    }
    let Ok(read) = serde_json::from_slice::<Segmentation>(bytes) else { return };
    for size in [ImageSize::new(20, 30), ImageSize::new(1, 7)] {
        if let Ok(rle) = read.rle(size) {
            assert_eq!((rle.size(), rle.bounds().is_some()), (size, rle.area() > 0));
            assert!(rle.area() <= size.area() as u64);
            let half = ImageSize::new(size.height.div_ceil(2), size.width * 2);
            assert_eq!(rle.resized(half).unwrap().size(), half);
        }
    }
});
