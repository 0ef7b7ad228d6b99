//! Image files: every kind that is read, and every kind that is refused.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use image::{DynamicImage, ImageFormat};
use pad_data::{
    Error,
    image::{DecodeOptions, Image, Pixels, decode, decode_bytes},
};
use pad_ops::ImageSize;
use tempfile::TempDir;
use tiff::encoder::{TiffEncoder, TiffValue, colortype, colortype::ColorType};

const HEIGHT: u32 = 20;
const WIDTH: u32 = 33;
const SIZE: ImageSize = ImageSize::new(HEIGHT as usize, WIDTH as usize);

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn read(path: &Path) -> Result<Image, Error> {
    decode(path, &DecodeOptions::default())
}

/// The error's text with the folder taken off.
fn fault(path: &Path, options: &DecodeOptions) -> String {
    let text = decode(path, options).unwrap_err().to_string();
    text.replace(path.parent().unwrap().to_str().unwrap(), "").trim_start_matches('/').to_string()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn level(row: u32, column: u32, channel: u32) -> u8 {
    (row * 7 + column * 3 + channel * 40) as u8
}

fn gray8() -> DynamicImage {
    image::GrayImage::from_fn(WIDTH, HEIGHT, |x, y| image::Luma([level(y, x, 0)])).into()
}

fn rgb8() -> DynamicImage {
    let pixel = |x, y| image::Rgb([0, 1, 2].map(|channel| level(y, x, channel)));
    image::RgbImage::from_fn(WIDTH, HEIGHT, pixel).into()
}

fn gray16() -> DynamicImage {
    let counts = (0..WIDTH * HEIGHT).map(|index| 30_000 + index as u16).collect();
    DynamicImage::ImageLuma16(image::ImageBuffer::from_vec(WIDTH, HEIGHT, counts).unwrap())
}

fn tiff_of<C: ColorType>(values: &[C::Inner]) -> Vec<u8>
where
    [C::Inner]: TiffValue,
{
    let mut bytes = Cursor::new(Vec::new());
    TiffEncoder::new(&mut bytes).unwrap().write_image::<C>(WIDTH, HEIGHT, values).unwrap();
    bytes.into_inner()
}

fn pixels() -> usize {
    SIZE.area()
}

#[test]
fn lossless_formats_give_their_samples() {
    let folder = Folder::new();
    let (gray, rgb, counts) = (gray8(), rgb8(), gray16());
    let gray_pixels = Pixels::U8(gray.as_luma8().unwrap().as_raw().clone());
    let rgb_pixels = Pixels::U8(rgb.as_rgb8().unwrap().as_raw().clone());
    let count_pixels = Pixels::U16(counts.as_luma16().unwrap().as_raw().clone());
    let deep_rgb = DynamicImage::from(rgb.to_rgb16());
    let deep_pixels = Pixels::U16(deep_rgb.as_rgb16().unwrap().as_raw().clone());
    let cases = [
        ("gray.png", ImageFormat::Png, &gray, 1, &gray_pixels),
        ("gray.tif", ImageFormat::Tiff, &gray, 1, &gray_pixels),
        ("rgb.png", ImageFormat::Png, &rgb, 3, &rgb_pixels),
        ("rgb.BMP", ImageFormat::Bmp, &rgb, 3, &rgb_pixels),
        ("rgb.tiff", ImageFormat::Tiff, &rgb, 3, &rgb_pixels),
        ("counts.png", ImageFormat::Png, &counts, 1, &count_pixels),
        ("counts.tiff", ImageFormat::Tiff, &counts, 1, &count_pixels),
        ("deep.png", ImageFormat::Png, &deep_rgb, 3, &deep_pixels),
        ("deep.tiff", ImageFormat::Tiff, &deep_rgb, 3, &deep_pixels),
    ];
    for (name, format, source, channels, pixels) in cases {
        let image = read(&folder.file(name, &encoded(source, format))).unwrap();
        assert_eq!((image.size(), image.channels()), (SIZE, channels), "{name}");
        assert_eq!(image.pixels(), pixels, "{name}");
    }
}

#[test]
fn the_content_decides_before_the_extension() {
    let folder = Folder::new();
    let path = folder.file("really_a_png.jpg", &encoded(&gray8(), ImageFormat::Png));
    assert_eq!(read(&path).unwrap().channels(), 1);
    let path = folder.file("no_extension", &encoded(&gray8(), ImageFormat::Bmp));
    assert_eq!(read(&path).unwrap().size(), SIZE);
}

#[test]
fn jpeg_is_near_its_source() {
    let folder = Folder::new();
    for (name, source) in [("gray.jpg", gray8()), ("rgb.jpeg", rgb8())] {
        let smooth = source.blur(2.0);
        let image = read(&folder.file(name, &encoded(&smooth, ImageFormat::Jpeg))).unwrap();
        let Pixels::U8(levels) = image.pixels() else { panic!("8 bits") };
        let sum: i64 = levels.iter().map(|&level| i64::from(level)).sum();
        let expected: i64 = smooth.as_bytes().iter().map(|&level| i64::from(level)).sum();
        assert_eq!(levels.len(), smooth.as_bytes().len());
        assert!((sum - expected).abs() < 2 * levels.len() as i64, "{name}");
    }
}

#[test]
fn alpha_is_dropped() {
    let folder = Folder::new();
    let rgba = DynamicImage::from(rgb8().to_rgba8());
    let gray_alpha = DynamicImage::from(gray8().to_luma_alpha8());
    let plain = read(&folder.file("rgb.png", &encoded(&rgb8(), ImageFormat::Png))).unwrap();
    for (name, format) in [("rgba.png", ImageFormat::Png), ("rgba.tif", ImageFormat::Tiff)] {
        assert_eq!(read(&folder.file(name, &encoded(&rgba, format))).unwrap(), plain, "{name}");
    }
    let gray = read(&folder.file("la.png", &encoded(&gray_alpha, ImageFormat::Png))).unwrap();
    assert_eq!(gray.channels(), 1);
    let deep = DynamicImage::from(rgb8().to_rgba16());
    assert_eq!(
        read(&folder.file("deep.png", &encoded(&deep, ImageFormat::Png))).unwrap().channels(),
        3
    );
}

#[test]
fn a_palette_becomes_rgb() {
    // 16x16, 1 bit: the colours (1, 2, 3) and (200, 100, 50) in turn. Written by Pillow.
    let bytes =
        b"\x89PNG\x0d\x0a\x1a\x0a\x00\x00\x00\x0dIHDR\x00\x00\x00\x10\x00\x00\x00\x10\x01\x03\
        \x00\x00\x00%=m\x22\x00\x00\x00\x06PLTE\x01\x02\x03\xc8d2P\xb4\xae?\x00\x00\x00\x0eI\
        DATx\xdac\x08\x0de \x05\x01\x00\xff0\x0a\xa1\x02\xe6\xcc\xd5\x00\x00\x00\x00IEND\xae\
        B`\x82";
    let image = read(&Folder::new().file("palette.png", bytes)).unwrap();
    let Pixels::U8(levels) = image.pixels() else { panic!("8 bits") };
    assert_eq!(levels[..6], [1, 2, 3, 200, 100, 50]);
}

#[test]
fn tiff_floats_and_other_counts_become_floats() {
    let folder = Folder::new();
    let kelvin: Vec<f32> = (0..pixels()).map(|index| 273.15 + index as f32 * 0.01).collect();
    let path = folder.file("kelvin.tif", &tiff_of::<colortype::Gray32Float>(&kelvin));
    assert_eq!(read(&path).unwrap().pixels(), &Pixels::F32(kelvin.clone()));

    let doubles: Vec<f64> = kelvin.iter().map(|&value| f64::from(value)).collect();
    let path = folder.file("double.tif", &tiff_of::<colortype::Gray64Float>(&doubles));
    assert_eq!(read(&path).unwrap().pixels(), &Pixels::F32(kelvin));

    let signed: Vec<i16> = (0..pixels()).map(|index| index as i16 - 300).collect();
    let path = folder.file("signed.tif", &tiff_of::<colortype::GrayI16>(&signed));
    let floats = signed.iter().map(|&value| f32::from(value)).collect();
    assert_eq!(read(&path).unwrap().pixels(), &Pixels::F32(floats));

    let wide: Vec<u32> = (0..pixels()).map(|index| 100_000 + index as u32).collect();
    let path = folder.file("wide.tif", &tiff_of::<colortype::Gray32>(&wide));
    let floats = wide.iter().map(|&value| value as f32).collect();
    assert_eq!(read(&path).unwrap().pixels(), &Pixels::F32(floats));
}

#[test]
fn infinite_floats_are_refused_with_their_place() {
    let folder = Folder::new();
    let mut kelvin = vec![300.0_f32; pixels()];
    kelvin[3 * WIDTH as usize + 5] = f32::INFINITY;
    let path = folder.file("kelvin.tif", &tiff_of::<colortype::Gray32Float>(&kelvin));
    assert_eq!(
        fault(&path, &DecodeOptions::default()),
        "kelvin.tif: pixel (row 3, column 5) is inf"
    );
}

#[test]
fn pixels_without_a_number_are_masked() {
    let folder = Folder::new();
    let mut kelvin: Vec<f32> = (0..pixels()).map(|index| 290.0 + index as f32).collect();
    kelvin[3 * WIDTH as usize + 5] = f32::NAN;
    let path = folder.file("kelvin.tif", &tiff_of::<colortype::Gray32Float>(&kelvin));
    let image = read(&path).unwrap();
    let masked: Vec<usize> =
        (0..pixels()).filter(|&pixel| image.masked().unwrap()[pixel]).collect();
    assert_eq!(masked, [3 * WIDTH as usize + 5]);
    kelvin[3 * WIDTH as usize + 5] = 290.0;
    assert_eq!(image.pixels(), &Pixels::F32(kelvin));
    let path = folder.file("empty.tif", &tiff_of::<colortype::Gray32Float>(&vec![f32::NAN; 660]));
    assert_eq!(
        fault(&path, &DecodeOptions::default()),
        "empty.tif: expected pixels with data, found nodata, NaN or absent tiles alone"
    );
}

/// A minimal uncompressed TIFF of 8-bit samples.
fn raw_tiff(samples: u16, photometric: u16, planar: u16, extra: Option<u16>) -> Vec<u8> {
    let data_length = pixels() as u32 * u32::from(samples);
    let planes = if planar == 2 { u32::from(samples) } else { 1 };
    let mut arrays: Vec<u8> = Vec::new();
    let arrays_at = 8;
    let bits_at = arrays_at + arrays.len() as u32;
    (0..samples).for_each(|_| arrays.extend(8_u16.to_le_bytes()));
    let data_at = 512_u32;
    let offsets_at = arrays_at + arrays.len() as u32;
    let plane = data_length / planes;
    (0..planes).for_each(|index| arrays.extend((data_at + index * plane).to_le_bytes()));
    let counts_at = arrays_at + arrays.len() as u32;
    (0..planes).for_each(|_| arrays.extend(plane.to_le_bytes()));

    let many = |count: u32, at: u32, one: u32| if count == 1 { one } else { at };
    let bits = match samples {
        1 => 8,
        2 => 8 | 8 << 16,
        _ => bits_at,
    };
    let mut entries: Vec<(u16, u16, u32, u32)> = vec![
        (256, 4, 1, WIDTH),
        (257, 4, 1, HEIGHT),
        (258, 3, u32::from(samples), bits),
        (259, 3, 1, 1),
        (262, 3, 1, u32::from(photometric)),
        (273, 4, planes, many(planes, offsets_at, data_at)),
        (277, 3, 1, u32::from(samples)),
        (278, 4, 1, HEIGHT),
        (279, 4, planes, many(planes, counts_at, plane)),
        (284, 3, 1, u32::from(planar)),
    ];
    if let Some(extra) = extra {
        entries.push((338, 3, 1, u32::from(extra)));
    }
    let mut file = b"II*\0".to_vec();
    let directory_at = data_at + data_length;
    file.extend(directory_at.to_le_bytes());
    file.extend(arrays);
    file.resize(data_at as usize, 0);
    file.extend((0..data_length).map(|index| (index % 251) as u8));
    file.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    file
}

#[test]
fn tiff_layouts_are_told_apart() {
    let folder = Folder::new();
    let stored = |index: usize| (index % 251) as u8;

    let image = read(&folder.file("gray.tif", &raw_tiff(1, 1, 1, None))).unwrap();
    assert_eq!(image.pixels(), &Pixels::U8((0..pixels()).map(stored).collect()));

    // Samples of the image, and the pixels without opacity, which have no data.
    let opaque = |image: &Image, stored: &dyn Fn(usize) -> u8, alpha: &dyn Fn(usize) -> u8| {
        let Pixels::U8(found) = image.pixels() else { panic!("8 bits") };
        for pixel in 0..pixels() {
            let clear = alpha(pixel) == 0;
            assert_eq!(image.masked().is_some_and(|masked| masked[pixel]), clear, "{pixel}");
            let samples = pixel * image.channels()..(pixel + 1) * image.channels();
            assert!(clear || samples.clone().all(|at| found[at] == stored(at)), "{pixel}");
        }
    };
    // One channel and alpha: the alpha is dropped.
    let image = read(&folder.file("alpha.tif", &raw_tiff(2, 1, 1, Some(2)))).unwrap();
    opaque(&image, &|i| stored(2 * i), &|i| stored(2 * i + 1));

    // Three planes, one after the other.
    let image = read(&folder.file("planar.tif", &raw_tiff(3, 2, 2, None))).unwrap();
    let expected = (0..3 * pixels()).map(|i| stored(i / 3 + i % 3 * pixels())).collect();
    assert_eq!(image.pixels(), &Pixels::U8(expected));

    // Bands that are no colours are kept.
    for (name, samples, photometric, extra, channels) in [
        ("five.tif", 5, 1, None, 5),
        ("rgb_thermal.tif", 4, 2, Some(0), 4),
        ("rgba.tif", 4, 2, Some(2), 3),
        ("rgb_unsaid.tif", 4, 2, None, 3),
        ("two.tif", 2, 1, None, 2),
    ] {
        let image = read(&folder.file(name, &raw_tiff(samples, photometric, 1, extra))).unwrap();
        assert_eq!(image.channels(), channels, "{name}");
        let samples = usize::from(samples);
        let value = |i: usize| stored(i / channels * samples + i % channels);
        let alpha = |pixel: usize| match channels == samples {
            true => 255,
            false => stored(pixel * samples + channels),
        };
        opaque(&image, &value, &alpha);
    }
    let bands = DecodeOptions { alpha_is_band: true, ..Default::default() };
    let path = folder.file("rgba.tif", &raw_tiff(4, 2, 1, Some(2)));
    assert_eq!(decode(&path, &bands).unwrap().channels(), 4);

    let options = DecodeOptions::default();
    let path = folder.file("map.tif", &raw_tiff(1, 3, 1, None));
    assert_eq!(
        fault(&path, &options),
        "map.tif: cannot decode: Format error decoding Tiff: expected a palette of 768 numbers, \
         found 0"
    );
    let path = folder.file("many.tif", &raw_tiff(65, 1, 1, None));
    assert_eq!(fault(&path, &options), "many.tif: a 65-channel TIFF is not supported");
    assert!(matches!(read(&path), Err(Error::Unsupported { .. })));
    let path = folder.file("lab.tif", &raw_tiff(3, 8, 1, None));
    assert_eq!(fault(&path, &options), "lab.tif: a TIFF in CIELab is not supported");
}

#[test]
fn other_files_are_refused_by_name() {
    let folder = Folder::new();
    let options = DecodeOptions::default();
    let path = folder.file("notes.txt", b"no image at all");
    assert_eq!(
        fault(&path, &options),
        "notes.txt: a file other than PNG, JPEG, BMP, TIFF, NumPy arrays and sequences of FLIR \
         cameras is not supported"
    );
    let path = folder.file("a.png", b"GIF89a and so on");
    assert_eq!(fault(&path, &options), "a.png: a file of the format Gif is not supported");
    assert_eq!(
        fault(&folder.file("empty.png", b""), &options),
        "empty.png: cannot decode: Format error decoding Png: the file is empty"
    );
    assert!(fault(&folder.0.path().join("missing.png"), &options).starts_with("missing.png: No"));
    let below = folder.0.path().join("folder.png");
    fs::create_dir(&below).unwrap();
    assert_eq!(fault(&below, &options), "folder.png: a folder is not supported");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let error = decode(Path::new("/dev/null"), &DecodeOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "/dev/null: a file that is not a regular file is not supported");
}

#[test]
fn limits_hold_before_memory_is_taken() {
    let folder = Folder::new();
    let path = folder.file("a.png", &encoded(&rgb8(), ImageFormat::Png));
    let tiff = folder.file("a.tif", &encoded(&rgb8(), ImageFormat::Tiff));
    let pixels = DecodeOptions { max_pixels: 600, ..Default::default() };
    assert_eq!(fault(&path, &pixels), "a.png: pixels is 660, the limit is 600");
    assert_eq!(fault(&tiff, &pixels), "a.tif: pixels is 660, the limit is 600");
    let bytes = DecodeOptions { max_alloc_bytes: 1979, ..Default::default() };
    assert_eq!(fault(&path, &bytes), "a.png: bytes of samples is 1980, the limit is 1979");
    let big = folder.file("b.bmp", &encoded(&rgb8(), ImageFormat::Bmp));
    assert_eq!(fault(&big, &bytes), "b.bmp: bytes of file is 2054, the limit is 1979");
    let side = DecodeOptions { min_side: 21, ..Default::default() };
    assert_eq!(fault(&path, &side), "a.png: the image is 20x33, at least 21x21 is needed");
    assert_eq!(fault(&tiff, &side), "a.tif: the image is 20x33, at least 21x21 is needed");

    // A header that asks for 65535 x 65535 pixels: refused by its word, not by running out of
    // memory.
    let mut bmp = fs::read(&big).unwrap();
    bmp[18..22].copy_from_slice(&65_535_i32.to_le_bytes());
    bmp[22..26].copy_from_slice(&65_535_i32.to_le_bytes());
    let bomb = folder.file("bomb.bmp", &bmp);
    assert_eq!(
        fault(&bomb, &DecodeOptions::default()),
        "bomb.bmp: pixels is 4294836225, the limit is 100000000"
    );
}

#[test]
fn truncated_files_are_refused() {
    let folder = Folder::new();
    let options = DecodeOptions::default();
    for (name, format) in [
        ("a.png", ImageFormat::Png),
        ("a.jpg", ImageFormat::Jpeg),
        ("a.bmp", ImageFormat::Bmp),
        ("a.tif", ImageFormat::Tiff),
    ] {
        let whole = encoded(&rgb8(), format);
        // TIFF keeps its directory at the end, the others their pixels.
        for keep in [whole.len() / 3, whole.len() / 2, whole.len() - 20] {
            let path = folder.file(name, &whole[..keep]);
            let error = decode(&path, &options).unwrap_err();
            assert!(matches!(error, Error::Decode { .. }), "{name} {keep}: {error}");
            assert!(error.to_string().contains(&format!("{name}: cannot decode: ")), "{error}");
        }
    }
    let jpeg = encoded(&rgb8(), ImageFormat::Jpeg);
    assert_eq!(
        fault(&folder.file("half.jpg", &jpeg[..jpeg.len() - 30]), &options),
        "half.jpg: cannot decode: Format error decoding Jpeg: the file ends before the \
         end-of-image marker"
    );
}

#[test]
fn damaged_files_neither_end_the_process_nor_lie_about_their_size() {
    let options = DecodeOptions { max_pixels: 1 << 20, ..Default::default() };
    for (format, source) in [
        (ImageFormat::Png, gray16()),
        (ImageFormat::Jpeg, rgb8()),
        (ImageFormat::Jpeg, gray8()),
        (ImageFormat::Bmp, rgb8()),
        (ImageFormat::Tiff, gray16()),
    ] {
        let whole = encoded(&source, format);
        let name = Path::new("damaged");
        let law = |bytes: &[u8]| {
            if let Ok(image) = decode_bytes(bytes, name, &options) {
                let samples = image.size().area() * image.channels();
                assert_eq!(image.pixels().len(), samples, "{format:?}");
            }
        };
        for keep in (0..whole.len()).step_by(17) {
            law(&whole[..keep]);
        }
        for place in (0..whole.len()).step_by(5) {
            for flip in [0xFF, 0x01, 0x80] {
                let mut bytes = whole.clone();
                bytes[place] ^= flip;
                law(&bytes);
            }
        }
    }
}
