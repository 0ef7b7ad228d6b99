//! Files of other makers and of NumPy, made here by their public descriptions; orientation in PNG
//! and JPEG.

use std::{io::Cursor, path::Path};

use image::{GrayImage, ImageFormat, Luma};
use pad_data::{
    Dataset, Error, Result,
    image::{
        DecodeOptions, Image, Pixels, RadiometricMode, decode_bytes, frame_count, image_size_bytes,
    },
    sequence::Sequence,
};
use pad_ops::ImageSize;

fn mode(radiometric: RadiometricMode) -> DecodeOptions {
    DecodeOptions { radiometric, ..Default::default() }
}

fn read(bytes: &[u8], name: &str, options: &DecodeOptions) -> Result<Image> {
    let image = decode_bytes(bytes, Path::new(name), options)?;
    assert_eq!(image_size_bytes(bytes, Path::new(name), options).unwrap(), image.size());
    Ok(image)
}

fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    GrayImage::from_fn(width, height, |x, y| Luma([(3 * x + 5 * y) as u8]))
        .write_to(&mut bytes, format)
        .unwrap();
    bytes.into_inner()
}

/// An EXIF block with the maker and the orientation.
fn exif(make: &str, orientation: u16) -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x02\0".to_vec();
    let make = format!("{make}\0");
    let mut entry = |tag: u16, kind: u16, count: u32, value: u32| {
        block.extend(tag.to_le_bytes());
        block.extend(kind.to_le_bytes());
        block.extend(count.to_le_bytes());
        block.extend(value.to_le_bytes());
    };
    let inline = make.bytes().take(4).enumerate();
    let inline = inline.fold(0, |sum, (at, byte)| sum | u32::from(byte) << (8 * at));
    let place = if make.len() > 4 { 38 } else { inline };
    entry(271, 2, make.len() as u32, place);
    entry(274, 3, 1, u32::from(orientation));
    block.extend([0; 4]);
    block.extend(make.as_bytes());
    block
}

/// A JPEG file with more segments.
fn with_segments(jpeg: &[u8], segments: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut file = jpeg[..2].to_vec();
    for (marker, body) in segments {
        file.extend([0xFF, *marker]);
        file.extend(((body.len() + 2) as u16).to_be_bytes());
        file.extend(body);
    }
    file.extend(&jpeg[2..]);
    file
}

fn exif_segment(make: &str, orientation: u16) -> (u8, Vec<u8>) {
    (0xE1, [b"Exif\0\0".to_vec(), exif(make, orientation)].concat())
}

/// Counts of a thermal image of 40 x 32.
fn counts() -> Vec<u16> {
    (0..40 * 32).map(|index| 17_000 + (index * 7 % 3_000) as u16).collect()
}

fn dji(make: &str, width: u32, height: u32) -> Vec<u8> {
    let bytes: Vec<u8> = counts().iter().flat_map(|count| count.to_le_bytes()).collect();
    let mut segments = vec![exif_segment(make, 1)];
    segments.extend(bytes.chunks(1_000).map(|piece| (0xE3, piece.to_vec())));
    with_segments(&picture(width, height, ImageFormat::Jpeg), &segments)
}

#[test]
fn counts_of_dji_are_read_and_never_taken_for_temperatures() {
    for (width, height) in [(40, 32), (80, 64)] {
        let file = dji("DJI", width, height);
        let image = read(&file, "a.jpg", &DecodeOptions::default()).unwrap();
        assert_eq!(image.pixels(), &Pixels::U16(counts()));
        assert_eq!(image.size(), ImageSize::new(32, 40));
        let size = ImageSize::new(height as usize, width as usize);
        assert_eq!(image.companion_size(), Some(size));
        assert_eq!(read(&file, "a.jpg", &mode(RadiometricMode::Raw)).unwrap(), image);
        let picture = read(&file, "a.jpg", &mode(RadiometricMode::Picture)).unwrap();
        assert_eq!(picture.size(), size);
        assert_eq!(picture.companion_size(), Some(image.size()));
        for unit in [RadiometricMode::Kelvin, RadiometricMode::Celsius] {
            assert_eq!(
                read(&file, "a.jpg", &mode(unit)).unwrap_err().to_string(),
                format!(
                    "a.jpg: the radiometric mode {unit} for a camera whose conversion is not \
                     public (use raw or picture; auto gives counts) is not supported"
                )
            );
        }
    }
    // Another maker's segments, and data of no known shape, are no thermal image.
    for file in [dji("Canon", 40, 32), dji("DJI", 48, 32)] {
        let image = read(&file, "a.jpg", &DecodeOptions::default()).unwrap();
        assert!(matches!(image.pixels(), Pixels::U8(_)));
        assert_eq!(image.companion_size(), None);
    }
    let small = DecodeOptions { max_pixels: 1_000, ..Default::default() };
    let error = read(&dji("DJI", 40, 32), "a.jpg", &small).unwrap_err();
    assert_eq!(error.to_string(), "a.jpg: pixels is 1280, the limit is 1000");
}

