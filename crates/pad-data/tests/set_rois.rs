//! Regions of interest of whole sets: where their files stand, what is wrong with them, subsets.

use std::{collections::BTreeSet, fs, path::Path};

use pad_data::{
    Error,
    dataset::{Dataset, Subset},
    image::{DecodeOptions, Image, Pixels},
    roi::{Roi, RoiConfig, rois, write},
    scenes::{SceneConfig, SceneSet, Size},
    sets::{ImageFolder, WithRois, gray_levels, read_rois, search_rois},
    transform::{Crop, HorizontalFlip, ImagePipeline, RoiCrop, Transform},
    window::Window,
};
use pad_ops::{ImageSize, rng::Key};

const SIZE: (u32, u32) = (120, 90);

fn image_file(root: &Path, name: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixel = |x: u32, y: u32| image::Luma([(x * 2 + y % 7) as u8]);
    image::GrayImage::from_fn(SIZE.0, SIZE.1, pixel).save(path).unwrap();
}

fn text_file(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn config() -> ImagePipeline {
    ImagePipeline {
        size: ImageSize::square(32),
        crop: Crop::Roi(RoiCrop { jitter: false, ..Default::default() }),
        flip: HorizontalFlip::NEVER,
        ..Default::default()
    }
}

#[test]
fn files_stand_beside_thermal_in_the_same_folders() {
    let root = tempfile::tempdir().unwrap();
    for name in ["a/thermal/1.png", "a/thermal/day/2.x.png", "b/thermal/1.png"] {
        image_file(root.path(), name);
    }
    let folder = ImageFolder::open(root.path()).unwrap();
    let below = |path: &Path| path.strip_prefix(root.path()).unwrap().display().to_string();
    let paths: Vec<String> = folder.roi_paths().unwrap().iter().map(|path| below(path)).collect();
    assert_eq!(paths, ["a/roi/1.txt", "a/roi/day/2.txt", "b/roi/1.txt"]);
    // One source by itself has the same files.
    let one = ImageFolder::open(root.path().join("a")).unwrap();
    assert_eq!(below(&one.roi_path(1).unwrap()), "a/roi/day/2.txt");
    assert_eq!(one.roi_path(2), None);
    // Any other folder keeps them to itself.
    let plain = ImageFolder::open(root.path().join("b/thermal")).unwrap();
    assert_eq!(below(&plain.roi_path(0).unwrap()), "b/thermal/roi/1.txt");
}

#[test]
fn files_are_read_strictly_and_absent_ones_are_none() {
    let root = tempfile::tempdir().unwrap();
    for name in ["a/thermal/1.png", "a/thermal/2.png", "a/thermal/3.png"] {
        image_file(root.path(), name);
    }
    let folder = ImageFolder::open(root.path()).unwrap();
    assert_eq!(read_rois(&folder).unwrap(), [None, None, None]);
    text_file(root.path(), "a/roi/2.txt", "1,2,50,60\n\n3,4,50,40\n");
    text_file(root.path(), "a/roi/3.txt", "");
    let found = read_rois(&folder).unwrap();
    let roi = |x, y, width, height| Roi { x, y, width, height };
    let second = vec![roi(1, 2, 50, 60), roi(3, 4, 50, 40)];
    assert_eq!(found, [None, Some(second), Some(vec![])]);
    // Of two faulty files the first by image is named, whichever thread reads first.
    text_file(root.path(), "a/roi/2.txt", "1,2,50,60\n1,2,3\n");
    text_file(root.path(), "a/roi/3.txt", "x");
    let path = root.path().join("a/roi/2.txt");
    assert_eq!(
        read_rois(&folder).unwrap_err().to_string(),
        format!("{}:2: expected 4 numbers `x,y,width,height`, found 3", path.display())
    );
}

#[test]
fn images_that_share_a_file_are_refused_where_it_exists() {
    let root = tempfile::tempdir().unwrap();
    image_file(root.path(), "a/thermal/1.jpg");
    image_file(root.path(), "a/thermal/1.png");
    let folder = ImageFolder::open(root.path()).unwrap();
    assert_eq!(read_rois(&folder).unwrap(), [None, None]);
    text_file(root.path(), "a/roi/1.txt", "1,2,50,60\n");
    let at = |name: &str| root.path().join(name).display().to_string();
    let want = format!(
        "{} and {} share the RoI file {}: rename one of them",
        at("a/thermal/1.jpg"),
        at("a/thermal/1.png"),
        at("a/roi/1.txt")
    );
    assert_eq!(read_rois(&folder).unwrap_err().to_string(), want);
    assert_eq!(folder.roi_paths().unwrap_err().to_string(), want);
}

#[test]
fn an_image_that_was_replaced_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    image_file(root.path(), "a/thermal/1.png");
    text_file(root.path(), "a/roi/1.txt", "\n0,0,50,60\n70,20,60,60\n");
    let folder = ImageFolder::open(root.path()).unwrap();
    let lists: Vec<Vec<Roi>> = read_rois(&folder).unwrap().into_iter().flatten().collect();
    let options = DecodeOptions::default();
    let set = WithRois::new(folder, lists.clone()).unwrap();
    let error = set.get(0, &options).unwrap_err();
    assert!(error.is_of_one_file());
    assert_eq!(
        error.to_string(),
        format!(
            "{}:3: expected a rectangle inside the image of 90x120 (height x width) pixels, found 70,20,60,60",
            root.path().join("a/roi/1.txt").display()
        )
    );
    // Without a file to name: the caller's mistake.
    let scenes = SceneSet::render(&SceneConfig::new(Size::new(64, 64), 0), 1).unwrap();
    let set = WithRois::new(scenes, lists).unwrap();
    assert_eq!(
        set.get(0, &options).unwrap_err().to_string(),
        "`rois` is 70,20,60,60, expected rectangles inside scene 0 of 64x64 pixels"
    );
}

