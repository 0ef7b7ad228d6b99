//! TIFF files made here: what other readers fill, turn round or refuse.

use std::path::Path;

use pad_data::{
    Error,
    image::{DecodeOptions, Image, Pixels, RadiometricMode, decode_bytes, image_size_bytes},
};
use pad_ops::ImageSize;

const HEIGHT: usize = 20;
const WIDTH: usize = 24;
const SIZE: ImageSize = ImageSize::new(HEIGHT, WIDTH);

/// A directory to be written, with the data of its strips or tiles.
#[derive(Clone, Default)]
struct Page {
    /// Tag, type and values: 2 for text, 3 and 4 for numbers.
    tags: Vec<(u16, u16, Vec<u64>)>,
    text: Vec<(u16, String)>,
    /// Data of each chunk; `None` for an absent one.
    chunks: Vec<Option<Vec<u8>>>,
}

impl Page {
    /// One strip of `bits` bits.
    fn strip(bits: u64, format: u64, data: Vec<u8>) -> Self {
        Self::default()
            .with(256, WIDTH as u64)
            .with(257, HEIGHT as u64)
            .with(258, bits)
            .with(259, 1)
            .with(262, 1)
            .with(277, 1)
            .with(278, HEIGHT as u64)
            .with(339, format)
            .chunk(Some(data))
    }

    fn with(self, tag: u16, value: u64) -> Self {
        self.with_all(tag, vec![value])
    }

    /// Replaces a tag that is there.
    fn with_all(mut self, tag: u16, values: Vec<u64>) -> Self {
        self.tags.retain(|(found, ..)| *found != tag);
        self.tags.push((tag, if values.iter().any(|&v| v > 65_535) { 4 } else { 3 }, values));
        self
    }

    fn with_text(mut self, tag: u16, text: &str) -> Self {
        self.text.push((tag, format!("{text}\0")));
        self
    }

    fn chunk(mut self, data: Option<Vec<u8>>) -> Self {
        self.chunks.push(data);
        self
    }
}

/// The order of bytes, and whether offsets have 64 bits.
#[derive(Clone, Copy, Debug)]
struct Kind {
    big_endian: bool,
    big_tiff: bool,
}

const CLASSIC: Kind = Kind { big_endian: false, big_tiff: false };
const KINDS: [Kind; 4] = [
    CLASSIC,
    Kind { big_endian: true, big_tiff: false },
    Kind { big_endian: false, big_tiff: true },
    Kind { big_endian: true, big_tiff: true },
];

impl Kind {
    fn number(self, value: u64, bytes: usize) -> Vec<u8> {
        let mut all = value.to_le_bytes()[..bytes].to_vec();
        if self.big_endian {
            all.reverse();
        }
        all
    }

    fn file(self, pages: &[Page]) -> Vec<u8> {
        let offset = if self.big_tiff { 8 } else { 4 };
        let mut file = if self.big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        file.extend(self.number(if self.big_tiff { 43 } else { 42 }, 2));
        if self.big_tiff {
            file.extend(self.number(8, 2));
            file.extend(self.number(0, 2));
        }
        let mut link = file.len();
        file.extend(self.number(0, offset));
        for page in pages {
            let mut places = (Vec::new(), Vec::new());
            for chunk in &page.chunks {
                let length = chunk.as_ref().map_or(0, Vec::len);
                places.0.push(if length > 0 { file.len() as u64 } else { 0 });
                places.1.push(length as u64);
                file.extend(chunk.iter().flatten());
            }
            let tiled = page.tags.iter().any(|(tag, ..)| *tag == 322);
            let (offsets, counts) = if tiled { (324, 325) } else { (273, 279) };
            let mut entries: Vec<(u16, u16, usize, Vec<u8>)> = Vec::new();
            let long = |tag, values: &[u64]| {
                let bytes = values.iter().flat_map(|&value| self.number(value, 4)).collect();
                (tag, 4, values.len(), bytes)
            };
            entries.push(long(offsets, &places.0));
            entries.push(long(counts, &places.1));
            for (tag, kind, values) in &page.tags {
                let width = if *kind == 3 { 2 } else { 4 };
                let bytes = values.iter().flat_map(|&v| self.number(v, width)).collect();
                entries.push((*tag, *kind, values.len(), bytes));
            }
            for (tag, text) in &page.text {
                entries.push((*tag, 2, text.len(), text.as_bytes().to_vec()));
            }
            entries.sort_by_key(|entry| entry.0);
            for entry in &mut entries {
                if entry.3.len() > offset {
                    let at = file.len() as u64;
                    file.extend(&entry.3);
                    entry.3 = self.number(at, offset);
                }
                entry.3.resize(offset, 0);
            }
            let at = self.number(file.len() as u64, offset);
            file[link..link + offset].copy_from_slice(&at);
            file.extend(self.number(entries.len() as u64, if self.big_tiff { 8 } else { 2 }));
            for (tag, kind, count, bytes) in entries {
                file.extend(self.number(u64::from(tag), 2));
                file.extend(self.number(u64::from(kind), 2));
                file.extend(self.number(count as u64, offset));
                file.extend(bytes);
            }
            link = file.len();
            file.extend(self.number(0, offset));
        }
        file
    }

