//! How samples are stored: depths, palettes, inks, orientations, JPEG inside.

use std::path::Path;

use pad_data::image::{DecodeOptions, Pixels, decode_bytes};
use pad_ops::ImageSize;

use crate::files::{CLASSIC, HEIGHT, Page, SIZE, WIDTH, floats, read};

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