#[test]
fn counts_of_hikmicro_are_read() {
    let mut block = b"HDRI\x28\x10".to_vec();
    block.resize(12, 0);
    block.extend(40_u32.to_le_bytes());
    block.extend(32_u32.to_le_bytes());
    block.resize(44, 0);
    block.extend(counts().iter().flat_map(|count| count.to_le_bytes()));
    let file = [picture(160, 128, ImageFormat::Jpeg), block.clone(), vec![9; 2_000]].concat();
    let image = read(&file, "a.jpg", &DecodeOptions::default()).unwrap();
    assert_eq!(image.pixels(), &Pixels::U16(counts()));
    assert_eq!(image.companion_size(), Some(ImageSize::new(128, 160)));
    let picture_size = read(&file, "a.jpg", &mode(RadiometricMode::Picture)).unwrap().size();
    assert_eq!(picture_size, ImageSize::new(128, 160));
    let cut = &file[..file.len() - 2_100];
    let error = read(cut, "a.jpg", &DecodeOptions::default()).unwrap_err().to_string();
    assert!(
        error.ends_with("expected 2560 bytes of a thermal image of 32x40, found 2460"),
        "{error}"
    );
    // The four letters alone are no block.
    let letters = [picture(160, 128, ImageFormat::Jpeg), b"HDRI and so on".to_vec()].concat();
    let image = read(&letters, "a.jpg", &DecodeOptions::default()).unwrap();
    assert_eq!(image.size(), ImageSize::new(128, 160));
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
        }
    }
    !crc
}

#[test]
fn exif_turns_png_and_jpeg_alike() {
    let (png, jpeg) = (picture(24, 40, ImageFormat::Png), picture(24, 40, ImageFormat::Jpeg));
    let levels = |bytes: &[u8]| {
        let image = read(bytes, "a", &DecodeOptions::default()).unwrap();
        let size = image.size();
        let Pixels::U8(levels) = image.collapse_gray().into_pixels() else { panic!("8 bits") };
        (levels, size)
    };
    let corners = |(levels, size): (Vec<u8>, ImageSize)| {
        let last = size.area() - 1;
        [levels[0], levels[size.width - 1], levels[last + 1 - size.width], levels[last]]
    };
    for orientation in 1..=8_u16 {
        let with_chunk = |chunk: &[u8]| {
            let mut turned = png[..33].to_vec();
            turned.extend(((chunk.len() - 4) as u32).to_be_bytes());
            turned.extend(chunk);
            turned.extend(crc(chunk).to_be_bytes());
            turned.extend(&png[33..]);
            turned
        };
        // With JPEG's name in front of the block, as some programs write it.
        let named = [b"eXIfExif\0\0".to_vec(), exif("x", orientation)].concat();
        let named_png = with_chunk(&named);
        let chunk = [b"eXIf".to_vec(), exif("x", orientation)].concat();
        let turned_png = with_chunk(&chunk);
        // The same behind the pixels.
        let mut behind = png[..png.len() - 12].to_vec();
        behind.extend(&turned_png[33..33 + 12 + chunk.len() - 4]);
        behind.extend(&png[png.len() - 12..]);
        let turned_jpeg = with_segments(&jpeg, &[exif_segment("x", orientation)]);
        for (plain, turned) in
            [(&png, &turned_png), (&png, &named_png), (&png, &behind), (&jpeg, &turned_jpeg)]
        {
            let found = levels(turned);
            let transposed = orientation > 4;
            let size = if transposed { ImageSize::new(24, 40) } else { ImageSize::new(40, 24) };
            assert_eq!(found.1, size, "{orientation}");
            // Upper left, upper right, lower left, lower right of the stored image.
            let [a, b, c, d] = corners(levels(plain));
            let expected = match orientation {
                1 => [a, b, c, d],
                2 => [b, a, d, c],
                3 => [d, c, b, a],
                4 => [c, d, a, b],
                5 => [a, c, b, d],
                6 => [c, a, d, b],
                7 => [d, b, c, a],
                _ => [b, d, a, c],
            };
            assert_eq!(corners(found), expected, "{orientation}");
        }
    }
}

