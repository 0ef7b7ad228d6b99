//! Folders of images, and the samples made of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pad_data::{
    Error,
    dataset::{Concat, Dataset, Repeat, Source, Subset},
    image::{DecodeOptions, Image, Pixels, decode},
    loader::Loader,
    rect::Rect,
    resize::{Filter, Resampling, resample},
    roi::Roi,
    sets::{ImageFolder, Layout, RoiImage, WithRois, classification::ClassFolder},
    stats::Statistics,
    transform::{
        CenterCrop, Crop, Flip, HorizontalFlip, ImagePipeline, Normalize, RandomResizedCrop,
        RoiCrop, Transform,
    },
    window::Window,
};
use pad_ops::{
    ImageSize,
    rng::{Key, Purpose},
};
use tempfile::TempDir;

fn image_file(root: &Path, name: &str) -> PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let shade = name.len() as u32 * 31;
    image::GrayImage::from_fn(40, 32, |x, y| image::Luma([(x * 5 + y * 3 + shade) as u8]))
        .save(&path)
        .unwrap();
    path
}

fn names(set: &impl Dataset) -> Vec<String> {
    (0..set.len()).map(|index| set.name(index)).collect()
}

#[test]
fn a_plain_folder_is_listed_in_natural_order_without_hidden_files() {
    let root = tempfile::tempdir().unwrap();
    for name in ["b/10.png", "b/9.PNG", "a2/x.bmp", "a10/x.jpg", "3.tif", "b/deep/er/1.jpeg"] {
        image_file(root.path(), &name.to_lowercase());
    }
    image_file(root.path(), ".hidden.png");
    image_file(root.path(), ".cache/1.png");
    fs::write(root.path().join("b/notes.txt"), "no image").unwrap();
    let folder = ImageFolder::open(root.path()).unwrap();
    assert_eq!(folder.layout(), Layout::Plain);
    assert_eq!(
        names(&folder),
        ["3.tif", "a2/x.bmp", "a10/x.jpg", "b/9.png", "b/10.png", "b/deep/er/1.jpeg"]
    );
    let source = |name: &str, images| Source { name: name.into(), images };
    assert_eq!(
        folder.sources(),
        [source(".", 1), source("a2", 1), source("a10", 1), source("b", 3)]
    );
    assert_eq!(names(&Subset::all(folder.clone()).only(&["b", "."]).unwrap()).len(), 4);
    assert_eq!(names(&Subset::all(folder.clone()).every(4)), ["3.tif", "b/10.png"]);
    assert_eq!(
        Subset::all(folder).only(&["c"]).unwrap_err().to_string(),
        "`source` is c, expected one of ., a2, a10, b"
    );
}

#[test]
fn msip_lists_thermal_alone() {
    let root = tempfile::tempdir().unwrap();
    for name in ["two/thermal/10.png", "two/thermal/2.png", "one/thermal/frame.01.png"] {
        image_file(root.path(), name);
    }
    image_file(root.path(), "two/visible/1.png");
    image_file(root.path(), "other/1.png");
    let folder = ImageFolder::open(root.path()).unwrap();
    assert_eq!(folder.layout(), Layout::Msip);
    assert_eq!(
        names(&folder),
        ["one/thermal/frame.01.png", "two/thermal/2.png", "two/thermal/10.png"]
    );
    assert_eq!(folder.sources()[1], Source { name: "two".into(), images: 2 });
    assert_eq!(folder.roi_path(0).unwrap(), root.path().join("one/roi/frame.txt"));
    assert_eq!(folder.path(2).unwrap(), root.path().join("two/thermal/10.png"));

    let one = ImageFolder::open(root.path().join("two")).unwrap();
    assert_eq!(one.layout(), Layout::Msip);
    assert_eq!(names(&one), ["thermal/2.png", "thermal/10.png"]);
    assert_eq!(one.sources(), [Source { name: "two".into(), images: 2 }]);
}

