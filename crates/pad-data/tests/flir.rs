//! Radiometric JPEG, made here as a camera makes it.

use std::{io::Cursor, path::Path};

use image::{GrayImage, ImageBuffer, ImageFormat, Luma};
use pad_data::{
    Dataset,
    image::{
        DecodeOptions, Image, Pixels, RadiometricMode, decode_bytes,
        flir::{Atmosphere, Calibration, Planck, Radiometric},
        frame_count, image_size_bytes,
    },
    sequence::Sequence,
    window::Window,
};

const WIDTH: usize = 40;
const HEIGHT: usize = 32;

/// Constants of a real camera's order of magnitude.
const PLANCK: Planck =
    Planck { r1: 16_528.178, r2: 0.012_258_549, b: 1_427.5, f: 1.0, o: -1_307.0 };

#[derive(Clone, Copy, PartialEq)]
enum Stored {
    Little,
    Big,
    Png,
    PngSwapped,
}

/// A slope from cool to warm with a warm square.
fn counts() -> Vec<u16> {
    let count = |x: usize, y: usize| {
        let warm = (10..20).contains(&x) && (8..20).contains(&y);
        13_000 + (x * 37 + y * 11) as u16 + if warm { 700 } else { 0 }
    };
    (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| count(x, y))).collect()
}

fn write<const N: usize>(record: &mut [u8], at: usize, bytes: [u8; N]) {
    record[at..at + N].copy_from_slice(&bytes);
}

fn camera(big: bool, distance: f32) -> Vec<u8> {
    let mut record = vec![0; 0x310];
    let order = |bytes: [u8; 4]| {
        let mut bytes = bytes;
        if big {
            bytes.reverse();
        }
        bytes
    };
    let mut float = |at: usize, value: f32| write(&mut record, at, order(value.to_le_bytes()));
    for (at, value) in [(0x20, 0.95), (0x24, distance), (0x28, 293.15), (0x2C, 293.15), (0x3C, 0.5)]
    {
        float(at, value);
    }
    for (at, value) in [(0x58, PLANCK.r1), (0x5C, PLANCK.b), (0x60, PLANCK.f), (0x30C, PLANCK.r2)] {
        float(at, value as f32);
    }
    let air = [0.006_569, 0.012_62, -0.002_276, -0.006_67, 1.9];
    air.iter().enumerate().for_each(|(index, &value)| float(0x70 + 4 * index, value));
    write(&mut record, 0x308, order((PLANCK.o as i32).to_le_bytes()));
    write(&mut record, 0, if big { [0, 2] } else { [2, 0] });
    record
}

fn raw(stored: Stored) -> Vec<u8> {
    let mut record = vec![0; 32];
    let big = stored == Stored::Big;
    let word = |value: usize| {
        if big { (value as u16).to_be_bytes() } else { (value as u16).to_le_bytes() }
    };
    write(&mut record, 0, word(2));
    write(&mut record, 2, word(WIDTH));
    write(&mut record, 4, word(HEIGHT));
    match stored {
        Stored::Little | Stored::Big => {
            record.extend(counts().into_iter().flat_map(|count| word(usize::from(count))));
        }
        Stored::Png | Stored::PngSwapped => {
            let swap = |count: u16| if stored == Stored::Png { count } else { count.swap_bytes() };
            let pixels = counts().into_iter().map(swap).collect();
            let image: ImageBuffer<Luma<u16>, Vec<u16>> =
                ImageBuffer::from_raw(WIDTH as u32, HEIGHT as u32, pixels).unwrap();
            let mut png = Cursor::new(Vec::new());
            image.write_to(&mut png, ImageFormat::Png).unwrap();
            record.extend(png.into_inner());
        }
    }
    record
}

/// An FFF file of these records.
fn fff(records: &[(u16, Vec<u8>)], big: bool) -> Vec<u8> {
    let long = |value: usize| {
        if big { (value as u32).to_be_bytes() } else { (value as u32).to_le_bytes() }
    };
    let mut file = b"FFF\0CAMCTRL\0\0\0\0\0\0\0\0\0".to_vec();
    for value in [101, 64, records.len()] {
        file.extend(long(value));
    }
    file.resize(64 + 32 * records.len(), 0);
    for (index, (kind, record)) in records.iter().enumerate() {
        let at = 64 + 32 * index;
        let kind = if big { kind.to_be_bytes() } else { kind.to_le_bytes() };
        write(&mut file, at, kind);
        let start = file.len();
        write(&mut file, at + 0x0C, long(start));
        write(&mut file, at + 0x10, long(record.len()));
        file.extend(record);
    }
    file
}

