//! Pixels without data: masked, never invented.

use pad_data::{
    Error,
    image::{DecodeOptions, Pixels, RadiometricMode},
};

use crate::files::{CLASSIC, HEIGHT, KINDS, Page, WIDTH, floats, masked, read, read_with, said};

#[test]
fn nodata_is_masked_in_every_type() {
    let places = [3, 100, 479];
    let base = |index: usize| 20.0 + (index % 97) as f64;
    let int = |value: f64| value as i64 as u64;
    // Type: bits, format, text of the tag, and the number that is stored.
    let bits_of_f32 = |value: f64| u64::from((value as f32).to_bits());
    type Bits = Box<dyn Fn(f64) -> u64>;
    let cases: Vec<(u64, u64, &str, f64, Bits)> = vec![
        (8, 1, "255", 255.0, Box::new(int)),
        (8, 1, "0", 0.0, Box::new(int)),
        (8, 2, "-128", -128.0, Box::new(int)),
        (16, 1, "65535", 65_535.0, Box::new(int)),
        (16, 1, "0", 0.0, Box::new(int)),
        (16, 2, "-9999", -9_999.0, Box::new(int)),
        (16, 2, "-32768", -32_768.0, Box::new(int)),
        (32, 1, "4294967295", 4_294_967_295.0, Box::new(int)),
        (32, 2, "-2147483648", -2_147_483_648.0, Box::new(int)),
        (32, 3, "-9999", -9_999.0, Box::new(bits_of_f32)),
        (32, 3, "-3.40282346638529e+38", f64::from(f32::MIN), Box::new(bits_of_f32)),
        (32, 3, "-3.4028234663852886e+38", f64::from(f32::MIN), Box::new(bits_of_f32)),
        (32, 3, "0.1", 0.1, Box::new(bits_of_f32)),
        (32, 3, "nan", f64::NAN, Box::new(bits_of_f32)),
        (64, 3, "-1.7976931348623157e+308", f64::MIN, Box::new(f64::to_bits)),
    ];
    for kind in KINDS {
        for (bits, format, text, nodata, stored) in &cases {
            let values = (0..HEIGHT * WIDTH).map(|index| match places.contains(&index) {
                true => stored(*nodata),
                false => stored(base(index)),
            });
            let width = (*bits / 8) as usize;
            let page = Page::strip(*bits, *format, kind.data(values, width));
            let image = read(&kind.file(&[page.clone().with_text(42_113, text)])).unwrap();
            assert_eq!(masked(&image), places, "{kind:?} {bits} {format} {text}");
            for (index, value) in floats(&image).into_iter().enumerate() {
                let expected = if places.contains(&index) { 20.0 } else { base(index) };
                assert_eq!(value, expected, "{bits} {format} {text} {index}");
            }
            // Another number masks nothing.
            let other = page.with_text(42_113, "7");
            if !nodata.is_nan() && *bits != 64 {
                assert_eq!(read(&kind.file(&[other])).unwrap().masked(), None, "{text}");
            }
        }
    }
    let page = Page::strip(8, 1, vec![7; HEIGHT * WIDTH]);
    let all = CLASSIC.file(&[page.clone().with_text(42_113, "7")]);
    assert!(matches!(read(&all), Err(Error::NoData { .. })));
    let wrong = CLASSIC.file(&[page.with_text(42_113, "none")]);
    assert_eq!(said(&wrong), "expected a number in GDAL_NODATA, found `none`");
}

#[test]
fn absent_strips_and_tiles_are_masked_and_never_invented() {
    for kind in KINDS {
        for nodata in [None, Some("0")] {
            // Strips of 8 rows; the second is absent.
            let strip = |rows: usize| Some(kind.data(vec![900; rows * WIDTH], 2));
            let mut page = Page::strip(16, 1, vec![]).with(278, 8);
            page.chunks = vec![strip(8), None, strip(4)];
            // Tiles of 16 x 16: 2 x 2, of which the last but one is absent.
            let tile = || Some(kind.data(vec![800; 256], 2));
            let mut tiled = Page::strip(16, 1, vec![]).with(322, 16).with(323, 16);
            tiled.tags.retain(|(tag, ..)| *tag != 278);
            tiled.chunks = vec![tile(), tile(), None, tile()];
            let is_absent: [fn(usize, usize) -> bool; 2] =
                [|row, _| (8..16).contains(&row), |row, column| row >= 16 && column < 16];
            for (mut page, is_absent) in [page, tiled].into_iter().zip(is_absent) {
                if let Some(text) = nodata {
                    page = page.with_text(42_113, text);
                }
                let image = read(&kind.file(&[page.clone()])).unwrap();
                let expected: Vec<usize> = (0..HEIGHT * WIDTH)
                    .filter(|pixel| is_absent(pixel / WIDTH, pixel % WIDTH))
                    .collect();
                assert_eq!(masked(&image), expected, "{kind:?}");
                // Not one value that the file does not hold.
                let values = floats(&image);
                assert!(values.iter().all(|&value| value == values[0]), "{kind:?}");
                page.chunks.iter_mut().for_each(|chunk| *chunk = None);
                assert!(matches!(read(&kind.file(&[page])), Err(Error::NoData { .. })));
            }
        }
    }
    // A plane of three is absent: its pixels are without data.
    let plane = || Some(vec![5; HEIGHT * WIDTH]);
    let mut planar = Page::strip(8, 1, vec![]).with(277, 3).with(262, 2).with(284, 2);
    planar = planar.with_all(258, vec![8; 3]).with_all(339, vec![1; 3]);
    planar.chunks = vec![plane(), None, plane()];
    assert!(matches!(read(&CLASSIC.file(&[planar])), Err(Error::NoData { .. })));
}

