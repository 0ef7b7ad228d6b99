//! Crops and resizes against what Pillow, torchvision and the reference code gave for the same
//! decisions.

use std::path::PathBuf;

use pad_data::{
    image::{DecodeOptions, Image, Pixels, decode},
    rect::Rect,
    resize::Filter,
    roi::Roi,
    transform::{Draws, Flip, HorizontalFlip, Normalize, RandomResizedCrop, RoiCrop},
};
use pad_ops::ImageSize;
use pad_testkit::expect_cases;
use safetensors::SafeTensors;
use serde_json::Value;

fn folder() -> PathBuf {
    pad_testkit::golden_folder().join("data")
}

fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

fn rect(value: &Value) -> Rect {
    let [top, left, height, width] = [0, 1, 2, 3].map(|index| int(&value[index]) as usize);
    Rect { top, left, height, width }
}

fn u8s(image: Image) -> Vec<u8> {
    let Pixels::U8(values) = image.into_pixels() else { panic!("8 bits stay 8 bits") };
    values
}

#[test]
fn resized_crops_equal_pillow_bit_for_bit() {
    let index = json("index.json");
    let cases: Vec<_> = index
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| name.starts_with("resized_crop"))
        .collect();
    expect_cases(cases.len(), 3..);
    let (mut compared, mut tensors) = (0, 0);
    for (name, case) in cases {
        let image = folder().join(case["config"]["image"].as_str().unwrap());
        let image = decode(&image, &DecodeOptions::default()).unwrap();
        let size = [0, 1].map(|side| int(&case["config"]["size_wh"][side]) as usize);
        assert_eq!(image.size(), ImageSize::new(size[1], size[0]));
        let bytes = std::fs::read(folder().join(case["file"].as_str().unwrap())).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        for (key, tensor) in file.tensors() {
            let parts: Vec<&str> = key.strip_prefix("out.").unwrap().split('_').collect();
            let (kind, bilinear) = (parts[0], parts[1] == "bilinear");
            let numbers = &parts[1 + usize::from(bilinear)..];
            let side: usize = numbers[0].parse().unwrap();
            let crop = &case["config"]["crops"][numbers[1].parse::<usize>().unwrap()];
            let flip = match crop["hflip"].as_bool().unwrap() && parts.last() != Some(&"noflip") {
                true => Flip::Horizontal,
                false => Flip::None,
            };
            let filter = if bilinear { Filter::Bilinear } else { Filter::Bicubic };
            let run = |image: &Image| {
                let size = ImageSize::square(side);
                let cut =
                    RandomResizedCrop::apply(image, rect(&crop["crop"]), size, filter).unwrap();
                HorizontalFlip::apply(cut, flip).unwrap()
            };
            let gray = u8s(run(&image));
            match kind {
                "u8" => {
                    assert_eq!(tensor.shape(), [side, side]);
                    let wrong = gray.iter().zip(tensor.data()).filter(|(a, b)| a != b).count();
                    assert_eq!(wrong, 0, "{name} {key}");
                    // Three channels are three times one channel.
                    let rgb = u8s(run(&image.clone().to_rgb()));
                    assert!(rgb.chunks_exact(3).zip(&gray).all(|(rgb, &gray)| rgb == [gray; 3]));
                    // Floats differ from 8 bits by the two roundings alone.
                    let values = u8s(image.clone()).into_iter().map(f32::from).collect();
                    let floats = Image::new(image.size(), 1, Pixels::F32(values)).unwrap();
                    let Pixels::F32(floats) = run(&floats).into_pixels() else {
                        panic!("floats stay floats");
                    };
                    let furthest = floats
                        .iter()
                        .zip(&gray)
                        .map(|(&float, &level)| (float - f32::from(level)).abs())
                        .fold(0.0, f32::max);
                    assert!((0.1..1.3).contains(&furthest), "{name} {key}: {furthest}");
                    compared += 1;
                }
                "tensor" => {
                    assert_eq!(tensor.shape(), [3, side, side]);
                    let normalize = Normalize::msip();
                    let (wanted, _) = tensor.data().as_chunks::<4>();
                    for (place, bytes) in wanted.iter().enumerate() {
                        let (channel, pixel) = (place / (side * side), place % (side * side));
                        let value = normalize.apply(f32::from(gray[pixel]), channel);
                        assert_eq!(value, f32::from_le_bytes(*bytes), "{name} {key} {place}");
                    }
                    tensors += 1;
                }
                other => panic!("{name} holds an unknown tensor kind `{other}`"),
            }
        }
    }
    println!("{compared} resized crops and {tensors} tensors are equal");
    expect_cases(compared, 27..);
    expect_cases(tensors, 12..);
}

/// Random numbers that another program drew, in their order.
struct Recorded<'a> {
    draws: std::slice::Iter<'a, Value>,
    place: String,
}

