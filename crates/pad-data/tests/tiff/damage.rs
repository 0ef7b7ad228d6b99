//! What is refused, and that no damage ends a program.

use std::path::Path;

use pad_data::{
    Error,
    image::{DecodeOptions, decode_bytes},
};

use crate::files::{CLASSIC, HEIGHT, KINDS, Page, SIZE, WIDTH, masked, read, said};

#[test]
fn chunks_outside_of_the_file_and_short_ones_are_refused() {
    let page = Page::strip(16, 1, vec![1; HEIGHT * WIDTH * 2 - 2]);
    assert_eq!(said(&CLASSIC.file(&[page])), "expected 960 bytes in strip 0, found 958");
    let good = CLASSIC.file(&[Page::strip(8, 1, vec![1; HEIGHT * WIDTH])]);
    // The data stand right behind the header; a file that claims them elsewhere.
    let at = good.windows(4).position(|found| found == [0x11, 1, 4, 0]).unwrap() + 8;
    let mut outside = good.clone();
    outside[at..at + 4].copy_from_slice(&1_000_000_u32.to_le_bytes());
    assert_eq!(said(&outside), "expected the 480 bytes of strip 0 at 1000000, found the end");
    let few = Page::strip(8, 1, vec![1; 480]).with(278, 4);
    assert_eq!(said(&CLASSIC.file(&[few])), "expected the places of 5 strips, found 1");
}

#[test]
fn tags_of_careless_writers_are_read() {
    // GDAL_NODATA as a number, width and height of signed types, a strip's size left at 0.
    let data: Vec<u8> = (0..HEIGHT * WIDTH).map(|index| (index % 90) as u8).collect();
    let page = Page::strip(8, 1, data);
    let image = read(&CLASSIC.file(&[page.clone().with(42_113, 7)])).unwrap();
    assert_eq!(masked(&image)[..2], [7, 97]);
    let mut signed = page.clone();
    for (tag, kind, _) in &mut signed.tags {
        if [256, 257].contains(tag) {
            *kind = 9;
        }
    }
    assert_eq!(read(&CLASSIC.file(&[signed])).unwrap().size(), SIZE);
}

#[test]
fn other_kinds_are_refused_by_name() {
    let page = || Page::strip(8, 1, vec![1; HEIGHT * WIDTH]);
    let wide = Page::strip(64, 1, vec![1; 8 * HEIGHT * WIDTH]);
    for (page, text) in [
        (page().with(259, 50_001), "a TIFF with the compression 50001 (WebP)"),
        (page().with(259, 34_887), "a TIFF with the compression 34887 (LERC)"),
        (page().with(262, 32_803), "a TIFF of a Bayer pattern"),
        (page().with(262, 6), "a 1-channel TIFF of 3 colours"),
        (page().with(339, 5), "a TIFF of complex numbers"),
        (page().with(317, 3), "a TIFF of 8 bits with the predictor 3"),
        (wide, "a TIFF of 64-bit integers"),
    ] {
        let error = read(&CLASSIC.file(&[page])).unwrap_err();
        assert_eq!(error.to_string(), format!("a.tif: {text} is not supported"));
    }
}

#[test]
fn claims_are_checked_and_damage_never_panics() {
    let huge = Page::strip(8, 1, vec![1; 480]).with(256, 1 << 30).with(257, 1 << 30);
    assert!(matches!(read(&CLASSIC.file(&[huge])), Err(Error::Limit { .. })));
    let tile = Page::strip(8, 1, vec![1; 480]).with(322, 1 << 20).with(323, 16);
    assert!(said(&CLASSIC.file(&[tile])).starts_with("expected tiles of 1x1 to 65536x65536"));
    // Directories in a circle.
    let mut file = CLASSIC.file(&[Page::strip(8, 1, vec![1; 480])]);
    let (first, end) = (file[4..8].to_vec(), file.len());
    file[end - 4..].copy_from_slice(&first);
    assert!(read(&file).is_ok());

    let counts: Vec<u64> = (0..HEIGHT * WIDTH).map(|index| index as u64).collect();
    let files: Vec<Vec<u8>> = KINDS
        .iter()
        .map(|kind| {
            let page = Page::strip(16, 1, kind.data(counts.clone(), 2)).with_text(42_113, "9");
            kind.file(&[page.clone().with(317, 2), page.with(274, 6)])
        })
        .collect();
    let options = DecodeOptions { max_pixels: 1 << 20, ..Default::default() };
    for whole in &files {
        let law = |bytes: &[u8]| {
            for page in [None, Some(1)] {
                let options = DecodeOptions { page, ..options.clone() };
                match decode_bytes(bytes, Path::new("a.tif"), &options) {
                    Ok(image) => {
                        let samples = image.size().area() * image.channels();
                        assert_eq!(image.pixels().len(), samples);
                    }
                    Err(error) => {
                        assert!(!error.to_string().contains("panicked"), "{error}");
                    }
                }
            }
        };
        (0..whole.len()).step_by(37).for_each(|end| law(&whole[..end]));
        for at in (0..16).chain(960..1_400).chain(1_900..whole.len()) {
            for flip in [0xFF, 0x01, 0x80] {
                let mut bytes = whole.clone();
                bytes[at.min(whole.len() - 1)] ^= flip;
                law(&bytes);
            }
        }
    }
}
