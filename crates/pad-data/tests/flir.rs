//! Radiometric JPEG, made here as a camera makes it.

use std::{io::Cursor, path::Path};

use image::{GrayImage, ImageBuffer, ImageFormat, Luma};
use pad_data::{
    image::{
        DecodeOptions, Image, Pixels, RadiometricMode, decode_bytes,
        flir::{Atmosphere, Calibration, Planck, Radiometric},
    },
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