/// A JPEG picture with an FFF file in segments of `piece` bytes.
fn jpeg(fff: &[u8], piece: usize) -> Vec<u8> {
    let mut picture = Cursor::new(Vec::new());
    GrayImage::from_fn(64, 48, |x, y| Luma([(x + y) as u8]))
        .write_to(&mut picture, ImageFormat::Jpeg)
        .unwrap();
    let picture = picture.into_inner();
    let mut file = picture[..2].to_vec();
    let pieces: Vec<&[u8]> = fff.chunks(piece).collect();
    for (number, data) in pieces.iter().enumerate() {
        file.extend([0xFF, 0xE1]);
        file.extend(((data.len() + 10) as u16).to_be_bytes());
        file.extend(b"FLIR\0\x01");
        file.extend([number as u8, (pieces.len() - 1) as u8]);
        file.extend(*data);
    }
    file.extend(&picture[2..]);
    file
}

fn file(stored: Stored) -> Vec<u8> {
    let big = stored == Stored::Big;
    jpeg(&fff(&[(0x22, vec![7; 5]), (1, raw(stored)), (0x20, camera(big, 0.0))], big), 900)
}

fn parsed(bytes: &[u8]) -> pad_data::Result<Option<Radiometric>> {
    Radiometric::parse(bytes, Path::new("a.jpg"), &DecodeOptions::default())
}

fn floats(image: &Image) -> &[f32] {
    let Pixels::F32(values) = image.pixels() else { panic!("kelvin are floats") };
    values
}

#[test]
fn all_ways_to_store_the_raw_image_give_its_counts() {
    for stored in [Stored::Little, Stored::Big, Stored::Png, Stored::PngSwapped] {
        let thermal = parsed(&file(stored)).unwrap().unwrap();
        assert_eq!(thermal.counts.pixels(), &Pixels::U16(counts()));
        let size = thermal.counts.size();
        assert_eq!((size.height, size.width), (HEIGHT, WIDTH));
        assert_eq!(thermal.calibration.atmosphere, None, "no distance");
        assert!((thermal.calibration.emissivity - 0.95).abs() < 1e-6);
        assert_eq!(thermal.calibration.planck.o, -1_307.0);
    }
}

#[test]
fn counts_become_the_temperatures_that_gave_them() {
    // Forwards: what an object of 310 K with emissivity 0.9 gives through air.
    let air = Atmosphere {
        distance: 100.0,
        temperature: 283.15,
        humidity: 0.5,
        alpha: [0.006_569, 0.012_62],
        beta: [-0.002_276, -0.006_67],
        weight: 1.9,
    };
    let transmission = air.transmission();
    // Thermimage's formula with the same numbers, in numpy.
    assert!((transmission - 0.952_783).abs() < 1e-6, "{transmission}");
    for atmosphere in [None, Some(air)] {
        let calibration =
            Calibration { planck: PLANCK, emissivity: 0.9, reflected: 295.0, atmosphere };
        let t = atmosphere.map_or(1.0, |_| transmission);
        let table = calibration.table().unwrap();
        for kelvin in [255.0, 273.15, 310.0, 400.0] {
            let own = 0.9 * t * PLANCK.raw(kelvin);
            let count = own + 0.1 * t * PLANCK.raw(295.0) + (1.0 - t) * PLANCK.raw(283.15);
            let found = f64::from(table[count.round() as usize]);
            assert!((found - kelvin).abs() < 0.05, "{kelvin}: {found}");
        }
        // Warmer is more, wherever there is a temperature.
        let known: Vec<f32> = table.into_iter().filter(|value| value.is_finite()).collect();
        assert!(known.len() > 50_000 && known.is_sorted());
    }
    let wrong = Calibration { planck: PLANCK, emissivity: 0.0, reflected: 1.0, atmosphere: None };
    assert!(
        wrong.table().unwrap_err().to_string().starts_with("`calibration` is R1 16528.178, R2 ")
    );
}