#[test]
fn folders_without_images_and_missing_ones_are_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("notes.txt"), "no image").unwrap();
    let empty = ImageFolder::open(root.path()).unwrap_err();
    assert_eq!(
        empty.to_string(),
        format!(
            "{}: no image found (looked for png, jpg, jpeg, bmp, tif, tiff, npy, seq, csq, fff)",
            root.path().display()
        )
    );
    let missing = root.path().join("missing");
    let error = ImageFolder::open(&missing).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == missing), "{error}");
    let file = image_file(root.path(), "a.png");
    assert!(matches!(ImageFolder::open(file).unwrap_err(), Error::Io { .. }));
}

#[cfg(unix)]
#[test]
fn links_are_followed_once() {
    use std::os::unix::fs::symlink;
    let root = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    image_file(root.path(), "a/1.png");
    image_file(elsewhere.path(), "2.png");
    symlink(elsewhere.path(), root.path().join("b")).unwrap();
    symlink(root.path().join("nowhere"), root.path().join("readme")).unwrap();
    assert_eq!(names(&ImageFolder::open(root.path()).unwrap()), ["a/1.png", "b/2.png"]);

    // A loop, by way of the other folder.
    let link = elsewhere.path().join("back");
    symlink(root.path(), &link).unwrap();
    let error = ImageFolder::open(root.path()).unwrap_err().to_string();
    let real = root.path().canonicalize().unwrap();
    assert!(error.contains("b/back: leads to "), "{error}");
    assert!(error.ends_with(&format!("{}, which is listed already", real.display())), "{error}");
    fs::remove_file(link).unwrap();

    // The same folder twice, a link to itself, and an image that is not there.
    let link = root.path().join("again");
    symlink(root.path().join("a"), &link).unwrap();
    assert!(ImageFolder::open(root.path()).unwrap_err().to_string().contains("listed already"));
    fs::remove_file(&link).unwrap();
    symlink(&link, &link).unwrap();
    assert!(
        matches!(ImageFolder::open(root.path()).unwrap_err(), Error::Io { path, .. } if path == link)
    );
    fs::remove_file(&link).unwrap();
    let lost = root.path().join("lost.png");
    symlink(root.path().join("nowhere"), &lost).unwrap();
    assert!(
        matches!(ImageFolder::open(root.path()).unwrap_err(), Error::Io { path, .. } if path == lost)
    );
}

#[test]
fn the_split_depends_on_each_path_alone() {
    let root = tempfile::tempdir().unwrap();
    for index in 0..60 {
        fs::write(root.path().join(format!("{index}.png")), "").unwrap();
    }
    let folder = Subset::all(ImageFolder::open(root.path()).unwrap());
    let (train, held_out) = folder.split(0.25, None, 7).unwrap();
    assert_eq!(train.len() + held_out.len(), 60);
    assert!((5..25).contains(&held_out.len()), "{}", held_out.len());
    let mut all: Vec<_> = names(&train).into_iter().chain(names(&held_out)).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 60);

    // The same names in another place.
    let moved = tempfile::tempdir().unwrap();
    for index in 0..60 {
        fs::write(moved.path().join(format!("{index}.png")), "").unwrap();
    }
    let moved = Subset::all(ImageFolder::open(moved.path()).unwrap());
    assert_eq!(names(&moved.split(0.25, None, 7).unwrap().1), names(&held_out));

    // Another image moves nothing that was there.
    fs::write(root.path().join("new.png"), "").unwrap();
    let (_, more) =
        Subset::all(ImageFolder::open(root.path()).unwrap()).split(0.25, None, 7).unwrap();
    let old: Vec<_> = names(&more).into_iter().filter(|name| *name != "new.png").collect();
    assert_eq!(old, names(&held_out));

    assert_ne!(names(&folder.split(0.25, None, 8).unwrap().1), names(&held_out));
    assert!(folder.split(0.0, None, 7).unwrap().1.is_empty());
    assert!(folder.split(1.0, None, 7).unwrap().0.is_empty());
    assert_eq!(
        folder.split(1.5, None, 7).unwrap_err().to_string(),
        "`held_out_share` is 1.5, expected 0 to 1"
    );
}

