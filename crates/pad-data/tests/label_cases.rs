//! Labels as people have them: each case of `tests/golden/cases` with its right value, and others of
//! its kind.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use pad_data::{
    Dataset, Error, Result,
    image::{DecodeOptions, RadiometricMode},
    sets::{
        ImageFolder,
        detection::{
            BadBoxes, BoxClasses, DetectionOptions, DetectionSet, LabelledImage, LeftOut, Object,
        },
        segmentation::{SegmentationOptions, SegmentationSet},
    },
};
use pad_testkit::golden_folder;
use tempfile::TempDir;

/// The warm square of every image of 64 x 80 pixels.
const SQUARE: [f64; 4] = [30.0, 20.0, 54.0, 44.0];

fn case(name: &str) -> PathBuf {
    golden_folder().join("cases").join(name)
}

fn open_at(
    root: &Path,
    split: &str,
    format: &str,
    options: &DetectionOptions,
) -> Result<DetectionSet> {
    DetectionSet::open(root, split, format.parse()?, options)
}

fn open(name: &str, split: &str, format: &str) -> Result<DetectionSet> {
    open_at(&case(name), split, format, &DetectionOptions::default())
}

fn names(set: &DetectionSet) -> Vec<&str> {
    set.classes().classes().iter().map(|class| class.name.as_str()).collect()
}

fn labels(set: &DetectionSet) -> Vec<Arc<LabelledImage>> {
    (0..set.len()).map(|index| set.info(index).unwrap()).collect()
}

fn boxes(set: &DetectionSet) -> Vec<Vec<[f64; 4]>> {
    let of = |image: &Arc<LabelledImage>| image.objects.iter().map(|object| object.bbox).collect();
    labels(set).iter().map(of).collect()
}

fn classes(set: &DetectionSet) -> Vec<u32> {
    labels(set).iter().flat_map(|image| image.objects.iter().map(|one| one.class)).collect()
}

/// Six images with the square each, whose classes alternate; every image is read.
fn check_square(set: &DetectionSet, images: usize) {
    assert_eq!(boxes(set), vec![vec![SQUARE]; images]);
    for index in 0..set.len() {
        let sample = set.get(index, &DecodeOptions::default()).unwrap();
        assert_eq!(sample.image.size(), sample.labels.size);
    }
}

/// A copy of a case that a test changes.
fn copy(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_all(&case(name), folder.path());
    folder
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_all(&entry.path(), &target),
            false => {
                fs::write(target, fs::read(entry.path()).unwrap()).unwrap();
            }
        }
    }
}

/// Case N00 with other text in `annotations/train.json`.
fn coco(change: impl Fn(String) -> String) -> TempDir {
    let folder = copy("N00");
    let path = folder.path().join("annotations/train.json");
    fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
    folder
}

fn train(folder: &TempDir) -> Result<DetectionSet> {
    open_at(folder.path(), "train", "auto", &DetectionOptions::default())
}

fn text(result: Result<DetectionSet>, folder: &TempDir) -> String {
    let error = result.map(|set| boxes(&set)).unwrap_err().to_string();
    error.replace(folder.path().to_str().unwrap(), "ROOT")
}