fn npy(descr: &str, columns_first: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if columns_first { "True" } else { "False" };
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\0".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// The bytes of the numbers 0, 1, 2, .. in every type, and the image they make.
fn typed(descr: &str, count: usize) -> Vec<u8> {
    let value = |n: usize| n % 120;
    let mut data = Vec::new();
    for n in (0..count).map(value) {
        let mut bytes = match &descr[1..] {
            "u1" | "i1" => vec![n as u8],
            "u2" | "i2" => (n as u16).to_le_bytes().to_vec(),
            "u4" | "i4" => (n as u32).to_le_bytes().to_vec(),
            "u8" | "i8" => (n as u64).to_le_bytes().to_vec(),
            "f4" => (n as f32).to_le_bytes().to_vec(),
            "f8" => (n as f64).to_le_bytes().to_vec(),
            other => panic!("{other}"),
        };
        if descr.starts_with('>') {
            bytes.reverse();
        }
        data.extend(bytes);
    }
    data
}

fn floats(image: &Image) -> Vec<f32> {
    match image.pixels() {
        Pixels::U8(values) => values.iter().map(|&value| f32::from(value)).collect(),
        Pixels::U16(values) => values.iter().map(|&value| f32::from(value)).collect(),
        Pixels::F32(values) => values.clone(),
    }
}

#[test]
fn arrays_of_numpy_are_read_in_every_type_and_order() {
    let types = [
        "|u1", "|i1", "<u2", ">u2", "<i2", ">i2", "<u4", "<i4", ">i4", "<i8", "<u8", "<f4", ">f4",
        "<f8", ">f8",
    ];
    for descr in types {
        let rows = npy(descr, false, "(20, 30)", &typed(descr, 600));
        let image = read(&rows, "a.npy", &DecodeOptions::default()).unwrap();
        assert_eq!((image.size(), image.channels()), (ImageSize::new(20, 30), 1));
        let expected: Vec<f32> = (0..600).map(|n| (n % 120) as f32).collect();
        assert_eq!(floats(&image), expected, "{descr}");
        let kept = match descr {
            "|u1" => matches!(image.pixels(), Pixels::U8(_)),
            "<u2" | ">u2" => matches!(image.pixels(), Pixels::U16(_)),
            _ => matches!(image.pixels(), Pixels::F32(_)),
        };
        assert!(kept, "{descr}");
        // Columns first: number n lies in row n % 20.
        let columns = npy(descr, true, "(20, 30)", &typed(descr, 600));
        let image = read(&columns, "a.npy", &DecodeOptions::default()).unwrap();
        let expected: Vec<f32> = (0..600).map(|n| ((n / 30 + n % 30 * 20) % 120) as f32).collect();
        assert_eq!(floats(&image), expected, "{descr}");
    }
}

#[test]
fn axes_of_numpy_are_rows_bands_and_frames() {
    let data = typed("<u2", 20 * 30 * 4);
    let bands_last = npy("<u2", false, "(20, 30, 4)", &data);
    let image = read(&bands_last, "a.npy", &DecodeOptions::default()).unwrap();
    assert_eq!((image.size(), image.channels()), (ImageSize::new(20, 30), 4));
    assert_eq!(floats(&image)[..5], [0.0, 1.0, 2.0, 3.0, 4.0]);
    let bands_first = npy("<u2", false, "(4, 20, 30)", &data);
    let image = read(&bands_first, "a.npy", &DecodeOptions::default()).unwrap();
    assert_eq!((image.size(), image.channels()), (ImageSize::new(20, 30), 4));
    // 600 numbers a band: 600 % 120 = 0.
    assert_eq!(floats(&image)[..8], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    let frames = npy("<u2", false, "(17, 20, 30)", &typed("<u2", 17 * 600));
    assert_eq!(frame_count(&frames, Path::new("a.npy")).unwrap(), 17);
    let last = DecodeOptions { page: Some(16), ..Default::default() };
    assert_eq!(read(&frames, "a.npy", &last).unwrap().channels(), 1);
    let colored = npy("|u1", false, "(2, 20, 30, 3)", &typed("|u1", 2 * 1800));
    let second = DecodeOptions { page: Some(1), ..Default::default() };
    assert_eq!(read(&colored, "a.npy", &second).unwrap().channels(), 3);
    // PyTorch's order: images, channels, rows, columns.
    for (shape, channels) in [("(3, 1, 20, 30)", 1), ("(1, 3, 20, 30)", 3), ("(2, 1, 20, 64)", 1)] {
        let count = if shape.contains("64") { 2 * 20 * 64 } else { 3 * 600 };
        let file = npy("<u2", false, shape, &typed("<u2", count));
        let first = DecodeOptions { page: Some(0), ..Default::default() };
        let image = read(&file, "a.npy", &first).unwrap();
        assert_eq!((image.size().height, image.channels()), (20, channels), "{shape}");
        assert_eq!(floats(&image)[channels], 1.0, "{shape}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    std::fs::write(&path, &frames).unwrap();
    let set = Sequence::open(&path, &DecodeOptions::default()).unwrap();
    assert_eq!(set.len(), 17);
    assert_eq!(set.get(3, &DecodeOptions::default()).unwrap().size(), ImageSize::new(20, 30));
}

#[test]
fn arrays_that_are_no_images_are_refused() {
    let said =
        |bytes: &[u8]| read(bytes, "a.npy", &DecodeOptions::default()).unwrap_err().to_string();
    let data = typed("<f4", 600);
    assert_eq!(
        said(&npy("<f4", false, "(20, 30)", &data[..2_396])),
        "a.npy: byte 128: expected 2400 bytes of numbers, found 2396"
    );
    assert_eq!(
        said(&npy("|O", false, "(20, 30)", &data)),
        "a.npy: an array of the type `|O` is not supported"
    );
    assert_eq!(
        said(&npy("<f4", false, "(600,)", &data)),
        "a.npy: an array of 600 is not supported"
    );
    assert_eq!(
        said(&npy("<f4", false, "(0, 30)", &data)),
        "a.npy: an array of 0x30, without an element, is not supported"
    );
    let huge = npy("<f4", false, "(9999999999, 9999999999)", &data);
    assert!(matches!(read(&huge, "a.npy", &DecodeOptions::default()), Err(Error::Limit { .. })));
    let mut large = typed("<i8", 600);
    large[..8].copy_from_slice(&(1_i64 << 40).to_le_bytes());
    assert_eq!(
        said(&npy("<i8", false, "(20, 30)", &large)),
        "a.npy: an array of whole numbers beyond 16777216 is not supported"
    );
    let mut nan = data.clone();
    nan[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let image = read(&npy("<f4", false, "(20, 30)", &nan), "a.npy", &DecodeOptions::default());
    assert!(image.unwrap().masked().unwrap()[0]);
    // No part and no flipped byte panics.
    let whole = npy("<u2", false, "(20, 30)", &typed("<u2", 600));
    for at in 0..200 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x15;
        for bytes in [&bytes[..], &whole[..at]] {
            let result = decode_bytes(bytes, Path::new("a.npy"), &DecodeOptions::default());
            let panicked = result.is_err_and(|error| error.to_string().contains("panicked"));
            assert!(!panicked, "{at}");
        }
    }
}