fn small(crop: Crop) -> ImagePipeline {
    ImagePipeline { size: ImageSize::new(24, 20), crop, ..Default::default() }
}

/// A folder and what its images go through.
struct Set(ImageFolder, ImagePipeline);

impl Set {
    fn get(&self, index: usize, key: Key) -> pad_data::Result<Vec<f32>> {
        let image = self.0.get(index, &DecodeOptions::default())?;
        values(self.1.apply(image, key)?.0)
    }
}

fn values(sample: candle_core::Tensor) -> pad_data::Result<Vec<f32>> {
    Ok(sample.flatten_all()?.to_vec1()?)
}

fn set(root: &TempDir, config: ImagePipeline) -> Set {
    Set(ImageFolder::open(root.path()).unwrap(), config)
}

#[test]
fn a_sample_is_crop_resize_flip_and_normalise() {
    let root = tempfile::tempdir().unwrap();
    let path = image_file(root.path(), "1.png");
    image::open(&path).unwrap().to_rgb8().save(root.path().join("2.png")).unwrap();
    let crop = RandomResizedCrop { scale: (0.3, 0.6), ..Default::default() };
    let config =
        ImagePipeline { normalize: Normalize::imagenet(), ..small(Crop::Random(crop.clone())) };
    let set = set(&root, config.clone());
    let image = decode(&path, &DecodeOptions::default()).unwrap();
    let mut flips = 0;
    for epoch in 0..8 {
        let key = Key::new(5).epoch(epoch).sample(0);
        let rect = crop.draw(image.size(), &mut key.purpose(Purpose::Crop).stream());
        let flip = config.flip.draw(&mut key.purpose(Purpose::Flip).stream());
        flips += usize::from(flip == Flip::Horizontal);
        let resampling = Resampling::new(rect, config.size);
        let cut = resample(&image, &resampling, Filter::Bicubic).unwrap();
        let Pixels::U8(levels) = HorizontalFlip::apply(cut, flip).unwrap().into_pixels() else {
            panic!("8 bits stay 8 bits");
        };
        let sample = set.get(0, key).unwrap();
        let expected: Vec<f32> = (0..3)
            .flat_map(|channel| {
                let normalize = &config.normalize;
                levels.iter().map(move |&level| normalize.apply(f32::from(level), channel))
            })
            .collect();
        assert_eq!(sample, expected);
        // The same picture stored as RGB gives the same bits.
        assert_eq!(set.get(1, key).unwrap(), sample);
        let (tensor, ()) = config.apply(image.clone(), key).unwrap();
        assert_eq!(tensor.dims(), [1, 3, 24, 20]);
    }
    assert!((1..8).contains(&flips), "both decisions were seen: {flips}");
}

#[test]
fn one_channel_is_the_luma_of_a_coloured_image() {
    let root = tempfile::tempdir().unwrap();
    let pixel = |x: u32, y: u32| image::Rgb([(x * 6) as u8, (y * 7) as u8, 90]);
    image::RgbImage::from_fn(40, 32, pixel).save(root.path().join("1.png")).unwrap();
    let whole = Crop::Center(CenterCrop { short_side: 32 });
    let config = ImagePipeline {
        size: ImageSize::square(32),
        channels: 1,
        crop: whole,
        flip: HorizontalFlip::NEVER,
        ..Default::default()
    };
    let set = set(&root, config);
    let sample = set.get(0, Key::new(1)).unwrap();
    assert_eq!(sample.len(), 32 * 32);
    // Not resized: the centre of the image itself, columns 4 to 35.
    for (place, &value) in sample.iter().enumerate() {
        let (y, x) = (place as u32 / 32, place as u32 % 32 + 4);
        let luma = (19595 * x * 6 + 38470 * (y * 7) + 7471 * 90 + 0x8000) >> 16;
        assert_eq!(value, Normalize::msip().apply(luma as f32, 0));
    }
}