    /// The bytes of numbers of `width` bytes.
    fn data(self, values: impl IntoIterator<Item = u64>, width: usize) -> Vec<u8> {
        values.into_iter().flat_map(|value| self.number(value, width)).collect()
    }
}

fn read(bytes: &[u8]) -> pad_data::Result<Image> {
    read_with(bytes, &DecodeOptions::default())
}

fn read_with(bytes: &[u8], options: &DecodeOptions) -> pad_data::Result<Image> {
    let image = decode_bytes(bytes, Path::new("a.tif"), options)?;
    assert_eq!(image_size_bytes(bytes, Path::new("a.tif"), options).unwrap(), image.size());
    Ok(image)
}

fn said(bytes: &[u8]) -> String {
    let text = read(bytes).unwrap_err().to_string();
    text.replace("a.tif: cannot decode: Format error decoding Tiff: ", "")
}

fn floats(image: &Image) -> Vec<f64> {
    match image.pixels() {
        Pixels::U8(values) => values.iter().map(|&value| f64::from(value)).collect(),
        Pixels::U16(values) => values.iter().map(|&value| f64::from(value)).collect(),
        Pixels::F32(values) => values.iter().map(|&value| f64::from(value)).collect(),
    }
}

fn masked(image: &Image) -> Vec<usize> {
    let masked = image.masked().unwrap_or_default().iter().enumerate();
    masked.filter(|(_, masked)| **masked).map(|(pixel, _)| pixel).collect()
}

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
fn palettes_of_every_depth_become_their_colours() {
    for bits in [1_u64, 2, 4, 8] {
        for eight_bit_colors in [false, true] {
            let count = 1_usize << bits;
            let index = |pixel: usize| (pixel * 7) % count;
            // Rows begin at a whole byte.
            let mut data = Vec::new();
            for row in 0..HEIGHT {
                let bits_of =
                    |pixel: usize| format!("{:0width$b}", index(pixel), width = bits as usize);
                let mut text: String =
                    (0..WIDTH).map(|column| bits_of(row * WIDTH + column)).collect();
                text.extend(std::iter::repeat_n('0', text.len().next_multiple_of(8) - text.len()));
                let byte = |at: usize| u8::from_str_radix(&text[at..at + 8], 2).unwrap();
                data.extend((0..text.len()).step_by(8).map(byte));
            }
            let level = |channel: usize, index: usize| (index * 3 + channel * 50) % 256;
            let scale = if eight_bit_colors { 1 } else { 257 };
            let colors = (0..3).flat_map(|channel| {
                (0..count).map(move |index| (level(channel, index) * scale) as u64)
            });
            let page = Page::strip(bits, 1, data).with(262, 3).with_all(320, colors.collect());
            let image = read(&CLASSIC.file(&[page])).unwrap();
            let expected = (0..HEIGHT * WIDTH)
                .flat_map(|pixel| [0, 1, 2].map(|channel| level(channel, index(pixel)) as u8));
            assert_eq!(image.pixels(), &Pixels::U8(expected.collect()), "{bits}");
        }
    }
}

#[test]
fn orientation_turns_pixels_and_size() {
    let data: Vec<u8> = (0..HEIGHT * WIDTH).map(|index| (index % 251) as u8).collect();
    let stored = |row: usize, column: usize| f64::from(data[row * WIDTH + column]);
    let (bottom, right) = (HEIGHT - 1, WIDTH - 1);
    for orientation in 1..=8_u64 {
        let page = Page::strip(8, 1, data.clone()).with(274, orientation);
        let image = read(&CLASSIC.file(&[page])).unwrap();
        let size = if orientation > 4 { ImageSize::new(WIDTH, HEIGHT) } else { SIZE };
        assert_eq!(image.size(), size);
        let values = floats(&image);
        for row in 0..size.height {
            for column in 0..size.width {
                let expected = match orientation {
                    1 => stored(row, column),
                    2 => stored(row, right - column),
                    3 => stored(bottom - row, right - column),
                    4 => stored(bottom - row, column),
                    5 => stored(column, row),
                    6 => stored(bottom - column, row),
                    7 => stored(bottom - column, right - row),
                    _ => stored(column, right - row),
                };
                assert_eq!(values[row * size.width + column], expected, "{orientation}");
            }
        }
    }
}