impl<'a> Recorded<'a> {
    fn new(case: &'a Value, place: String) -> Self {
        Self { draws: case["draws"].as_array().unwrap().iter(), place }
    }
}

impl Draws for Recorded<'_> {
    fn uniform(&mut self, low: f64, high: f64) -> f64 {
        let draw = self.draws.next().unwrap_or_else(|| panic!("{}: a draw too many", self.place));
        if draw[0] == "rand" {
            assert_eq!((low, high), (0.0, 1.0), "{}", self.place);
            return draw[1].as_f64().unwrap();
        }
        assert_eq!(draw[0], "uniform", "{}", self.place);
        // torch's f32 logarithm of 0.75 is one unit off the correctly rounded one, hence not `==`.
        for (asked, recorded) in [(low, &draw[1]), (high, &draw[2])] {
            let difference = asked - recorded.as_f64().unwrap();
            assert!(difference.abs() <= 3.1e-8, "{}: bound {asked}, not {recorded}", self.place);
        }
        draw[3].as_f64().unwrap()
    }

    fn below(&mut self, n: usize) -> usize {
        let draw = self.draws.next().unwrap_or_else(|| panic!("{}: a draw too many", self.place));
        assert_eq!((&draw[0], int(&draw[1])), (&Value::from("randint"), 0), "{}", self.place);
        assert_eq!(int(&draw[2]), n as i64, "{}", self.place);
        int(&draw[3]) as usize
    }
}

fn pair(value: &Value) -> (f64, f64) {
    (value[0].as_f64().unwrap(), value[1].as_f64().unwrap())
}

fn size(case: &Value) -> ImageSize {
    ImageSize::new(int(&case["image"][1]) as usize, int(&case["image"][0]) as usize)
}

#[test]
fn random_resized_crops_equal_torchvision() {
    let file = json("roi_crop.json");
    let cases = file["random_resized_crop"].as_array().unwrap();
    expect_cases(cases.len(), 120..=120);
    for (index, case) in cases.iter().enumerate() {
        let crop = RandomResizedCrop { scale: pair(&case["scale"]), ratio: pair(&case["ratio"]) };
        crop.validate().unwrap();
        let mut draws = Recorded::new(case, format!("random_resized_crop {index}"));
        assert_eq!(crop.draw(size(case), &mut draws), rect(&case["crop"]), "{index}");
        assert_eq!(draws.draws.len(), 0, "{index}: draws are left over");
    }
}

#[test]
fn roi_crops_equal_the_reference() {
    let file = json("roi_crop.json");
    let cases = file["roi_crop"].as_array().unwrap();
    expect_cases(cases.len(), 420..=420);
    for (index, case) in cases.iter().enumerate() {
        let crop = RoiCrop {
            any_size: case["p"].as_f64().unwrap(),
            min_side: int(&case["min_size"]) as usize,
            jitter: case["random"].as_bool().unwrap(),
            fallback: RandomResizedCrop {
                scale: pair(&file["scale"]),
                ratio: pair(&file["ratio"]),
            },
        };
        let used = case["use_roi"].as_bool().unwrap();
        let recorded = case["rois"].as_array().map(Vec::as_slice).unwrap_or_default();
        let rois: Vec<Roi> = recorded.iter().map(roi).filter(|_| used).collect();
        let mut draws = Recorded::new(case, format!("roi_crop {index}"));
        assert_eq!(crop.draw(size(case), &rois, &mut draws), rect(&case["crop"]), "{index}");
        assert_eq!(draws.draws.len(), 0, "{index}: draws are left over");
    }
}

/// A recorded region. The reference refuses one with a negative corner; ours cannot be negative, so
/// such a region becomes one beyond the other side, which is refused for the same reason: it leaves
/// the image.
fn roi(value: &Value) -> Roi {
    let side = |index: usize| u32::try_from(int(&value[index])).unwrap_or(u32::MAX);
    Roi { x: side(0), y: side(1), width: side(2), height: side(3) }
}

#[test]
fn jpeg_files_decode_to_the_samples_of_libjpeg() {
    let jpegs = folder().join("jpeg");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(jpegs).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    expect_cases(files.len(), 11..=11);
    let options = DecodeOptions::default();
    for path in files {
        let image = decode(&path, &options).unwrap();
        let expected = decode(&path.with_extension("png"), &options).unwrap();
        assert_eq!(
            (image.size(), image.channels()),
            (expected.size(), expected.channels()),
            "{}",
            path.display()
        );
        let worst = u8s(image)
            .into_iter()
            .zip(u8s(expected))
            .map(|(found, expected)| found.abs_diff(expected))
            .max();
        // The general decoder, which takes progressive files, rounds a little differently.
        let allowed = if path.ends_with("progressive.jpg") { 1 } else { 0 };
        assert!(worst <= Some(allowed), "{}: off by {worst:?}", path.display());
    }
}