#[test]
fn the_whole_image_is_the_sample() {
    let root = tempfile::tempdir().unwrap();
    let pixel = |x: u32, y: u32| image::Luma([(x * 6 + y) as u8]);
    let image = image::GrayImage::from_fn(40, 32, pixel);
    image.save(root.path().join("1.png")).unwrap();
    let whole = |height, width| ImagePipeline {
        size: ImageSize::new(height, width),
        channels: 1,
        crop: Crop::Whole,
        ..ImagePipeline::evaluation(ImageSize::square(32))
    };
    // At its own size the image is not resized; corners stay corners at another aspect.
    let sample = set(&root, whole(32, 40)).get(0, Key::new(1)).unwrap();
    for (&value, &level) in sample.iter().zip(image.as_raw()) {
        assert_eq!(value, Normalize::msip().apply(f32::from(level), 0));
    }
    let small = set(&root, whole(16, 16)).get(0, Key::new(1)).unwrap();
    assert_eq!(small.len(), 16 * 16);
    assert!(small[0] < small[15] && small[0] < small[15 * 16] && small[15 * 16] < small[255]);
}

#[test]
fn counts_pass_their_window_unrounded() {
    let root = tempfile::tempdir().unwrap();
    let counts: Vec<u16> = (0..40 * 32).map(|index| 30_000 + index as u16).collect();
    let image: image::ImageBuffer<image::Luma<u16>, _> =
        image::ImageBuffer::from_vec(40, 32, counts).unwrap();
    image.save(root.path().join("1.png")).unwrap();
    let config = ImagePipeline {
        size: ImageSize::square(32),
        channels: 1,
        crop: Crop::Center(CenterCrop { short_side: 32 }),
        flip: HorizontalFlip { probability: 1.0 },
        window: Window::Fixed { low: 30_000.0, high: 31_279.0 },
        ..Default::default()
    };
    let sample = set(&root, config).get(0, Key::new(1)).unwrap();
    let mut levels: Vec<f32> =
        sample.iter().map(|&value| Normalize::msip().invert(value, 0)).collect();
    assert!((levels[31] - 4.0 / 1279.0 * 255.0).abs() < 1e-3, "mirrored: {}", levels[31]);
    levels.sort_by(f32::total_cmp);
    levels.dedup();
    assert_eq!(levels.len(), 32 * 32, "1024 counts are 1024 values");
}

#[test]
fn regions_guide_the_crop_and_their_lists_must_fit() {
    let root = tempfile::tempdir().unwrap();
    let image = image::GrayImage::from_fn(300, 200, |x, _| image::Luma([(x / 2) as u8]));
    image.save(root.path().join("1.png")).unwrap();
    let taken = RoiCrop { jitter: false, any_size: 1.0, ..Default::default() };
    let config =
        ImagePipeline { flip: HorizontalFlip::NEVER, channels: 1, ..small(Crop::Roi(taken)) };
    let roi = Roi { x: 200, y: 50, width: 60, height: 80 };
    let Set(folder, _) = set(&root, config.clone());
    let with = WithRois::new(folder.clone(), vec![vec![roi]]).unwrap();
    let image: RoiImage = with.get(0, &DecodeOptions::default()).unwrap();
    let sample = values(config.apply(image, Key::new(1)).unwrap().0).unwrap();
    let decoded = decode(&root.path().join("1.png"), &DecodeOptions::default()).unwrap();
    let rect = Rect { top: 50, left: 200, height: 80, width: 60 };
    let cut = resample(&decoded, &Resampling::new(rect, ImageSize::new(24, 20)), Filter::Bicubic);
    let Pixels::U8(levels) = cut.unwrap().into_pixels() else { panic!("8 bits") };
    let expected: Vec<f32> =
        levels.iter().map(|&level| Normalize::msip().apply(f32::from(level), 0)).collect();
    assert_eq!(sample, expected);
    assert_ne!(set(&root, config).get(0, Key::new(1)).unwrap(), expected);
    let refused = WithRois::new(folder, vec![]).err().unwrap();
    assert_eq!(refused.to_string(), "`rois` is 0 lists, expected one list for each of 1 images");
}