#[test]
fn decoding_gives_kelvin_or_the_picture() {
    let bytes = file(Stored::PngSwapped);
    let options = DecodeOptions::default();
    let kelvin = decode_bytes(&bytes, Path::new("a.jpg"), &options).unwrap();
    assert_eq!((kelvin.size().height, kelvin.size().width, kelvin.channels()), (32, 40, 1));
    let values = floats(&kelvin);
    assert!(values.iter().all(|value| (250.0..400.0).contains(value)), "{:?}", &values[..4]);
    assert!(values[15 * WIDTH + 15] > values[15 * WIDTH + 25], "the square is warm");
    let levels = Window::OUTDOOR_KELVIN.apply(kelvin).unwrap();
    assert!(floats(&levels).iter().all(|level| (0.0..=255.0).contains(level)));
    let options = DecodeOptions { radiometric: RadiometricMode::Picture, ..options };
    let picture = decode_bytes(&bytes, Path::new("a.jpg"), &options).unwrap();
    assert_eq!((picture.size().height, picture.size().width), (48, 64));
    // A JPEG without a thermal part is its picture.
    let plain = jpeg(&[], 1);
    assert_eq!(parsed(&plain).unwrap(), None);
    assert!(parsed(b"no JPEG").unwrap().is_none());
}

#[test]
fn damage_is_named() {
    let refused = |bytes: &[u8]| parsed(bytes).unwrap_err().to_string();
    let good = [(1, raw(Stored::Little)), (0x20, camera(false, 0.0))];
    let built = |records: &[(u16, Vec<u8>)]| jpeg(&fff(records, false), 60_000);
    assert!(parsed(&built(&good)).unwrap().is_some());
    assert_eq!(
        refused(&built(&good[..1])),
        "a.jpg: byte 28: (of the FFF file) expected a record of the camera, found none"
    );
    assert_eq!(
        refused(&built(&[(0x20, camera(false, 0.0))])),
        "a.jpg: byte 28: (of the FFF file) expected a record of the raw image, found none"
    );
    let mut short = good.clone();
    short[0].1.pop();
    assert_eq!(
        refused(&built(&short)),
        "a.jpg: byte 160: (of the FFF file) expected 2560 bytes of samples or a PNG, found 2559 bytes"
    );
    let mut short = good.clone();
    short[1].1.truncate(0x300);
    let said = refused(&built(&short));
    assert!(said.ends_with("expected a camera record of 784 bytes, found 768"), "{said}");
    let mut cold = good.clone();
    write(&mut cold[1].1, 0x58, 0_f32.to_le_bytes());
    let said = refused(&built(&cold));
    assert!(said.contains("`calibration` is R1 0, R2 0.0122"), "{said}");
    let mut other = fff(&good, false);
    other[0] = b'G';
    assert_eq!(
        refused(&jpeg(&other, 60_000)),
        "a.jpg: byte 0: (of the FFF file) expected \"FFF\" and a zero"
    );
    let mut many = fff(&good, false);
    write(&mut many, 0x1C, 5_000_u32.to_le_bytes());
    assert_eq!(
        refused(&jpeg(&many, 60_000)),
        "a.jpg: byte 28: (of the FFF file) expected at most 4096 records, found 5000"
    );
    // A segment is lost.
    let whole = jpeg(&fff(&good, false), 900);
    let without_second = [&whole[..2 + 912], &whole[2 + 2 * 912..]].concat();
    assert_eq!(
        refused(&without_second),
        "a.jpg: byte 918: expected FLIR segment 1 of 0 to 3, found 2 of 0 to 3"
    );
    let limits = DecodeOptions { max_pixels: 1000, ..Default::default() };
    let error = Radiometric::parse(&whole, Path::new("a.jpg"), &limits).unwrap_err();
    assert_eq!(error.to_string(), "a.jpg: pixels is 1280, the limit is 1000");
}