#[test]
fn counts_between_8_and_16_bits_are_read_packed_and_in_words() {
    for bits in [10_usize, 12, 14] {
        let count = |pixel: usize| (pixel * 31) % (1 << bits);
        let mut packed = Vec::new();
        for row in 0..HEIGHT {
            let mut text: String = (0..WIDTH)
                .map(|column| format!("{:0bits$b}", count(row * WIDTH + column)))
                .collect();
            text.extend(std::iter::repeat_n('0', text.len().next_multiple_of(8) - text.len()));
            let byte = |at: usize| u8::from_str_radix(&text[at..at + 8], 2).unwrap();
            packed.extend((0..text.len()).step_by(8).map(byte));
        }
        let expected = Pixels::U16((0..HEIGHT * WIDTH).map(|pixel| count(pixel) as u16).collect());
        let words = CLASSIC.data((0..HEIGHT * WIDTH).map(|pixel| count(pixel) as u64), 2);
        for data in [packed, words] {
            let image = read(&CLASSIC.file(&[Page::strip(bits as u64, 1, data)])).unwrap();
            assert_eq!(image.pixels(), &expected, "{bits}");
        }
        // A tile of more rows than the image has; a packed one that is cut off behind them.
        let row = |words: bool, row: usize| -> Vec<u8> {
            let counts =
                (0..32).map(|column| if column < WIDTH { count(row * WIDTH + column) } else { 0 });
            match words {
                true => counts.flat_map(|count| (count as u16).to_le_bytes()).collect(),
                false => {
                    let text: String = counts.map(|count| format!("{count:0bits$b}")).collect();
                    let byte = |at: usize| u8::from_str_radix(&text[at..at + 8], 2).unwrap();
                    (0..text.len()).step_by(8).map(byte).collect()
                }
            }
        };
        for words in [false, true] {
            for rows in if words { vec![32] } else { vec![HEIGHT, 32] } {
                let mut data: Vec<u8> = (0..HEIGHT).flat_map(|at| row(words, at)).collect();
                data.resize(rows * data.len() / HEIGHT, 0);
                let page = Page::strip(bits as u64, 1, Vec::new()).with(322, 32).with(323, 32);
                let page = Page { chunks: vec![Some(data)], ..page };
                let image = read(&CLASSIC.file(&[page])).unwrap();
                assert_eq!(image.pixels(), &expected, "{bits} {words} {rows}");
            }
        }
    }
}