#[test]
fn pixels_without_opacity_have_no_data() {
    let opaque = |index: usize| !(index == 5 || index == 77);
    for (bits, format, stored) in [(8_u64, 1_u64, 255_u64), (16, 1, 65_535), (32, 3, 0x3f80_0000)] {
        let width = (bits / 8) as usize;
        let value = |index: usize| 20 + (index % 90) as u64;
        let number =
            |value: u64| if format == 3 { u64::from((value as f32).to_bits()) } else { value };
        for planar in [false, true] {
            for extra in [1, 2] {
                let alpha = |index: usize| if opaque(index) { stored } else { 0 };
                let pixels = 0..HEIGHT * WIDTH;
                let page = Page::strip(bits, format, Vec::new())
                    .with_all(258, vec![bits; 2])
                    .with_all(339, vec![format; 2])
                    .with(277, 2)
                    .with(338, extra)
                    .with(284, if planar { 2 } else { 1 });
                let mut page = Page { chunks: Vec::new(), ..page };
                page = match planar {
                    true => page
                        .chunk(Some(CLASSIC.data(pixels.clone().map(|i| number(value(i))), width)))
                        .chunk(Some(CLASSIC.data(pixels.map(alpha), width))),
                    false => {
                        let both = pixels.flat_map(|i| [number(value(i)), alpha(i)]);
                        page.chunk(Some(CLASSIC.data(both, width)))
                    }
                };
                let file = CLASSIC.file(&[page]);
                let image = read(&file).unwrap();
                assert_eq!((image.channels(), masked(&image)), (1, vec![5, 77]), "{bits} {planar}");
                assert_eq!(floats(&image)[6], 26.0);
                let bands = DecodeOptions { alpha_is_band: true, ..Default::default() };
                let image = read_with(&file, &bands).unwrap();
                assert_eq!((image.channels(), image.masked()), (2, None));
            }
        }
    }
    // A channel that was never filled in.
    let both = (0..HEIGHT * WIDTH).flat_map(|i| [(i % 90) as u64, 0]);
    let page = Page::strip(8, 1, CLASSIC.data(both, 1)).with(277, 2).with(338, 2);
    let image = read(&CLASSIC.file(&[page.with_all(258, vec![8; 2])])).unwrap();
    assert_eq!(image.masked(), None);
}

#[test]
fn scale_and_offset_of_gdal_are_applied() {
    let counts = (0..HEIGHT * WIDTH).map(|index| 27_000 + index as u64);
    let metadata = "<GDALMetadata>\n  <Item name=\"SCALE\" sample=\"0\" role=\"scale\">0.01</Item>\n  \
                    <Item name=\"OFFSET\" sample=\"0\" role=\"offset\">-273.15</Item>\n\
                    </GDALMetadata>";
    let page = Page::strip(16, 1, CLASSIC.data(counts, 2));
    let page = page.with_text(42_112, metadata).with_text(42_113, "27000");
    let file = CLASSIC.file(&[page]);
    let image = read(&file).unwrap();
    let celsius = floats(&image);
    assert!((celsius[100] - (271.0 - 273.15)).abs() < 1e-4, "{}", celsius[100]);
    // Nodata is a stored number.
    assert_eq!(masked(&image), [0]);
    let options = DecodeOptions { radiometric: RadiometricMode::Raw, ..Default::default() };
    let raw = read_with(&file, &options).unwrap();
    assert_eq!(floats(&raw)[100], 27_100.0);
    assert!(matches!(raw.pixels(), Pixels::U16(_)));
}