#[test]
fn no_part_and_no_flipped_byte_panics() {
    let whole =
        jpeg(&fff(&[(1, raw(Stored::PngSwapped)), (0x20, camera(false, 50.0))], false), 900);
    let options = DecodeOptions::default();
    for end in (0..whole.len()).step_by(7) {
        let _ = decode_bytes(&whole[..end], Path::new("a.jpg"), &options);
        let mut flipped = whole.clone();
        flipped[end] ^= 0xA5;
        if let Ok(Some(thermal)) = parsed(&flipped) {
            let _ = thermal.kelvin();
        }
    }
}

fn options(radiometric: RadiometricMode, page: Option<usize>) -> DecodeOptions {
    DecodeOptions { radiometric, page, ..Default::default() }
}

#[test]
fn dead_pixels_are_masked_and_the_others_kept() {
    let mut record = raw(Stored::Little);
    for pixel in [0, 77, 1279] {
        write(&mut record, 32 + 2 * pixel, [0, 0]);
    }
    let bytes = jpeg(&fff(&[(1, record), (0x20, camera(false, 0.0))], false), 60_000);
    let image = decode_bytes(&bytes, Path::new("a.jpg"), &DecodeOptions::default()).unwrap();
    let masked = image.masked().unwrap();
    let dead: Vec<usize> = (0..masked.len()).filter(|&pixel| masked[pixel]).collect();
    assert_eq!(dead, [0, 77, 1279]);
    let good = decode_bytes(&file(Stored::Little), Path::new("a.jpg"), &DecodeOptions::default());
    let good = good.unwrap();
    for (pixel, (found, expected)) in floats(&image).iter().zip(floats(&good)).enumerate() {
        assert!(dead.contains(&pixel) || found == expected, "{pixel}");
        assert!(found.is_finite());
    }
    // Raw counts have no dead pixels: zero is a count.
    let raw = decode_bytes(&bytes, Path::new("a.jpg"), &options(RadiometricMode::Raw, None));
    assert_eq!(raw.unwrap().masked(), None);
    // Nothing but dead pixels is an error.
    let empty = [vec![2, 0, 40, 0, 32, 0], vec![0; 26 + 2 * 1280]].concat();
    let bytes = jpeg(&fff(&[(1, empty), (0x20, camera(false, 0.0))], false), 60_000);
    let error = decode_bytes(&bytes, Path::new("a.jpg"), &DecodeOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a.jpg: `calibration` is none, expected a temperature for some count of the image"
    );
}

#[test]
fn sequences_give_their_frames() {
    for big in [false, true] {
        let stored = if big { Stored::Big } else { Stored::Little };
        let frame = |first: u16| {
            let mut record = raw(stored);
            let bytes = if big { first.to_be_bytes() } else { first.to_le_bytes() };
            write(&mut record, 32, bytes);
            fff(&[(1, record), (0x20, camera(big, 0.0))], big)
        };
        // A frame may hold what looks like the beginning of another.
        let mut second = frame(14_000);
        let at = second.len();
        second.extend(b"FFF\0CAMCTRL");
        let sequence = [frame(13_500), second, frame(14_500)].concat();
        assert!(at > 0);
        let path = Path::new("a.seq");
        assert_eq!(frame_count(&sequence, path).unwrap(), 3);
        let counts = |page| {
            let raw = options(RadiometricMode::Raw, page);
            let image = decode_bytes(&sequence, path, &raw).unwrap();
            assert_eq!(image_size_bytes(&sequence, path, &raw).unwrap(), image.size());
            let Pixels::U16(counts) = image.into_pixels() else { panic!("counts") };
            counts
        };
        for (page, first) in [(None, 13_500), (Some(1), 14_000), (Some(2), 14_500)] {
            let mut expected = self::counts();
            expected[0] = first;
            assert_eq!(counts(page), expected, "{page:?}");
        }
        let celsius = options(RadiometricMode::Celsius, Some(2));
        let image = decode_bytes(&sequence, path, &celsius).unwrap();
        assert!(floats(&image).iter().all(|value| (-30.0..130.0).contains(value)));
        let error = decode_bytes(&sequence, path, &options(RadiometricMode::Raw, Some(3)));
        assert_eq!(
            error.unwrap_err().to_string(),
            "a.seq: page 3 (from 0) of a file of 3 is not supported"
        );
        let error = decode_bytes(&sequence, path, &options(RadiometricMode::Picture, None));
        assert!(error.unwrap_err().to_string().contains("the picture of a FLIR sequence"));

        // As a set.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flight.seq");
        std::fs::write(&path, &sequence).unwrap();
        let set = Sequence::open(&path, &DecodeOptions::default()).unwrap();
        assert_eq!((set.len(), set.name(1)), (3, "flight.seq/00001".to_string()));
        for index in 0..3 {
            let frame = set.get(index, &DecodeOptions::default()).unwrap();
            let expected = options(RadiometricMode::Auto, Some(index));
            assert_eq!(frame, decode_bytes(&sequence, &path, &expected).unwrap());
        }
        assert!(set.get(3, &DecodeOptions::default()).is_err());
    }
}