#[test]
fn subsets_repetitions_and_rows_of_sets_know_where_their_samples_are_from() {
    let root = tempfile::tempdir().unwrap();
    for index in 0..6 {
        image_file(root.path(), &format!("{index}.png"));
    }
    let folder = ImageFolder::open(root.path()).unwrap();
    let subset = Subset::new(folder.clone(), vec![4, 1]).unwrap();
    assert_eq!(names(&subset), ["4.png", "1.png"]);
    assert_eq!(subset.first(1).indices(), [4]);
    assert_eq!(
        Subset::new(folder.clone(), vec![6]).unwrap_err().to_string(),
        "`index` is 6, expected below 6"
    );
    let repeated = Repeat::new(subset.clone(), 2);
    assert_eq!(names(&repeated), ["4.png", "1.png", "4.png", "1.png"]);
    assert_eq!((0..4).map(|i| repeated.origin(i)).collect::<Vec<_>>(), [4, 1, 4, 1]);
    assert_eq!(
        repeated.get(4, &DecodeOptions::default()).unwrap_err().to_string(),
        "`index` is 4, expected below 4"
    );
    let both = Concat::new(vec![subset.first(1), Subset::all(folder.clone())]).unwrap();
    assert_eq!((both.len(), both.name(0), both.name(1)), (7, "4.png".into(), "0.png".into()));
    let image =
        |set: &dyn Dataset<Sample = Image>, index| set.get(index, &Default::default()).unwrap();
    assert_eq!(image(&both, 5), image(&folder, 4));
    assert_eq!(
        Concat::<ImageFolder>::new(vec![]).err().unwrap().to_string(),
        "`parts` is empty, expected at least one set"
    );
}

#[test]
fn a_held_out_part_can_be_capped() {
    let root = tempfile::tempdir().unwrap();
    for index in 0..60 {
        fs::write(root.path().join(format!("{index}.png")), "").unwrap();
    }
    let all = Subset::all(ImageFolder::open(root.path()).unwrap());
    let (_, whole) = all.split(0.5, None, 7).unwrap();
    let (train, held_out) = all.split(0.5, Some(5), 7).unwrap();
    assert_eq!((train.len(), held_out.len()), (55, 5));
    let whole: Vec<_> = names(&whole);
    assert!(names(&held_out).iter().all(|name| whole.contains(name)));
    assert_eq!(all.split(0.5, Some(100), 7).unwrap().1.len(), whole.len());
    assert!(all.split(0.5, Some(0), 7).unwrap().1.is_empty());
}

#[test]
fn a_folder_of_regions_is_not_a_class() {
    let root = tempfile::tempdir().unwrap();
    for name in ["car/1.png", "car/2.png", "person/1.png", "person/2.png"] {
        image_file(root.path(), name);
    }
    fs::create_dir_all(root.path().join("roi/car")).unwrap();
    fs::write(root.path().join("roi/car/1.txt"), "0,0,9,9\n").unwrap();
    let set = ClassFolder::open(root.path()).unwrap();
    assert_eq!(set.classes(), &["car", "person"]);
    assert_eq!(set.labels(), [0, 0, 1, 1]);
    assert_eq!((set.info(2).unwrap(), set.name(2)), (1, "person/1.png".into()));
    assert_eq!(set.get(2, &Default::default()).unwrap().class, 1);
    // In MSIP's layout, regions beside `thermal`.
    let root = tempfile::tempdir().unwrap();
    for name in ["thermal/car/1.png", "thermal/person/1.png", "roi/car/1.png"] {
        image_file(root.path(), name);
    }
    assert_eq!(ClassFolder::open(root.path()).unwrap().classes(), &["car", "person"]);
    // A class of that name has images.
    let root = tempfile::tempdir().unwrap();
    for name in ["roi/1.png", "car/1.png"] {
        image_file(root.path(), name);
    }
    assert_eq!(ClassFolder::open(root.path()).unwrap().classes(), &["car", "roi"]);
}

