//! Parts of sets, whatever their format.

use std::fs;

use pad_data::{
    Dataset,
    image::{DecodeOptions, RadiometricMode},
    sets::{ImageFolder, detection::DetectionOptions},
};

use super::support::{boxes, case, copy, names, open, open_at, text, train};

#[test]
fn labels_that_are_not_found_are_an_error() {
    let refused = open("N17", "train", "yolo").unwrap_err().to_string();
    assert!(
        refused.contains("expected a file of labels for some of 6 images, found none (looked for ")
            && refused.ends_with("labels/train/im000.txt)"),
        "{refused}"
    );
    // Some of them: images without a box.
    let folder = copy("N10label");
    fs::remove_file(folder.path().join("labels/train/im003.txt")).unwrap();
    let set = train(&folder).unwrap();
    assert_eq!((set.len(), set.left_out().unlabelled), (6, 1));
    // VOC: left out, or an error.
    let folder = copy("N14base");
    fs::remove_file(folder.path().join("Annotations/train003.xml")).unwrap();
    let set = train(&folder).unwrap();
    assert_eq!((set.len(), set.left_out().unlabelled), (5, 1));
    for entry in fs::read_dir(folder.path().join("Annotations")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let refused = text(open_at(folder.path(), "train", "voc", &Default::default()), &folder);
    assert_eq!(
        refused,
        "ROOT/Annotations: expected an XML file for some of 6 images, found none (looked for train000.xml)"
    );
}

#[test]
fn a_part_without_objects_has_the_classes_of_training() {
    let set = open("N21empty", "train", "auto").unwrap();
    let as_in = Some(set.classes().clone());
    let options = DetectionOptions { as_in, ..Default::default() };
    let val = open_at(&case("N21empty"), "val", "auto", &options).unwrap();
    assert_eq!((names(&val), boxes(&val)), (vec!["person", "car"], vec![vec![]; 3]));
    // VOC, whose files hold only the classes that occur.
    let set = open("N14base", "train", "voc").unwrap();
    let folder = copy("N14base");
    for index in 0..3 {
        let path = folder.path().join(format!("Annotations/val00{index}.xml"));
        let text = fs::read_to_string(&path).unwrap();
        let (start, _) = text.split_once("<object>").unwrap();
        fs::write(&path, format!("{start}</annotation>")).unwrap();
    }
    let as_in = Some(set.classes().clone());
    let options = DetectionOptions { as_in, ..Default::default() };
    let val = open_at(folder.path(), "val", "voc", &options).unwrap();
    assert_eq!((names(&val), boxes(&val)), (names(&set), vec![vec![]; 3]));
}

#[test]
fn every_image_of_a_mixed_folder_is_accounted_for() {
    let set = ImageFolder::open(case("T/mixed")).unwrap();
    // What is left out is a warning, whose text the command's test reads.
    assert_eq!(set.len(), 8);
    assert!((0..8).all(|index| set.relative(index).unwrap().starts_with("siteA/thermal/")));
}

#[test]
fn labels_on_the_picture_fit_the_thermal_image() {
    // Pictures of 240 x 320 with counts of 60 x 80; labels are drawn on the picture.
    for (name, format) in [("I03/coco", "coco"), ("I03/yolo", "yolo")] {
        for split in ["train", "val"] {
            let set = open(name, split, format).unwrap();
            for mode in [RadiometricMode::Auto, RadiometricMode::Picture] {
                let options = DecodeOptions { radiometric: mode, ..Default::default() };
                let sample = set.get(0, &options).unwrap();
                let size = sample.image.size();
                let expected = if mode == RadiometricMode::Auto { [60, 80] } else { [240, 320] };
                assert_eq!([size.height, size.width], expected, "{name} {mode}");
                assert_eq!(sample.labels.size, size);
                // 120 to 200 of 320, 80 to 160 of 240.
                let share = size.width as f64 / 320.0;
                let [x1, y1, x2, y2] = sample.labels.objects[0].bbox.map(|edge| edge / share);
                let off = [x1 - 120.0, y1 - 80.0, x2 - 200.0, y2 - 160.0];
                assert!(off.iter().all(|off| off.abs() < 0.05), "{name} {mode}: {off:?}");
            }
        }
    }
}