#[test]
fn compressed_sequences_are_read() {
    // The worked example of JPEG-LS (ITU-T T.87, H.3): 4x4 samples of 8 bits.
    let coded = [
        0xFF, 0xD8, 0xFF, 0xF7, 0, 11, 8, 0, 4, 0, 4, 1, 1, 0x11, 0, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0,
        0, 0, 0xC0, 0x00, 0x00, 0x6C, 0x80, 0x20, 0x8E, 0x01, 0xC0, 0x00, 0x00, 0x57, 0x40, 0x00,
        0x00, 0x6E, 0xE6, 0x00, 0x00, 0x01, 0xBC, 0x18, 0x00, 0x00, 0x05, 0xD8, 0x00, 0x00, 0x91,
        0x60, 0xFF, 0xD9,
    ];
    let mut record = vec![0; 32];
    write(&mut record, 0, [2, 0, 4, 0, 4, 0]);
    record.extend(coded);
    let file = fff(&[(1, record), (0x20, camera(false, 0.0))], false);
    let raw = DecodeOptions { min_side: 1, ..options(RadiometricMode::Raw, None) };
    let image = decode_bytes(&file, Path::new("a.csq"), &raw).unwrap();
    let expected = [0, 0, 90, 74, 68, 50, 43, 205, 64, 145, 145, 145, 100, 145, 145, 145];
    assert_eq!(image.pixels(), &Pixels::U16(expected.to_vec()));
    let mut wrong = file.clone();
    let at = file.windows(4).position(|found| found == [0xFF, 0xD8, 0xFF, 0xF7]).unwrap();
    wrong[at + 3] = 0xC3;
    let error = decode_bytes(&wrong, Path::new("a.csq"), &raw).unwrap_err().to_string();
    assert!(error.contains("expected a raw image of PNG, JPEG-LS or plain samples"), "{error}");
}

#[test]
fn the_orientation_of_the_file_turns_both_images() {
    let plain = file(Stored::Little);
    // An EXIF block: big-endian, one entry, orientation 6.
    let exif: [u8; 32] =
        *b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut turned = plain[..2].to_vec();
    turned.extend([0xFF, 0xE1, 0, 34]);
    turned.extend(exif);
    turned.extend(&plain[2..]);
    let read = |bytes: &[u8], mode| {
        let options = options(mode, None);
        let image = decode_bytes(bytes, Path::new("a.jpg"), &options).unwrap();
        assert_eq!(image_size_bytes(bytes, Path::new("a.jpg"), &options).unwrap(), image.size());
        image
    };
    for mode in [RadiometricMode::Auto, RadiometricMode::Picture] {
        let (before, after) = (read(&plain, mode), read(&turned, mode));
        let (height, width) = (before.size().height, before.size().width);
        assert_eq!((after.size().height, after.size().width), (width, height));
        let (first, second) = (before.companion_size().unwrap(), after.companion_size().unwrap());
        assert_eq!((first.height, first.width), (second.width, second.height));
        // Turned by 90 degrees clockwise: the lower left corner comes first.
        let (before, after) = (before.to_gray(), after.to_gray());
        match (before.pixels(), after.pixels()) {
            (Pixels::F32(a), Pixels::F32(b)) => assert_eq!(b[0], a[(height - 1) * width]),
            (Pixels::U8(a), Pixels::U8(b)) => assert_eq!(b[0], a[(height - 1) * width]),
            _ => panic!("floats, bytes"),
        }
    }
}