#[test]
fn crops_follow_the_files() {
    let root = tempfile::tempdir().unwrap();
    image_file(root.path(), "1.png");
    let folder = ImageFolder::open(root.path()).unwrap();
    let roi = Roi { x: 40, y: 10, width: 60, height: 50 };
    fs::create_dir(root.path().join("roi")).unwrap();
    write(&folder.roi_path(0).unwrap(), &[roi]).unwrap();
    let lists: Vec<Vec<Roi>> = read_rois(&folder).unwrap().into_iter().flatten().collect();
    let set = WithRois::new(folder, lists).unwrap();
    let image = set.get(0, &DecodeOptions::default()).unwrap();
    let (sample, ()) = config().apply(image, Key::new(3)).unwrap();
    let sample = sample.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    // Brightness rises by 2 a column, from column 40 to 100: normalised, the first and last column
    // say so.
    let level = |value: f32| (value * 0.1871 + 0.3801) * 255.0;
    let (first, last) = (level(sample[32 * 16]), level(sample[32 * 16 + 31]));
    assert!((first - 82.0).abs() < 5.0 && (last - 200.0).abs() < 5.0, "{first} {last}");
}

#[test]
fn searched_regions_are_those_of_each_image() {
    let config = SceneConfig::new(Size::new(128, 160), 3);
    let scenes = SceneSet::render(&config, 20).unwrap();
    let (options, window) = (DecodeOptions::default(), Window::default());
    let found = search_rois(&scenes, &options, &window, &RoiConfig::default()).unwrap();
    assert_eq!(found.len(), 20);
    assert!(found.iter().any(|rois| !rois.is_empty()));
    for (index, list) in found.iter().enumerate() {
        let image = scenes.get(index, &options).unwrap();
        let (gray, size) = gray_levels(image, &window).unwrap();
        assert_eq!(*list, rois(&gray, size, &RoiConfig::default()).unwrap(), "scene {index}");
    }
    // 16-bit counts go through the window.
    let counts = Image::new(ImageSize::new(1, 4), 1, Pixels::U16(vec![7000, 7010, 7020, 7040]));
    let window = Window::Fixed { low: 7000.0, high: 7020.0 };
    assert_eq!(gray_levels(counts.unwrap(), &window).unwrap().0, [0, 128, 255, 255]);
}

#[test]
fn a_share_is_of_every_source_and_nested() {
    let root = tempfile::tempdir().unwrap();
    for index in 0..40 {
        text_file(root.path(), &format!("a/{index}.png"), "");
    }
    for index in 0..3 {
        text_file(root.path(), &format!("b/{index}.png"), "");
    }
    let folder = Subset::all(ImageFolder::open(root.path()).unwrap());
    let names = |ratio: f64, seed: u64| -> BTreeSet<String> {
        let part = folder.share(ratio, seed).unwrap();
        (0..part.len()).map(|index| part.name(index)).collect()
    };
    let (tenth, half) = (names(0.1, 0), names(0.5, 0));
    assert_eq!((tenth.len(), half.len(), names(1.0, 0).len()), (4 + 1, 20 + 2, 43));
    assert!(tenth.is_subset(&half));
    assert_ne!(half, names(0.5, 1));
    let error: Error = folder.share(0.0, 0).unwrap_err();
    assert_eq!(error.to_string(), "`ratio` is 0, expected above 0, up to 1");
    assert!(folder.share(f64::NAN, 0).is_err());
}
