//! Files of the kinds that users report, each with its right value: `tests/golden/cases`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pad_data::{
    Dataset,
    image::{
        DecodeOptions, Image, Pixels, RadiometricMode, decode, decode_bytes, frame_count,
        image_size,
    },
    sets::{ImageFolder, open_images},
    stats::Statistics,
    window::{Window, percentile},
};
use pad_ops::ImageSize;
use pad_testkit::{golden_folder, repository};

/// A file whose right value stands here.
fn case(name: &str) -> PathBuf {
    repository().join("tests/golden/cases").join(name)
}

/// A folder whose right values stand in it; see `PAD_GOLDEN`.
fn listed(name: &str) -> PathBuf {
    let folder = golden_folder().join("cases").join(name);
    if folder.is_dir() { folder } else { case(name) }
}

fn read(name: &str) -> Image {
    let path = case(name);
    let image = decode(&path, &DecodeOptions::default()).unwrap();
    // One reader for size and pixels.
    assert_eq!(image_size(&path, &DecodeOptions::default()).unwrap(), image.size(), "{name}");
    image
}

fn floats(image: &Image) -> Vec<f32> {
    match image.pixels() {
        Pixels::U8(values) => values.iter().map(|&value| f32::from(value)).collect(),
        Pixels::U16(values) => values.iter().map(|&value| f32::from(value)).collect(),
        Pixels::F32(values) => values.clone(),
    }
}

/// The values of a channel that are not masked.
fn valid(image: &Image) -> Vec<f32> {
    let masked = image.masked().map_or(vec![false; image.size().area()], <[bool]>::to_vec);
    floats(image).into_iter().zip(masked).filter(|(_, masked)| !masked).map(|(v, _)| v).collect()
}

fn range(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| {
        (low.min(value), high.max(value))
    })
}

fn statistics(name: &str) -> Statistics {
    let folder = ImageFolder::open(case(name)).unwrap();
    Statistics::of(&folder, &DecodeOptions::default(), &Window::default(), &[1.0, 50.0, 99.0])
        .unwrap()
}

/// Lines `FILE EXPECTED` of `expected.txt` beside the files of a case.
fn expected(name: &str) -> Vec<(String, Image)> {
    let text = fs::read_to_string(listed(name).join("expected.txt")).unwrap();
    let options = DecodeOptions { page: Some(0), ..Default::default() };
    let lines = text.lines().map(|line| {
        let (file, values) = line.split_once(' ').unwrap();
        (file.to_string(), decode(&listed(name).join(values), &options).unwrap())
    });
    lines.collect()
}

#[test]
fn i02_a_dead_pixel_costs_itself_alone() {
    for number in 0..2 {
        let good = read(&format!("I02/good{number}.jpg"));
        let dead = read(&format!("I02/dead{number}.jpg"));
        assert_eq!((good.masked(), good.pixels().len()), (None, 5120));
        let raw = DecodeOptions { radiometric: RadiometricMode::Raw, ..Default::default() };
        let counts = decode(&case(&format!("I02/dead{number}.jpg")), &raw).unwrap();
        let is_dead: Vec<bool> = floats(&counts).iter().map(|&count| count == 0.0).collect();
        assert_eq!(is_dead.iter().filter(|&&dead| dead).count(), 1);
        assert_eq!(dead.masked().unwrap(), is_dead);
        // All others have their temperature: warmer is more counts.
        let mut pairs: Vec<(f32, f32)> = floats(&counts)
            .into_iter()
            .zip(floats(&dead))
            .filter(|(count, _)| *count > 0.0)
            .collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(pairs.is_sorted_by(|a, b| a.0 == b.0 && a.1 == b.1 || a.1 < b.1));
        let (low, high) = range(&floats(&dead));
        assert!(low > 250.0 && high < 400.0, "{low} {high}");
    }
    let found = statistics("I02");
    assert_eq!((found.images, found.masked, found.unreadable.len()), (4, 2, 0));
}