#[test]
fn wrong_settings_are_refused() {
    let root = tempfile::tempdir().unwrap();
    image_file(root.path(), "1.png");
    let folder = ImageFolder::open(root.path()).unwrap();
    let text = |config| {
        let loader: Result<Loader, _> = Loader::new(folder.clone(), config, Default::default());
        loader.err().unwrap().to_string()
    };
    let config = ImagePipeline { channels: 2, ..Default::default() };
    assert_eq!(text(config), "`channels` is 2, expected 1 or 3");
    let config = ImagePipeline { size: ImageSize::new(0, 5), ..Default::default() };
    assert_eq!(text(config), "`size` is 0x5, expected at least 1x1");
    let config =
        ImagePipeline { crop: Crop::Center(CenterCrop { short_side: 100 }), ..Default::default() };
    assert_eq!(
        text(config),
        "`short_side` is 100, expected at least the sides of the result, 224x224"
    );
    ImagePipeline::evaluation(ImageSize::square(224)).validate().unwrap();
    let set = set(&root, ImagePipeline::evaluation(ImageSize::square(16)));
    let image = set.0.get(0, &DecodeOptions::default()).unwrap();
    assert_eq!(
        set.1.write(image, Key::new(1), &mut [0.0; 5]).unwrap_err().to_string(),
        "`out` is 5, expected 768 values"
    );
    assert_eq!(set.get(7, Key::new(1)).unwrap_err().to_string(), "`index` is 7, expected below 1");
    assert_eq!(set.0.name(7), "(no such image)");
}

#[test]
fn configurations_are_read_strictly() {
    let text = r#"{"channels": 1, "crop": {"roi": {"min_side": 40}}, "normalize": {"mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2]}, "window": {"fixed": {"low": 1.0, "high": 2.0}}}"#;
    let config: ImagePipeline = serde_json::from_str(text).unwrap();
    assert_eq!(config.crop, Crop::Roi(RoiCrop { min_side: 40, ..Default::default() }));
    assert_eq!(config.size, ImageSize::square(224));
    let again = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<ImagePipeline>(&again).unwrap(), config);
    let unknown = serde_json::from_str::<ImagePipeline>(r#"{"chanels": 1}"#).unwrap_err();
    assert!(unknown.to_string().starts_with("unknown field `chanels`"), "{unknown}");
}

#[test]
fn statistics_are_those_of_all_pixels() {
    let root = tempfile::tempdir().unwrap();
    let levels = |shade: u8| move |x: u32, _: u32| image::Luma([shade + x as u8]);
    image::GrayImage::from_fn(20, 20, levels(10)).save(root.path().join("1.png")).unwrap();
    image::GrayImage::from_fn(20, 40, levels(100)).save(root.path().join("2.png")).unwrap();
    fs::write(root.path().join("3.png"), "damaged").unwrap();
    let folder = ImageFolder::open(root.path()).unwrap();
    let options = DecodeOptions::default();
    let found = Statistics::of(&folder, &options, &Window::default(), &[0.0, 50.0, 100.0]).unwrap();
    // 400 pixels of 10..30 and 800 of 100..120.
    let all: Vec<f64> = (0..20)
        .flat_map(|x| [10.0 + f64::from(x), 100.0 + f64::from(x), 100.0 + f64::from(x)])
        .map(|level| level / 255.0)
        .collect();
    let mean = all.iter().sum::<f64>() / 60.0;
    let std = (all.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / 60.0).sqrt();
    assert_eq!((found.images, found.pixels), (2, 1200));
    assert!((found.mean - mean).abs() < 1e-12 && (found.std - std).abs() < 1e-12);
    assert_eq!(found.percentiles, [10.0, 104.5, 119.0]);
    assert_eq!(found.unreadable.len(), 1);
    assert!(found.unreadable[0].contains("3.png: cannot decode"), "{}", found.unreadable[0]);

    let none = Subset::all(folder.clone()).every(3).split(0.0, None, 1).unwrap().1;
    assert!(Statistics::of(&none, &options, &Window::default(), &[]).is_err());
    let refused = Statistics::of(&folder, &options, &Window::default(), &[101.0]).unwrap_err();
    assert_eq!(refused.to_string(), "`percents` is 101, expected 0 to 100");
}
