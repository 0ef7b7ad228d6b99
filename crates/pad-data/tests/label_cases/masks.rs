//! Lists and masks of sets for segmentation.

use std::{fs, path::Path};

use pad_data::{
    Dataset, Result,
    image::{DecodeOptions, Pixels},
    sets::segmentation::{SegmentationOptions, SegmentationSet},
};

use super::support::{case, copy, copy_all};

fn segmentation(
    root: &Path,
    split: &str,
    options: &SegmentationOptions,
) -> Result<SegmentationSet> {
    SegmentationSet::open(root, split, "auto".parse()?, options)
}

#[test]
fn lists_are_read_as_they_are_written() {
    let root = case("S02bom");
    let options = SegmentationOptions::default();
    let set = segmentation(&root, "train", &options).unwrap();
    let all: Vec<String> = (0..set.len()).map(|index| set.name(index)).collect();
    assert_eq!(all, ["s0", "s1", "s2", "s3", "s4", "s5"]);
    for lines in [
        "s0.png\r\ns1.PNG \r\ns2\ns3\ns4\ns5",
        "images/s0.png\n./images/s1.png\nimages\\s2.png\nC:\\set\\images\\s3.png\ns4\t\n  s5",
        "images/s0.png masks/s0.png\ns1.png s1.png\ns2 s2\ns3\ns4\ns5\n",
    ] {
        let folder = copy("S02bom");
        fs::write(folder.path().join("train.txt"), lines).unwrap();
        let set = segmentation(folder.path(), "train", &options).unwrap();
        assert_eq!(set.len(), 6, "{lines}");
        assert!((0..6).all(|index| set.get(index, &DecodeOptions::default()).is_ok()));
    }
    // Without a list: folders of the parts.
    let folder = tempfile::tempdir().unwrap();
    for kind in ["images", "masks"] {
        copy_all(&root.join(kind), &folder.path().join(kind).join("train/site"));
    }
    fs::copy(root.join("classes.toml"), folder.path().join("classes.toml")).unwrap();
    let set = segmentation(folder.path(), "train", &options).unwrap();
    assert_eq!((set.len(), set.name(0)), (8, "site/s0".into()));
    // One name without a file is left out, more are an error.
    let folder = copy("S02bom");
    fs::remove_file(folder.path().join("masks/s2.png")).unwrap();
    assert_eq!(segmentation(folder.path(), "train", &options).unwrap().len(), 5);
    fs::remove_file(folder.path().join("images/s4.png")).unwrap();
    let refused = segmentation(folder.path(), "train", &options).unwrap_err().to_string();
    assert!(
        refused.contains(
            "train.txt: 2 of 6 lines cannot be used, more than the allowed share 0.05; first: "
        ),
        "{refused}"
    );
    assert!(
        refused.contains("expected a mask `s2`") && refused.contains("expected an image `s4`"),
        "{refused}"
    );
}

#[test]
fn masks_of_0_and_255_are_noticed_and_can_be_read() {
    let root = case("S03_255");
    let set = segmentation(&root, "train", &SegmentationOptions::default()).unwrap();
    let survey = set.survey(usize::MAX, &DecodeOptions::default()).unwrap();
    assert_eq!((survey.masks, survey.pixels[1], survey.faults.len()), (6, 0, 0));
    assert!(survey.pixels[0] > 0 && survey.ignored > 0);
    let classes = pad_data::Dataset::classes(&set);
    assert_eq!(
        survey.check(classes).unwrap_err().to_string(),
        "`masks` is without a pixel of `warm` in 6 masks (they hold 0 and 255 alone, and 255 is ignored: for 255 as \
         class 1, set mask values to 0,255 or write `255 = 1` below `[remap]` in classes.toml), expected labelled \
         pixels of at least two classes"
    );
    let options = SegmentationOptions { mask_values: Some(vec![0, 255]), ..Default::default() };
    let set = segmentation(&root, "train", &options).unwrap();
    let read = set.survey(usize::MAX, &DecodeOptions::default()).unwrap();
    assert_eq!(
        (read.pixels[0], read.pixels[1], read.ignored),
        (survey.pixels[0], survey.ignored, 0)
    );
    assert!(read.check(pad_data::Dataset::classes(&set)).is_ok());
    let labels = set.get(0, &DecodeOptions::default()).unwrap().labels;
    assert!(labels.classes().contains(&1) && !labels.classes().contains(&255));
    // By the set's own word.
    let folder = copy("S03_255");
    let toml = folder.path().join("classes.toml");
    fs::write(&toml, "classes = [\"background\", \"warm\"]\n[remap]\n255 = 1\n").unwrap();
    let set = segmentation(folder.path(), "train", &SegmentationOptions::default()).unwrap();
    assert_eq!(set.survey(usize::MAX, &DecodeOptions::default()).unwrap(), read);
    // Other values than those that are given are faults.
    let options = SegmentationOptions { mask_values: Some(vec![0, 200]), ..Default::default() };
    let set = segmentation(&case("S02bom"), "train", &options).unwrap();
    let survey = set.survey(usize::MAX, &DecodeOptions::default()).unwrap();
    assert_eq!(survey.faults.len(), 6);
    assert!(
        survey.faults[0].ends_with("is 1, expected one of [0, 200] or 255"),
        "{}",
        survey.faults[0]
    );
    let wrong = SegmentationOptions { mask_values: Some(vec![0, 0]), ..Default::default() };
    assert_eq!(
        segmentation(&root, "train", &wrong).unwrap_err().to_string(),
        "`mask_values` is [0, 0], expected 2 different values, one for each class"
    );
}

/// A grey PNG of 20 x 16 with EXIF's orientation.
fn turned(path: &Path, orientation: u8, levels: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), 16, 20);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().unwrap();
    let block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0";
    let block = [&block[..], &[orientation], &[0; 7]].concat();
    writer.write_chunk(png::chunk::ChunkType(*b"eXIf"), &block).unwrap();
    writer.write_image_data(levels).unwrap();
}

#[test]
fn masks_are_turned_as_images_are() {
    // A corner and a side, so that no two orientations are alike.
    let is_warm = |pixel: usize| pixel / 16 < 3 && pixel % 16 < 9 || pixel.is_multiple_of(16);
    let levels =
        |warm: u8| -> Vec<u8> { (0..320).map(|p| if is_warm(p) { warm } else { 0 }).collect() };
    for orientation in 1..=8 {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("classes.toml"), "classes = [\"cold\", \"warm\"]").unwrap();
        turned(&folder.path().join("images/train/a.png"), orientation, &levels(200));
        turned(&folder.path().join("masks/train/a.png"), orientation, &levels(1));
        let set = segmentation(folder.path(), "train", &SegmentationOptions::default()).unwrap();
        let sample = set.get(0, &DecodeOptions::default()).unwrap();
        let size = sample.image.size();
        assert_eq!(size.height == 16, orientation > 4, "{orientation}");
        let Pixels::U8(image) = sample.image.collapse_gray().into_pixels() else {
            panic!("8 bits")
        };
        let classes = sample.labels.classes();
        let fits = image.iter().zip(classes).all(|(level, class)| (*level == 200) == (*class == 1));
        assert!(fits, "{orientation}");
        assert_eq!(classes.iter().filter(|&&class| class == 1).count(), 3 * 9 + 17);
    }
}