#[test]
fn i03_thermal_image_and_picture_know_of_each_other() {
    let name = "I03/yolo/images/train/FLIR0000.jpg";
    let thermal = read(name);
    assert_eq!(thermal.size(), ImageSize::new(60, 80));
    assert_eq!(thermal.companion_size(), Some(ImageSize::new(240, 320)));
    let options = DecodeOptions { radiometric: RadiometricMode::Picture, ..Default::default() };
    let picture = decode(&case(name), &options).unwrap();
    assert_eq!(picture.size(), ImageSize::new(240, 320));
    assert_eq!(image_size(&case(name), &options).unwrap(), picture.size());
    assert_eq!(picture.companion_size(), Some(thermal.size()));
    // The labels' box, 120, 80, 80x80 of the picture, is 30, 20, 20x20 of the thermal image.
    let values = floats(&thermal);
    let mean = |inside: bool| {
        let is_inside = |index: &usize| {
            let (row, column) = (index / 80, index % 80);
            ((20..40).contains(&row) && (30..50).contains(&column)) == inside
        };
        let picked: Vec<f32> = (0..4800).filter(is_inside).map(|index| values[index]).collect();
        picked.iter().sum::<f32>() / picked.len() as f32
    };
    assert!(mean(true) > mean(false) + 1.0, "{} {}", mean(true), mean(false));
    // The units of the switch.
    let unit = |radiometric| {
        decode(&case(name), &DecodeOptions { radiometric, ..Default::default() }).unwrap()
    };
    let (kelvin, celsius) = (unit(RadiometricMode::Kelvin), unit(RadiometricMode::Celsius));
    assert_eq!(kelvin, thermal);
    for (kelvin, celsius) in floats(&kelvin).iter().zip(floats(&celsius)) {
        assert!((kelvin - 273.15 - celsius).abs() < 1e-3);
    }
    assert!(matches!(unit(RadiometricMode::Raw).pixels(), Pixels::U16(_)));
}

#[test]
fn i04_i05_pixels_without_data_count_for_nothing() {
    let plain = read("I04/plain/ortho_plain.tif");
    assert_eq!(plain.masked(), None);
    let (low, high) = range(&floats(&plain));
    assert_eq!((low, high), (10.0, 36.5));
    for name in [
        "I04/a/ortho_-9999.tif",
        "I04/b/ortho_-10000.tif",
        "I04/c/counts_0.tif",
        "I04/d/ortho_-3.4e38.tif",
        "I05/ortho_nan.tif",
    ] {
        let image = read(name);
        let masked = image.masked().unwrap();
        let share = masked.iter().filter(|&&masked| masked).count() as f64 / masked.len() as f64;
        assert!((0.01..0.7).contains(&share), "{name}: {share}");
        let mut data = valid(&image);
        if !name.contains("counts") {
            let (low, high) = range(&data);
            assert!(low >= 10.0 && high <= 36.5, "{name}: {low} {high}");
            // The same scene.
            let pairs = floats(&plain).into_iter().zip(floats(&image)).zip(masked);
            assert!(pairs.filter(|(_, masked)| !**masked).all(|((a, b), _)| a == b), "{name}");
        } else {
            assert!(range(&data).0 > 0.0, "{name}");
        }
        // The window is that of the pixels with data; the others are black.
        let (low, high) = (percentile(&mut data, 1.0), percentile(&mut data, 99.0));
        let values = floats(&image);
        let levels = floats(&Window::default().apply(image.clone()).unwrap());
        for ((value, level), masked) in values.iter().zip(levels).zip(masked) {
            let expected = ((f64::from(*value) - low) / (high - low) * 255.0).clamp(0.0, 255.0);
            let expected = if *masked { 0.0 } else { expected };
            assert!((f64::from(level) - expected).abs() < 0.05, "{name}: {level} {expected}");
        }
    }
    // numpy: mean 0.2524 and deviation 0.2378 of the scene without nodata.
    let plain = statistics("I04/plain");
    assert!((plain.mean - 0.2524).abs() < 1e-3 && (plain.std - 0.2378).abs() < 1e-3);
    for folder in ["I04/a", "I04/b", "I04/d", "I05"] {
        let found = statistics(folder);
        assert!((found.mean - plain.mean).abs() < 0.12, "{folder}: {}", found.mean);
        assert!((found.std - plain.std).abs() < 0.08, "{folder}: {}", found.std);
        assert!(found.masked > 0 && found.range.0 >= 10.0 && found.range.1 <= 36.5, "{folder}");
        assert_eq!(found.pixels + found.masked, 5120);
    }
}