#[test]
fn few_bits_use_the_whole_range_and_white_is_zero_of_print_alone() {
    // 0xA5 in each byte: bits 1 0 1 0 0 1 0 1, nibbles 10 and 5.
    let bilevel = Page::strip(1, 1, vec![0xA5; HEIGHT * WIDTH / 8]);
    let found = floats(&read(&CLASSIC.file(std::slice::from_ref(&bilevel))).unwrap());
    assert_eq!(found[..8], [255.0, 0.0, 255.0, 0.0, 0.0, 255.0, 0.0, 255.0]);
    let turned = floats(&read(&CLASSIC.file(&[bilevel.with(262, 0)])).unwrap());
    assert!(found.iter().zip(&turned).all(|(a, b)| a + b == 255.0));
    let nibbles = Page::strip(4, 1, vec![0xA5; HEIGHT * WIDTH / 2]);
    assert_eq!(floats(&read(&CLASSIC.file(&[nibbles])).unwrap())[..2], [170.0, 85.0]);
    for (bits, format, value, expected) in [
        (8, 1, 34, 221.0),
        (8, 2, 34, 34.0),
        (16, 1, 7_000, 7_000.0),
        (16, 2, 7_000, 7_000.0),
        (32, 1, 7_000, 7_000.0),
        (32, 3, u64::from(290.5_f32.to_bits()), 290.5),
        (64, 3, 290.5_f64.to_bits(), 290.5),
    ] {
        let data = CLASSIC.data(vec![value; HEIGHT * WIDTH], bits / 8);
        let page = Page::strip(bits as u64, format, data).with(262, 0);
        assert_eq!(floats(&read(&CLASSIC.file(&[page])).unwrap())[0], expected, "{bits} {format}");
    }
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

#[test]
fn thumbnails_and_masks_are_no_pages() {
    let data = |level: u8| vec![level; HEIGHT * WIDTH];
    let full = |level: u8| Page::strip(8, 1, data(level));
    let small = || {
        let page = Page::strip(8, 1, vec![1; 256]).with(256, 16).with(257, 16).with(278, 16);
        [page.clone().with(254, 1), page.with(255, 2)]
    };
    let [new, old] = small();
    for thumbnail in [new.clone(), old] {
        let file = CLASSIC.file(&[thumbnail.clone(), full(9), thumbnail, full(7)]);
        let page = |page| {
            read_with(&file, &DecodeOptions { page, ..Default::default() }).map(|i| floats(&i)[0])
        };
        assert_eq!(page(None).unwrap(), 9.0);
        assert_eq!(page(Some(1)).unwrap(), 7.0);
        assert_eq!(
            page(Some(2)).unwrap_err().to_string(),
            "a.tif: page 2 (from 0) of a file of 2 is not supported"
        );
    }
    // Nothing but reduced images: the largest.
    let larger = full(3).with(254, 1);
    assert_eq!(floats(&read(&CLASSIC.file(&[new, larger])).unwrap())[0], 3.0);
    // A mask: zeros are without data.
    let mut bits = vec![0xFF; HEIGHT * WIDTH / 8];
    bits[0] = 0x7F;
    let mask = Page::strip(1, 1, bits).with(254, 4).with(262, 4);
    let image = read(&CLASSIC.file(&[full(9), mask.clone()])).unwrap();
    assert_eq!(masked(&image), [0]);
    // In front of its page; behind two, the second has it.
    assert_eq!(masked(&read(&CLASSIC.file(&[mask.clone(), full(9)])).unwrap()), [0]);
    let two = CLASSIC.file(&[full(9), full(8), mask]);
    let second = DecodeOptions { page: Some(1), ..Default::default() };
    assert_eq!(masked(&read_with(&two, &second).unwrap()), [0]);
    assert_eq!(masked(&read(&two).unwrap()), [0_usize; 0]);
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
fn a_page_below_a_thumbnail_is_found() {
    let small = Page::strip(8, 1, vec![1; 256]).with(256, 16).with(257, 16).with(278, 16);
    let small = small.with(254, 1).with(330, 70_000);
    let mut file = CLASSIC.file(&[small, Page::strip(8, 1, vec![9; HEIGHT * WIDTH])]);
    // The second directory is moved from the chain below the first.
    let long = |file: &[u8], at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let first = long(&file, 4) as usize;
    let count = usize::from(u16::from_le_bytes(file[first..first + 2].try_into().unwrap()));
    let link = first + 2 + 12 * count;
    let below =
        (0..count).map(|entry| first + 2 + 12 * entry).find(|&at| file[at..at + 2] == [74, 1]);
    let second = long(&file, link).to_le_bytes();
    let below = below.unwrap();
    file[below + 8..below + 12].copy_from_slice(&second);
    file[link..link + 4].copy_from_slice(&[0; 4]);
    let image = read(&file).unwrap();
    assert_eq!((image.size(), floats(&image)[0]), (SIZE, 9.0));
}

#[test]
fn inks_become_light() {
    let pixel = [0, 128, 255, 64];
    let data: Vec<u8> = pixel.iter().copied().cycle().take(4 * HEIGHT * WIDTH).collect();
    let page = Page::strip(8, 1, data).with(277, 4).with(262, 5);
    let page = page.with_all(258, vec![8; 4]).with_all(339, vec![1; 4]);
    let image = read(&CLASSIC.file(&[page])).unwrap();
    // Pillow: Image.fromarray(.., "CMYK").convert("RGB").
    assert_eq!(floats(&image)[..3], [191.0, 95.0, 0.0]);
}

#[test]
fn jpeg_inside_is_read() {
    use image::{DynamicImage, ImageFormat};

    let pixel = |x: u32, y: u32| image::Rgb([(9 * x) as u8, (7 * y) as u8, 120]);
    let rgb = image::RgbImage::from_fn(WIDTH as u32, HEIGHT as u32, pixel);
    for (image, samples, photometric) in
        [(DynamicImage::from(rgb.clone()).to_luma8().into(), 1, 1), (DynamicImage::from(rgb), 3, 6)]
    {
        let mut jpeg = std::io::Cursor::new(Vec::new());
        image.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        let jpeg = jpeg.into_inner();
        let page = Page::strip(8, 1, jpeg.clone()).with(259, 7).with(262, photometric);
        let page = page.with(277, samples).with_all(258, vec![8; samples as usize]);
        let page = page.with_all(339, vec![1; samples as usize]).with_all(530, vec![1, 1]);
        let found = read(&CLASSIC.file(std::slice::from_ref(&page))).unwrap();
        let expected = decode_bytes(&jpeg, Path::new("a.jpg"), &DecodeOptions::default()).unwrap();
        assert_eq!(found.channels(), expected.channels());
        let pairs = floats(&found).into_iter().zip(floats(&expected));
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 6.0, "{samples}: {worst}");
        let mut absent = page;
        absent.chunks = vec![None];
        let error = read(&CLASSIC.file(&[absent])).unwrap_err().to_string();
        assert!(error.starts_with("a.tif: an absent tile or strip in a TIFF with the"), "{error}");
    }
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