fn replaced(from: &'static str, to: &'static str) -> TempDir {
    coco(|text| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

#[test]
fn a_sound_set_is_read() {
    let set = open("N00", "train", "auto").unwrap();
    check_square(&set, 6);
    assert_eq!((names(&set), classes(&set)), (vec!["person", "car"], vec![0, 1, 0, 1, 0, 1]));
    assert_eq!(set.left_out(), &LeftOut::default());
}

#[test]
fn hit_uav_is_read_as_its_authors_publish_it() {
    for (format, expected) in [
        ("auto", ["Person", "Car", "Bicycle", "OtherVehicle"]),
        ("hit-uav", ["person", "car", "bicycle", "other_vehicle"]),
    ] {
        let set = open("N01", "train", format).unwrap();
        check_square(&set, 6);
        assert_eq!(names(&set), expected);
        // Numbers of the authors' file, so that results fit it.
        assert_eq!([0, 1, 2, 3].map(|class| set.classes().id(class)), [0, 1, 2, 3].map(Some));
        assert_eq!(classes(&set), [0, 1, 0, 1, 0, 1]);
        // The other part has the same classes, whichever of them occur in it.
        let as_in = Some(set.classes().clone());
        let options = DetectionOptions { as_in, ..Default::default() };
        let val = open_at(&case("N01"), "val", format, &options).unwrap();
        assert_eq!((names(&val), val.len()), (expected.to_vec(), 3));
    }
    // Below the folder that the authors publish.
    let folder = tempfile::tempdir().unwrap();
    copy_all(&case("N01"), &folder.path().join("normal_json"));
    assert_eq!(names(&train(&folder).unwrap())[3], "other_vehicle");
}

#[test]
fn dont_care_is_a_region_of_every_class() {
    let folder = copy("N01");
    let path = folder.path().join("annotations/train.json");
    let told =
        fs::read_to_string(&path).unwrap().replacen("\"category_id\": 1", "\"category_id\": 4", 1);
    fs::write(&path, told).unwrap();
    for format in ["auto", "hit-uav"] {
        let open =
            |options: &DetectionOptions| open_at(folder.path(), "train", format, options).unwrap();
        let set = open(&DetectionOptions::default());
        let second = set.info(1).unwrap();
        let crowds: Vec<(u32, bool, [f64; 4])> =
            second.objects.iter().map(|one| (one.class, one.crowd, one.bbox)).collect();
        assert_eq!(crowds, [0, 1, 2, 3].map(|class| (class, true, SQUARE)));
        let mut ids: Vec<i64> =
            labels(&set).iter().flat_map(|i| i.objects.iter().map(|o| o.id)).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 5 + 4, "annotations have numbers of their own");
        // Selected, it is a class.
        let select = Some(vec!["DontCare".to_string()]);
        let set = open(&DetectionOptions { select, ..Default::default() });
        assert_eq!((names(&set), classes(&set)), (vec!["DontCare"], vec![0]));
        // And with some classes it stays a region.
        let select = Some(vec!["car".to_string()]);
        let set = open(&DetectionOptions { select, ..Default::default() });
        assert!(set.info(1).unwrap().objects.iter().all(|one| one.crowd && one.class == 0));
    }
}

#[test]
fn values_count_by_their_meaning() {
    for name in ["N04bool", "N04null", "N05id", "N05size", "N10json", "N03"] {
        let set = open(name, "train", "auto").unwrap_or_else(|error| panic!("{name}: {error}"));
        check_square(&set, 6);
        assert_eq!(classes(&set), [0, 1, 0, 1, 0, 1], "{name}");
        assert!(labels(&set).iter().all(|image| image.objects.iter().all(|one| !one.crowd)));
    }
    // Images that are called by texts are numbered in the order of the file.
    let ids: Vec<i64> =
        labels(&open("N03", "train", "auto").unwrap()).iter().map(|i| i.id).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn other_spellings_of_values_are_read() {
    for (from, to) in [
        ("\"iscrowd\": 0", "\"iscrowd\": \"0\""),
        ("\"iscrowd\": 0", "\"iscrowd\": 0.0"),
        ("\"iscrowd\": 0", "\"ignore\": false"),
        ("\"category_id\": 1", "\"category_id\": \"1\""),
        ("\"category_id\": 1", "\"category_id\": \"person\""),
        ("\"image_id\": 1,", "\"image_id\": \"1\","),
        ("\"image_id\": 1,", "\"image_id\": 1.0,"),
        ("\"bbox\": [30, 20, 24, 24]", "\"bbox\": [\"30\", 20.0, \"24.0\", 2.4e1]"),
        ("\"area\": 576", "\"area\": null"),
        ("\"area\": 576", "\"area\": NaN"),
        ("\"area\": 576", "\"attributes\": {\"occluded\": false}"),
        ("\"width\": 80", "\"width\": \"80\""),
        ("\"width\": 80", "\"width\": 0"),
        ("\"height\": 64", "\"height\": null"),
        ("\"height\": 64", "\"height\": -1"),
        ("\"file_name\"", "\"path\""),
        ("\"file_name\": \"im", "\"filename\": \"other.png\", \"file_name\": \"im"),
        ("\"annotations\"", "\"annotation\""),
        ("\"categories\"", "\"category\""),
        ("\"file_name\": \"", "\"file_name\": \"train/"),
        ("\"file_name\": \"", "\"file_name\": \".\\\\"),
        ("\"file_name\": \"", "\"file_name\": \"C:\\\\data\\\\"),
        ("\"file_name\": \"", "\"file_name\": \"/data/local-files/?d=upload/"),
        ("im000.png", "IM000.PNG"),
        ("im000.png", "i%6D000.png"),
    ] {
        let folder = replaced(from, to);
        let set = train(&folder).unwrap_or_else(|error| panic!("{to}: {error}"));
        check_square(&set, 6);
        assert_eq!(classes(&set), [0, 1, 0, 1, 0, 1], "{to}");
    }
    // Without a list of categories they are called by their numbers.
    let folder = coco(|text| text.replace("\"categories\"", "\"none\""));
    assert_eq!(names(&train(&folder).unwrap()), ["category 1", "category 2"]);
    let folder = replaced("\"name\": \"car\"", "\"name\": 5");
    assert_eq!(names(&train(&folder).unwrap()), ["person", "5"]);
    // Encodings of Windows.
    let folder = copy("N00");
    let path = folder.path().join("annotations/train.json");
    let units = format!("\u{feff}{}", fs::read_to_string(&path).unwrap());
    let bytes: Vec<u8> = units.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(&path, bytes).unwrap();
    check_square(&train(&folder).unwrap(), 6);
}

#[test]
fn numbers_need_not_begin_at_one() {
    let folder = coco(|text| {
        text.replace("\"category_id\": 1", "\"category_id\": 0")
            .replace("\"id\": 1, \"name\"", "\"id\": 0, \"name\"")
    });
    let set = train(&folder).unwrap();
    assert_eq!((set.classes().id(0), set.classes().id(1)), (Some(0), Some(2)));
    check_square(&set, 6);
    let folder = coco(|text| {
        text.replace("\"category_id\": 2", "\"category_id\": 90")
            .replace("\"id\": 2, \"name\"", "\"id\": 90, \"name\"")
    });
    assert_eq!(train(&folder).unwrap().classes().id(1), Some(90));
}

#[test]
fn a_group_without_annotations_is_no_class() {
    let set = open("N02", "train", "auto").unwrap();
    check_square(&set, 6);
    assert_eq!((names(&set), set.classes().id(0)), (vec!["person"], Some(1)));
    let select = Some(vec!["person".to_string()]);
    let options = DetectionOptions { select, ..Default::default() };
    assert_eq!(open_at(&case("N02"), "val", "auto", &options).unwrap().classes().id(0), Some(1));
    // A part without any annotation has the same class.
    let folder = copy("N02");
    let path = folder.path().join("annotations/val.json");
    let mut file: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    file["annotations"] = serde_json::json!([]);
    fs::write(&path, file.to_string()).unwrap();
    let as_in = Some(set.classes().clone());
    let options = DetectionOptions { as_in, ..Default::default() };
    let val = open_at(folder.path(), "val", "auto", &options).unwrap();
    assert_eq!((names(&val), val.classes().id(0)), (vec!["person"], Some(1)));
}

#[test]
fn classes_of_one_name_are_told_apart_by_number() {
    let folder = replaced("\"name\": \"car\"", "\"name\": \"person\"");
    let set = train(&folder).unwrap();
    assert_eq!(names(&set), ["person (1)", "person (2)"]);
    assert_eq!(classes(&set), [0, 1, 0, 1, 0, 1]);
}

#[test]
fn names_of_signs_and_cases_are_classes() {
    for (name, expected) in [
        ("N20case", ["Car", "car"]),
        ("N20sign", ["mask+", "mask-"]),
        ("N20unit", [">100°C", "<100°C"]),
        ("N20empty", ["+", "-"]),
    ] {
        let set = open(name, "train", "auto").unwrap();
        assert_eq!(
            (names(&set), classes(&set)),
            (expected.to_vec(), vec![0, 1, 0, 1, 0, 1]),
            "{name}"
        );
        for class in 0..2 {
            let select = Some(vec![expected[class].to_string()]);
            let options = DetectionOptions { select, ..Default::default() };
            let set = open_at(&case(name), "train", "auto", &options).unwrap();
            assert_eq!(set.classes().id(0), Some(class as i64 + 1));
            assert_eq!(set.left_out().categories[expected[1 - class]], 3);
        }
    }
}

#[test]
fn a_stray_outline_does_not_cost_its_object() {
    let masks = DetectionOptions { masks: true, ..Default::default() };
    let set = open_at(&case("N07"), "train", "auto", &masks).unwrap();
    check_square(&set, 6);
    assert_eq!(set.left_out(), &LeftOut { outlines: 1, ..Default::default() });
    for image in labels(&set) {
        assert_eq!(image.objects[0].mask.as_ref().unwrap().area(), 576);
    }
    // Alone, it costs the object: counted, up to the share.
    let stray = || {
        coco(|text| text.replacen("[[30, 20, 54, 20, 54, 44, 30, 44]]", "[[30, 20, 54, 20]]", 1))
    };
    let folder = stray();
    let set = open_at(folder.path(), "train", "auto", &masks).unwrap();
    assert_eq!((set.len(), set.info(0).unwrap().objects.len(), set.left_out().faulty), (6, 0, 1));
    let strict = DetectionOptions { max_faulty: 0.0, ..masks.clone() };
    assert_eq!(
        text(open_at(folder.path(), "train", "auto", &strict), &folder),
        "ROOT/annotations/train.json: annotation 1 (image 1, im000.png): box [30.0, 20.0, 24.0, 24.0]: segmentation: \
         `polygon` is 4 coordinates, expected an even number of at least 6"
    );
    // An outline that is not in a list of its own, and a box that is missing.
    let folder = replaced("[[30, 20, 54, 20, 54, 44, 30, 44]]", "[30, 20, 54, 20, 54, 44, 30, 44]");
    check_square(&open_at(folder.path(), "train", "auto", &masks).unwrap(), 6);
    let folder = replaced("\"bbox\": [30, 20, 24, 24], ", "");
    for options in [masks, DetectionOptions::default()] {
        check_square(&open_at(folder.path(), "train", "auto", &options).unwrap(), 6);
    }
}

#[test]
fn one_bad_element_does_not_cost_the_whole() {
    let options = DetectionOptions::default();
    for (from, to, gone) in [
        ("[30, 20, 24, 24]", "[30, 20, 0, 24]", "0 x 24"),
        ("[30, 20, 24, 24]", "[30, 20, 84, 24]", "right edge at 114"),
        ("[30, 20, 24, 24]", "[-30, 20, 24, 24]", "left edge at -30"),
        ("[30, 20, 24, 24]", "[30, 20, 24]", "expected 4 numbers, found 3"),
        ("[30, 20, 24, 24]", "[30, 20, 24, 24, 0.5]", "turned boxes are not read"),
        ("[30, 20, 24, 24]", "[30, 20, \"a\", 24]", "expected numbers, found `a`"),
        ("[30, 20, 24, 24]", "[30, 20, NaN, 24]", "found nothing"),
        ("\"image_id\": 1,", "\"image_id\": 99,", "expected an image of the file, found 99"),
        ("\"category_id\": 1", "\"category_id\": 7", "expected a category of the file, found 7"),
        ("\"category_id\": 1", "\"category_id\": null", "found nothing"),
        ("\"iscrowd\": 0", "\"iscrowd\": \"maybe\"", "expected true or false, found `maybe`"),
        ("\"area\": 576", "\"area\": -1", "expected an area of at least 0, found -1"),
    ] {
        let folder = coco(|text| text.replacen(from, to, 1));
        let set = train(&folder).unwrap_or_else(|error| panic!("{to}: {error}"));
        assert_eq!((set.len(), set.left_out().faulty), (6, 1), "{to}");
        assert_eq!(boxes(&set).concat(), vec![SQUARE; 5], "{to}");
        // Two of six are more than the share, and all are named.
        let folder = coco(|text| text.replacen(from, to, 2));
        match open_at(folder.path(), "train", "auto", &options) {
            // Of the image's number there is only one.
            Ok(set) => assert!(from.contains("image_id") && set.left_out().faulty == 1, "{to}"),
            Err(error) => {
                let refused = error.to_string();
                let start = "train.json: 2 of 6 annotations cannot be used, more than the allowed share 0.05; first: ";
                assert!(refused.contains(start) && refused.contains(gone), "{refused}");
            }
        }
        let allowing = DetectionOptions { max_faulty: 0.5, ..options.clone() };
        assert!(open_at(folder.path(), "train", "auto", &allowing).is_ok(), "{to}");
    }
    // An element that is no object at all.
    let folder = coco(|text| text.replacen("\"annotations\": [", "\"annotations\": [null, ", 1));
    let set = train(&folder).unwrap();
    assert_eq!((boxes(&set).concat().len(), set.left_out().faulty), (6, 1));
    // Slightly outside is rounding; farther outside can be cut on request.
    let folder = coco(|text| text.replacen("[30, 20, 24, 24]", "[30, -0.7, 24, 65]", 1));
    assert_eq!(boxes(&train(&folder).unwrap())[0], [[30.0, 0.0, 54.0, 64.0]]);
    let folder = coco(|text| text.replace("[30, 20, 24, 24]", "[30, 20, 84, 24]"));
    assert!(text(train(&folder), &folder).contains("6 of 6 annotations cannot be used"));
    let repair = DetectionOptions { bad_boxes: BadBoxes::Repair, ..options };
    let set = open_at(folder.path(), "train", "auto", &repair).unwrap();
    assert_eq!((boxes(&set)[0][0], set.left_out().cut), ([30.0, 20.0, 80.0, 44.0], 6));
}

#[test]
fn missing_images_are_counted() {
    for split in ["train", "val"] {
        let folder = copy("N00");
        fs::remove_file(folder.path().join(split).join("im001.png")).unwrap();
        let open = |share| {
            let options = DetectionOptions { max_faulty: share, ..Default::default() };
            open_at(folder.path(), split, "auto", &options)
        };
        let set = open(0.05).unwrap();
        let rest = if split == "train" { 5 } else { 2 };
        assert_eq!((set.len(), set.left_out().images, set.left_out().faulty), (rest, 1, 0));
        check_square(&set, rest);
        assert_eq!(
            text(open(0.0), &folder),
            format!(
                "ROOT/annotations/{split}.json: image 2: expected the file ROOT/{split}/im001.png, found none"
            )
        );
        fs::remove_file(folder.path().join(split).join("im000.png")).unwrap();
        let refused = text(open(0.05), &folder);
        let all = rest + 1;
        let start = format!(
            "ROOT/annotations/{split}.json: 2 of {all} images cannot be used, more than the allowed share 0.05; first: image 1: "
        );
        assert!(refused.starts_with(&start), "{refused}");
    }
    // In a folder of another name they are found, as long as only one holds them.
    let folder = copy("N00");
    fs::rename(folder.path().join("train"), folder.path().join("elsewhere")).unwrap();
    check_square(&train(&folder).unwrap(), 6);
    // Images of another part that have the same names are not taken for them.
    fs::remove_dir_all(folder.path().join("elsewhere")).unwrap();
    copy_all(&case("N00/train"), &folder.path().join("val"));
    assert!(text(train(&folder), &folder).contains("6 of 6 images cannot be used"));
    for name in ["elsewhere", "there"] {
        copy_all(&case("N00/train"), &folder.path().join(name));
    }
    assert!(text(train(&folder), &folder).contains("6 of 6 images cannot be used"));
    let images = Some(folder.path().join("elsewhere"));
    let options = DetectionOptions { images, ..Default::default() };
    check_square(&open_at(folder.path(), "train", "auto", &options).unwrap(), 6);
}

#[test]
fn an_image_of_another_size_is_a_fault_of_that_image() {
    let folder = coco(|text| text.replacen("\"width\": 80", "\"width\": 81", 1));
    let error = train(&folder).unwrap().get(0, &DecodeOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Label { .. }) && error.is_of_one_file(), "{error}");
    // With masks, whose memory goes by the size, before anything is allocated.
    let masks = DetectionOptions { masks: true, ..Default::default() };
    let folder = coco(|text| {
        text.replacen("\"width\": 80, \"height\": 64", "\"width\": 32768, \"height\": 32768", 1)
    });
    let set = open_at(folder.path(), "train", "auto", &masks).unwrap();
    assert_eq!((set.len(), set.left_out().images), (5, 1));
}

#[test]
fn layouts_of_other_tools_are_found() {
    // Roboflow: `valid`, annotations among the images.
    for split in ["valid", "val"] {
        check_square(&open("N02layout", split, "auto").unwrap(), 3);
    }
    check_square(&open("N02layout", "train", "auto").unwrap(), 6);
    // COCO 2017, by the part, its year, and the file.
    for split in ["train", "train2017", "instances_train2017", "instances_train2017.json"] {
        check_square(&open("N24", split, "auto").unwrap(), 6);
    }
    check_square(&open("N24", "val", "coco").unwrap(), 3);
    // CVAT.
    for split in ["train", "instances_train"] {
        check_square(&open("N24cvat", split, "auto").unwrap(), 6);
    }
    // Label Studio and FiftyOne: one part, with names of the server.
    for (file, folder, prefix) in [
        ("result.json", "images", "images\\\\"),
        ("result.json", "images", "../../label-studio/data/media/upload/1/"),
        ("labels.json", "data", ""),
    ] {
        let root = tempfile::tempdir().unwrap();
        copy_all(&case("N00/train"), &root.path().join(folder));
        let told = fs::read_to_string(case("N00/annotations/train.json")).unwrap();
        let told = told.replace("\"file_name\": \"", &format!("\"file_name\": \"{prefix}"));
        fs::write(root.path().join(file), told).unwrap();
        for split in [".", file] {
            check_square(&open_at(root.path(), split, "auto", &Default::default()).unwrap(), 6);
        }
    }
    // Its YOLO export: one part.
    let root = tempfile::tempdir().unwrap();
    copy_all(&case("N10label/images/train"), &root.path().join("images"));
    copy_all(&case("N10label/labels/train"), &root.path().join("labels"));
    fs::write(root.path().join("classes.txt"), "person\ncar\n").unwrap();
    assert_eq!(open_at(root.path(), ".", "auto", &Default::default()).unwrap().len(), 6);
    // Two years are not guessed between.
    let folder = copy("N24");
    let annotations = folder.path().join("annotations");
    fs::copy(
        annotations.join("instances_train2017.json"),
        annotations.join("instances_train2014.json"),
    )
    .unwrap();
    assert_eq!(
        text(train(&folder), &folder),
        "ROOT/annotations: expected one file of `train`, found instances_train2014.json and \
         instances_train2017.json: name the part by one of them"
    );
    check_square(&open_at(folder.path(), "train2017", "auto", &Default::default()).unwrap(), 6);
    // Images in folders below, and files of upper-case extensions.
    let folder = copy("N00");
    let train_folder = folder.path().join("train");
    fs::create_dir_all(train_folder.join("site a/cam")).unwrap();
    fs::rename(train_folder.join("im000.png"), train_folder.join("site a/cam/im000.PNG")).unwrap();
    check_square(&train(&folder).unwrap(), 6);
    let path = folder.path().join("annotations/train.json");
    let told = fs::read_to_string(&path).unwrap().replace("im000.png", "site%20a/cam/im000.png");
    fs::write(&path, told).unwrap();
    check_square(&train(&folder).unwrap(), 6);
}

#[test]
fn yolo_files_of_other_tools_are_read() {
    // A byte order mark.
    for split in ["train", "val"] {
        let set = open("N10label", split, "yolo").unwrap();
        let [x1, y1, x2, y2] = boxes(&set)[0][0];
        assert!([x1 - 30.0, y1 - 20.0, x2 - 54.0, y2 - 44.0].iter().all(|d| d.abs() < 1e-9));
        assert_eq!(set.left_out(), &LeftOut::default());
    }
    // An outline beside a box.
    let set = open("N12", "train", "auto").unwrap();
    assert_eq!((names(&set), boxes(&set)[0].len()), (vec!["person", "car"], 2));
    assert_eq!(boxes(&set)[0][0], [30.0, 20.0, 54.0, 44.0]);
    let [x1, y1, x2, y2] = boxes(&set)[0][1];
    assert!([x1 - 12.0, y1 - 9.6, x2 - 20.0, y2 - 16.0].iter().all(|d| d.abs() < 1e-9));
    // Names in `data.yaml`, as a list in Roboflow's layout, and by number.
    for (name, format) in [("N13", "auto"), ("N13b", "yolo"), ("N13", "yolo")] {
        for (split, images) in [("train", 6), ("val", 3)] {
            let set = open(name, split, format).unwrap();
            assert_eq!((names(&set), set.len()), (vec!["person", "car"], images), "{name}");
            assert_eq!(
                (boxes(&set).concat().len(), classes(&set)[..2].to_vec()),
                (images, vec![0, 1])
            );
        }
    }
}

/// Case N10label with other text in the first file, and other names.
fn yolo(line: &str, classes: &str) -> TempDir {
    let folder = copy("N10label");
    fs::write(folder.path().join("labels/train/im000.txt"), line).unwrap();
    fs::write(folder.path().join("classes.txt"), classes).unwrap();
    folder
}

#[test]
fn other_lines_of_yolo_are_read() {
    for line in [
        "1 0.525 0.5 0.3 0.375",
        "1.0\t0.525\t0.5\t0.3\t0.375\r\n",
        "1, 0.525, 0.5, 0.3, 0.375 ",
        "\u{feff}# class x y w h\n1 0.525 0.5 0.3 0.375\n\n",
        "car 0.525 0.5 0.3 0.375",
        "1 0.525 0.5 0.3 0.375 0.97",
        "1 0.375 0.3125 0.675 0.3125 0.675 0.6875 0.375 0.6875",
    ] {
        let folder = yolo(line, "\u{feff}person\r\ncar \r\n");
        let set = train(&folder).unwrap_or_else(|error| panic!("{line}: {error}"));
        let [x1, y1, x2, y2] = boxes(&set)[0][0];
        let off = [x1 - 30.0, y1 - 20.0, x2 - 54.0, y2 - 44.0];
        assert!(off.iter().all(|d| d.abs() < 1e-9), "{line}");
        assert_eq!((names(&set), classes(&set)[0]), (vec!["person", "car"], 1), "{line}");
    }
    for line in ["5 0.5 0.5 0.1 0.1", "0 0.5 0.5", "0 a b c d", "0 30 20 24 24", "0 0.5 0.5 0 0.1"]
    {
        let folder = yolo(line, "person\ncar");
        let set = train(&folder).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!((set.len(), set.left_out().faulty), (6, 1), "{line}");
        let strict = DetectionOptions { max_faulty: 0.0, ..Default::default() };
        let refused = text(open_at(folder.path(), "train", "auto", &strict), &folder);
        assert!(refused.starts_with("ROOT/labels/train/im000.txt:1: "), "{refused}");
    }
    // Two classes of one name.
    let folder = yolo("1 0.5 0.5 0.1 0.1", "thing\nthing\n");
    assert_eq!(names(&train(&folder).unwrap()), ["thing", "thing (1)"]);
}

#[test]
fn layouts_of_yolo_are_found() {
    let as_is = |set: DetectionSet| (names(&set).join(","), set.len(), classes(&set).len());
    let expected = || ("person,car".to_string(), 6, 6);
    // Darknet and CVAT: a list, labels beside the images, `obj.names`.
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("obj_train_data");
    copy_all(&case("N10label/images/train"), &data);
    copy_all(&case("N10label/labels/train"), &data);
    fs::write(folder.path().join("obj.names"), "person\ncar\n").unwrap();
    let lines: String = (0..6).map(|i| format!("data/obj_train_data/im00{i}.png\n")).collect();
    fs::write(folder.path().join("train.txt"), lines).unwrap();
    assert_eq!(as_is(train(&folder).unwrap()), expected());
    // `data.yaml` with a path, a list of folders, and a list of images.
    for (train_at, name) in [
        ("images/train", "data.yaml"),
        ("[images/train]", "my set.yml"),
        ("train.txt", "dataset.yaml"),
    ] {
        let folder = copy("N10label");
        fs::remove_file(folder.path().join("classes.txt")).unwrap();
        let lines: String = (0..6).map(|i| format!("./images/train/im00{i}.png\n")).collect();
        fs::write(folder.path().join("train.txt"), lines).unwrap();
        let text =
            format!("path: ../datasets/x\ntrain: {train_at}\nnames:\n  0: person\n  1: car\n");
        fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(as_is(train(&folder).unwrap()), expected(), "{train_at}");
    }
    // No names at all: the message says where they may stand; names that are given count.
    let folder = copy("N10label");
    fs::remove_file(folder.path().join("classes.txt")).unwrap();
    let refused = text(train(&folder), &folder);
    assert!(
        refused.starts_with("ROOT/labels/train/classes.txt: expected the names of the classes, one a line, found no such file"),
        "{refused}"
    );
    assert!(refused.contains("ROOT/labels") && refused.contains("data.yaml"), "{refused}");
    let select = Some(vec!["person".to_string(), "car".to_string()]);
    let options = DetectionOptions { select, ..Default::default() };
    assert_eq!(as_is(open_at(folder.path(), "train", "auto", &options).unwrap()), expected());
}

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
fn sizes_are_taken_from_the_image() {
    for name in ["N14base", "N14none", "N14zero"] {
        check_square(&open(name, "train", "voc").unwrap(), 6);
        check_square(&open(name, "val", "auto").unwrap(), 3);
    }
    let folder = copy("N14base");
    let path = folder.path().join("Annotations/train000.xml");
    let text =
        fs::read_to_string(&path).unwrap().replace(">80<", ">80.0<").replace(">64<", "> 64 <");
    fs::write(&path, text).unwrap();
    check_square(&train(&folder).unwrap(), 6);
}

#[test]
fn difficult_objects_are_marked() {
    let set = open("N15", "train", "voc").unwrap();
    for image in labels(&set) {
        let marked: Vec<(bool, bool)> =
            image.objects.iter().map(|object| (object.difficult, object.crowd)).collect();
        assert_eq!(marked, [(false, false), (true, false)]);
    }
    let folder = coco(|text| text.replacen("\"iscrowd\": 0", "\"iscrowd\": 0, \"ignore\": 1", 1));
    let set = train(&folder).unwrap();
    let of = |index: usize| set.info(index).unwrap().objects[0].difficult;
    assert_eq!((of(0), of(1)), (true, false));
}

#[test]
fn xml_is_read_in_its_encoding() {
    for name in ["N16gbk", "N16latin1", "N16utf16", "N16dtd"] {
        let set = open(name, "train", "voc").unwrap_or_else(|error| panic!("{name}: {error}"));
        check_square(&set, 6);
    }
    let sound = fs::read_to_string(case("N14base/Annotations/train000.xml")).unwrap();
    let with = |bytes: Vec<u8>| {
        let folder = copy("N14base");
        fs::write(folder.path().join("Annotations/train000.xml"), bytes).unwrap();
        folder
    };
    let utf16 =
        |units: String| units.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    let named = |name: &str| sound.replace("<name>person", &format!("<name>{name}"));
    for (bytes, class) in [
        (format!("\u{feff}{sound}").into_bytes(), "person"),
        (utf16(format!("\u{feff}{}", named("人"))), "人"),
        ([b"<?xml version='1.0' encoding='windows-1252'?>", named("").as_bytes()].concat(), ""),
        (format!("<?xml version=\"1.0\" encoding=\"utf-16\"?>{sound}").into_bytes(), "person"),
        (sound.replace("<annotation>", "<annotation xmlns=\"http://a/b\">").into_bytes(), "person"),
        (sound.replace('>', ">\r\n").into_bytes(), "person"),
    ] {
        let folder = with(bytes);
        let set = train(&folder).unwrap();
        match class {
            // An object without a name is one fault.
            "" => assert_eq!(set.left_out().faulty, 1),
            class => assert!(names(&set).contains(&class), "{class}: {:?}", names(&set)),
        }
    }
    // What would take the parser long, and what is no XML, are faults of one file.
    let attributes: String = (0..60_000).map(|i| format!(" a{i}=''")).collect();
    for bytes in [format!("<annotation{attributes}/>"), "<annotation>".into(), String::new()] {
        let folder = with(bytes.into_bytes());
        let start = std::time::Instant::now();
        let set = train(&folder).unwrap();
        assert_eq!((set.len(), set.left_out().images), (5, 1));
        assert!(start.elapsed().as_secs() < 5);
    }
}

#[test]
fn layouts_and_shapes_of_voc_are_found() {
    // VOC's own: lists, with and without what a list of one class says.
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    copy_all(&case("N14base/Annotations"), &root.join("Annotations"));
    copy_all(&case("N14base/images/train"), &root.join("JPEGImages"));
    copy_all(&case("N14base/images/val"), &root.join("JPEGImages"));
    fs::create_dir_all(root.join("ImageSets/Main")).unwrap();
    let list = |split: &str, lines: &str| {
        fs::write(root.join(format!("ImageSets/Main/{split}.txt")), lines).unwrap();
    };
    list("train", "train000\r\ntrain002  1\ntrain004 -1\n");
    list("val", "val001\n");
    check_square(&train(&folder).unwrap(), 3);
    check_square(&open_at(root, "val", "voc", &Default::default()).unwrap(), 1);
    list("train", "train000\nnone\ntrain001\n");
    assert_eq!(train(&folder).unwrap().len(), 2);
    // Roboflow's: files beside the images.
    let folder = tempfile::tempdir().unwrap();
    for (split, part) in [("train", "train"), ("val", "valid")] {
        copy_all(&case(&format!("N14base/images/{split}")), &folder.path().join(part));
        for entry in fs::read_dir(folder.path().join(part)).unwrap() {
            let xml = entry.unwrap().path().with_extension("xml");
            fs::copy(case("N14base/Annotations").join(xml.file_name().unwrap()), xml).unwrap();
        }
    }
    check_square(&train(&folder).unwrap(), 6);
    check_square(&open_at(folder.path(), "val", "auto", &Default::default()).unwrap(), 3);
    // Outlines and turned boxes: the box around them.
    let sound = fs::read_to_string(case("N14base/Annotations/train000.xml")).unwrap();
    let start = sound.find("<bndbox>").unwrap();
    let end = sound.find("</bndbox>").unwrap() + "</bndbox>".len();
    for (shape, expected) in [
        (
            "<polygon><x1>31</x1><y1>21</y1><x2>54</x2><y2>21</y2><x3>40</x3><y3>44</y3></polygon>",
            Some(SQUARE),
        ),
        (
            "<robndbox><cx>42</cx><cy>32</cy><w>20</w><h>10</h><angle>1.5707963267948966</angle></robndbox>",
            Some([37.0, 22.0, 47.0, 42.0]),
        ),
        ("<bndbox><xmin>54</xmin><ymin>21</ymin><xmax>31</xmax><ymax>44</ymax></bndbox>", None),
        ("", None),
    ] {
        let folder = copy("N14base");
        let told = format!("{}{shape}{}", &sound[..start], &sound[end..]);
        fs::write(folder.path().join("Annotations/train000.xml"), told).unwrap();
        let set = train(&folder).unwrap();
        match expected {
            Some(expected) => {
                let found = boxes(&set)[0][0];
                let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
                assert!(off.into_iter().all(|off| off < 1e-9), "{shape}");
            }
            None => assert_eq!((boxes(&set)[0].len(), set.left_out().faulty), (0, 1), "{shape}"),
        }
    }
}

#[test]
fn cvat_xml_is_read() {
    let folder = tempfile::tempdir().unwrap();
    copy_all(&case("N00/train"), &folder.path().join("images/train"));
    copy_all(&case("N00/val"), &folder.path().join("images/val"));
    let square = "<box label=\"person\" occluded=\"0\" xtl=\"30.00\" ytl=\"20.00\" xbr=\"54.00\" ybr=\"44.00\"/>";
    let outline =
        "<polygon label=\"car\" points=\"30.00,20.00;54.00,20.00;54.00,44.00\" z_order=\"0\"/>";
    let turned =
        "<box label=\"car\" xtl=\"32\" ytl=\"27\" xbr=\"52\" ybr=\"37\" rotation=\"90.0\"/>";
    let points = "<points label=\"car\" points=\"1,1\"/><tag label=\"hot\"/>";
    let image = |id: usize, name: &str, part: &str, shapes: &str| {
        format!(
            "<image id=\"{id}\" name=\"{name}\" subset=\"{part}\" width=\"80\" height=\"64\">{shapes}</image>"
        )
    };
    let write = |images: String| {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><annotations><version>1.1</version>{images}</annotations>"
        );
        fs::write(folder.path().join("annotations.xml"), text).unwrap();
    };
    let train_images = image(0, "im000.png", "Train", square)
        + &image(1, "im001.png", "Train", outline)
        + &image(2, "im002.png", "Train", turned)
        + &image(3, "im003.png", "Train", points);
    write(train_images.clone() + &image(4, "im000.png", "Validation", square));
    let set = train(&folder).unwrap();
    assert_eq!(names(&set), ["car", "person"]);
    let found = boxes(&set);
    assert_eq!(found[..2], [vec![SQUARE], vec![SQUARE]]);
    let off = found[2][0].iter().zip([37.0, 22.0, 47.0, 42.0]).map(|(a, b)| (a - b).abs());
    assert!(off.into_iter().all(|off| off < 1e-9));
    assert!(found[3].is_empty());
    check_square(&open_at(folder.path(), "val", "cvat", &Default::default()).unwrap(), 1);
    let none = text(open_at(folder.path(), "test", "cvat", &Default::default()), &folder);
    assert_eq!(
        none,
        "ROOT/annotations.xml: expected images of the subset `test`, found subsets Train, Validation (name the part \
         `annotations.xml` for all)"
    );
    // One bad shape, one missing image.
    write(
        train_images
            + &image(5, "im009.png", "Train", square)
            + &image(
                6,
                "im004.png",
                "Train",
                "<box label=\"car\" xtl=\"x\" ytl=\"0\" xbr=\"1\" ybr=\"1\"/>",
            ),
    );
    let set = train(&folder).unwrap();
    assert_eq!((set.len(), set.left_out().images, set.left_out().faulty), (5, 1, 1));
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

#[test]
fn objects_say_what_they_are() {
    let set = open("N00", "train", "auto").unwrap();
    let expected = Object {
        bbox: SQUARE,
        class: 0,
        area: 576.0,
        crowd: false,
        difficult: false,
        id: 1,
        mask: None,
    };
    assert_eq!(set.info(0).unwrap().objects, [expected]);
    assert_eq!(BoxClasses::hit_uav().ignored, ["DontCare"]);
}