#[test]
fn i06_white_is_zero_turns_no_measurement_round() {
    assert_eq!(range(&floats(&read("I06/u8/mw8.tif"))), (34.0, 255.0));
    assert_eq!(range(&floats(&read("I06/u16/mw16.tif"))), (7000.0, 8200.0));
    assert_eq!(range(&floats(&read("I06/f32/mw32.tif"))), (10.0, 36.5));
    let signed = read("I06/i16/mwi16.tif");
    let counts = read("I06/u16/mw16.tif");
    let (low, high) = range(&floats(&signed));
    assert!(low < high, "{low} {high}");
    // Order is kept: where one scene is warmest, the other is.
    let warmest = |image: &Image| {
        let values = floats(image);
        (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap()
    };
    let place = warmest(&signed);
    assert_eq!(floats(&counts)[place], 8200.0);
}

#[test]
fn i07_layouts_give_the_values_of_tifffile() {
    let mut seen = 0;
    for (file, expected) in expected("I07") {
        let path = listed("I07").join(&file);
        let options = DecodeOptions { page: Some(0), alpha_is_band: true, ..Default::default() };
        seen += 1;
        let image = decode(&path, &options).unwrap();
        assert_eq!(image.size(), expected.size(), "{file}");
        // Of several pages the first.
        let expected = match file.as_str() {
            "multi.tif" => floats(&expected).into_iter().step_by(2).collect(),
            _ => floats(&expected),
        };
        assert_eq!(floats(&image), expected, "{file}");
    }
    pad_testkit::expect_cases(seen, 30..=30);
    // Several pages, of which each can be read.
    let multi = fs::read(case("I07/multi.tif")).unwrap();
    assert_eq!(frame_count(&multi, Path::new("multi.tif")).unwrap(), 2);
    let page = |page| {
        let options = DecodeOptions { page, ..Default::default() };
        decode_bytes(&multi, Path::new("multi.tif"), &options)
    };
    assert_eq!(page(None).unwrap(), page(Some(0)).unwrap());
    assert_ne!(page(Some(1)).unwrap(), page(Some(0)).unwrap());
    assert_eq!(
        page(Some(2)).unwrap_err().to_string(),
        "multi.tif: page 2 (from 0) of a file of 2 is not supported"
    );
}

#[test]
fn i07b_lzw_without_an_end_is_read() {
    let plain = read("I07b/planar_tiled.tif");
    assert_eq!((plain.size(), plain.channels()), (ImageSize::new(64, 80), 3));
    for name in [
        "planar_lzw_tiled",
        "planar_lzw_tiled_p2",
        "planar_lzw_strip",
        "planar_deflate_tiled_p2",
        "contig_lzw_tiled",
        "pillow_lzw",
    ] {
        assert_eq!(read(&format!("I07b/{name}.tif")), plain, "{name}");
    }
    assert_eq!(read("I07b/pillow_gray_lzw.tif").channels(), 1);
}

/// The pixel of an upright image of `size` in the stored one, as EXIF's values 3, 6 and 8 say.
fn turned(file: &str, row: usize, column: usize, size: ImageSize) -> (usize, usize) {
    let (bottom, right) = (size.height - 1, size.width - 1);
    match file {
        "exif3.jpg" => (bottom - row, right - column),
        "exif6.jpg" => (right - column, row),
        "exif8.jpg" => (column, bottom - row),
        _ => (row, column),
    }
}

#[test]
fn i10_jpeg_has_the_colours_of_libjpeg() {
    let mut seen = 0;
    for (file, expected) in expected("I10") {
        let path = listed("I10").join(&file);
        let image = match decode(&path, &DecodeOptions::default()) {
            Ok(image) => image,
            Err(error) => {
                // Lossless files and components of several resolutions: refused by name.
                assert!(error.to_string().contains("not supported"), "{file}: {error}");
                continue;
            }
        };
        seen += 1;
        assert_eq!(image_size(&path, &DecodeOptions::default()).unwrap(), image.size());
        let (size, channels) = (image.size(), image.channels());
        assert_eq!(channels, expected.channels(), "{file}");
        let (found, wanted) = (floats(&image), floats(&expected));
        let (mut sum, mut most) = (0.0_f32, 0.0_f32);
        for (index, value) in found.iter().enumerate() {
            let (pixel, channel) = (index / channels, index % channels);
            let (row, column) = turned(&file, pixel / size.width, pixel % size.width, size);
            let stored = (row * expected.size().width + column) * channels + channel;
            let difference = (value - wanted[stored]).abs();
            sum += difference;
            most = most.max(difference);
        }
        let mean = sum / found.len() as f32;
        // Other decoders interpolate colours otherwise; a wrong transform is off by 20 and more.
        assert!(mean < 1.5 && most < 30.0, "{file}: {mean} {most}");
    }
    pad_testkit::expect_cases(seen, 40..=46);
    for file in ["adobe0_nojfif.jpg", "jfif_adobe0.jpg", "nomarkers.jpg", "ids_RGB_nomarkers.jpg"] {
        assert_eq!(read(&format!("I10/{file}")).channels(), 3, "{file}");
    }
    // Bit for bit what the file without the Adobe marker gives.
    assert_eq!(read("I10/jfif_adobe0.jpg"), read("I10/ycc_s0.jpg"));
}

#[test]
fn i12_labels_lie_on_what_they_name() {
    use pad_data::sets::detection::{DetectionFormat, DetectionSet};

    let format: DetectionFormat = "yolo".parse().unwrap();
    let set = DetectionSet::open(case("I12"), "train", format, &Default::default()).unwrap();
    assert_eq!(set.len(), 2);
    for index in 0..set.len() {
        let sample = set.get(index, &DecodeOptions::default()).unwrap();
        assert_eq!(sample.image.size(), ImageSize::new(100, 40));
        assert_eq!(sample.labels.size, sample.image.size());
        let [left, top, right, bottom] = sample.labels.objects[0].bbox;
        let levels = floats(&sample.image.to_gray());
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for (pixel, level) in levels.into_iter().enumerate() {
            let (x, y) = ((pixel % 40) as f64 + 0.5, (pixel / 40) as f64 + 0.5);
            let is_inside = (left..right).contains(&x) && (top..bottom).contains(&y);
            if is_inside { inside.push(level) } else { outside.push(level) }
        }
        let mean = |levels: &[f32]| levels.iter().sum::<f32>() / levels.len() as f32;
        assert!(mean(&inside) > mean(&outside) + 50.0, "{} {}", mean(&inside), mean(&outside));
        // Nothing as warm lies outside.
        assert!(outside.iter().filter(|&&level| level > mean(&inside) - 20.0).count() < 60);
    }
}

#[test]
fn i15_palettes_become_their_colours() {
    let path = case("I15/tif/ironbow.tif");
    let image = read("I15/tif/ironbow.tif");
    assert_eq!((image.size(), image.channels()), (ImageSize::new(64, 80), 3));
    // By hand: 5120 indices at 1760, the palette of 768 words is tag 320.
    let bytes = fs::read(&path).unwrap();
    let word = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let long = |at: usize| word(at) + (word(at + 2) << 16);
    let directory = long(4);
    let entry = |n: usize| directory + 2 + 12 * n;
    let palette = (0..word(directory)).map(entry).find(|&at| word(at) == 320).unwrap();
    let palette = long(palette + 8);
    let Pixels::U8(levels) = image.pixels() else { panic!("8 bits") };
    for (pixel, rgb) in levels.as_chunks::<3>().0.iter().enumerate() {
        let index = usize::from(bytes[1760 + pixel]);
        for (channel, &level) in rgb.iter().enumerate() {
            let color = word(palette + 2 * (256 * channel + index));
            assert_eq!(usize::from(level), color / 256, "{pixel} {channel}");
        }
    }
    assert_eq!(read("I15/png/p.png").channels(), 3);
}

#[test]
fn i16_a_thumbnail_is_no_page() {
    let image = read("I16/thumbfirst.tif");
    assert_eq!(image.size(), ImageSize::new(64, 80));
    assert!(matches!(image.pixels(), Pixels::U16(_)));
    let bytes = fs::read(case("I16/thumbfirst.tif")).unwrap();
    assert_eq!(frame_count(&bytes, Path::new("a.tif")).unwrap(), 1);
}

fn png(path: &Path, level: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let size = ImageSize::new(48, 64);
    pad_data::draw::Canvas::new(size, [level; 3]).save_png(path).unwrap();
}

#[test]
fn t03_time_stamps_in_names_keep_regions_apart() {
    let root = tempfile::tempdir().unwrap();
    let names: Vec<String> =
        (0..3).map(|n| format!("0250_London_2004.01.12_12.48.{n:02}_cam.png")).collect();
    for (name, level) in names.iter().zip(1..) {
        png(&root.path().join(name), level);
    }
    png(&root.path().join("alone.v2.png"), 9);
    let folder = ImageFolder::open(root.path()).unwrap();
    let paths = folder.roi_paths().unwrap();
    for name in &names {
        let index = (0..folder.len()).find(|&index| folder.name(index) == *name).unwrap();
        let stem = name.strip_suffix(".png").unwrap();
        assert_eq!(paths[index], root.path().join(format!("roi/{stem}.txt")));
    }
    // Alone it has the reference's name, unless there is a file of the other.
    let alone = (0..4).find(|&index| folder.name(index).starts_with("alone")).unwrap();
    assert_eq!(paths[alone], root.path().join("roi/alone.txt"));
    fs::create_dir(root.path().join("roi")).unwrap();
    fs::write(root.path().join("roi/alone.v2.txt"), "1,2,3,4\n").unwrap();
    assert_eq!(folder.roi_path(alone).unwrap(), root.path().join("roi/alone.v2.txt"));
    // Shards keep what the folder has.
    let out = tempfile::tempdir().unwrap();
    fs::write(&paths[1], "5,6,7,8\n").unwrap();
    pad_data::shards::write(&folder, out.path(), 2, &mut |_| {}).unwrap();
    let shards = pad_data::shards::ShardSet::open(out.path()).unwrap();
    for index in 0..folder.len() {
        let (a, b) = (folder.info(index).unwrap(), shards.info(index).unwrap());
        let exists = a.roi_file.is_some_and(|file| file.path().is_file());
        assert_eq!(exists, b.roi_file.is_some(), "{}", folder.name(index));
    }
}

#[cfg(unix)]
#[test]
fn t12_names_with_backslashes_come_back_from_shards() {
    let root = tempfile::tempdir().unwrap();
    for (name, level) in [("thermal\\0001.png", 1), ("thermal\\..\\0002.png", 2)] {
        png(&root.path().join(name), level);
    }
    let folder = ImageFolder::open(root.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    pad_data::shards::write(&folder, out.path(), 1, &mut |_| {}).unwrap();
    let set = open_images(out.path()).unwrap();
    assert_eq!(set.len(), 2);
    for index in 0..2 {
        assert_eq!(set.name(index), folder.name(index));
        let options = DecodeOptions::default();
        assert_eq!(set.get(index, &options).unwrap(), folder.get(index, &options).unwrap());
    }
}
