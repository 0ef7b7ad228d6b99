//! COCO files.

use std::fs;

use pad_data::{
    Dataset, Error,
    image::DecodeOptions,
    sets::detection::{BadBoxes, BoxClasses, DetectionOptions, DetectionSet, LeftOut, Object},
};
use tempfile::TempDir;

use super::support::{
    SQUARE, boxes, case, check_square, classes, coco, copy, copy_all, labels, names, open, open_at,
    replaced, text, train,
};

#[test]
fn a_sound_set_is_read() {
    let set = open("N00", "train", "auto").unwrap();
    check_square(&set, 6);
    assert_eq!((names(&set), classes(&set)), (vec!["person", "car"], vec![0, 1, 0, 1, 0, 1]));
    assert_eq!(set.left_out(), &LeftOut::default());
}

#[test]
fn values_count_by_their_meaning() {
    for name in ["N04bool", "N04null", "N05id", "N05size", "N10json", "N03"] {
        let set = open(name, "train", "auto").unwrap_or_else(|error| panic!("{name}: {error}"));
        check_square(&set, 6);
        assert_eq!(classes(&set), [0, 1, 0, 1, 0, 1], "{name}");
        assert!(labels(&set).iter().all(|image| image.objects.iter().all(|one| !one.crowd)));
    }
    // Images that are called by texts are numbered in the order of the file; results have the texts.
    let images = labels(&open("N03", "train", "auto").unwrap());
    let ids: Vec<i64> = images.iter().map(|image| image.id).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    let texts: Vec<String> = images.iter().map(|image| image.coco_id().to_string()).collect();
    assert_eq!(texts, ["im000", "im001", "im002", "im003", "im004", "im005"]);
}

/// Case N00 with other ids of its images, and other names of them in the annotations.
fn with_ids(id: impl Fn(usize) -> String, by: impl Fn(usize) -> String) -> TempDir {
    coco(|text| {
        (1..=6).fold(text, |text, place| {
            let listed = format!("{{\"id\": {place}, \"file_name\"");
            let named = format!("\"image_id\": {place},");
            assert!(text.contains(&listed) && text.contains(&named), "{place}");
            let text = text.replace(&listed, &format!("{{\"id\": {}, \"file_name\"", id(place)));
            text.replace(&named, &format!("\"image_id\": {},", by(place)))
        })
    })
}

#[test]
fn ids_of_digits_are_kept_as_they_are() {
    let texts = |set: &DetectionSet| -> Vec<String> {
        labels(set).iter().map(|image| image.coco_id().to_string()).collect()
    };
    let long = |place: usize| format!("\"{place:06}\"");
    let quoted = |place: usize| format!("\"{place}\"");
    let number = |place: usize| place.to_string();
    type Spelling<'a> = &'a dyn Fn(usize) -> String;
    let all: [(Spelling<'_>, Spelling<'_>, &str); 7] = [
        (&long, &long, "00000"),
        (&long, &number, "00000"),
        (&long, &quoted, "00000"),
        (&number, &long, ""),
        (&number, &quoted, ""),
        (&quoted, &number, ""),
        (&quoted, &long, ""),
    ];
    for (id, by, start) in all {
        let folder = with_ids(id, by);
        let set = train(&folder).unwrap();
        check_square(&set, 6);
        assert_eq!(classes(&set), [0, 1, 0, 1, 0, 1]);
        let expected: Vec<String> = (1..=6).map(|place| format!("{start}{place}")).collect();
        assert_eq!(texts(&set), expected);
        let ids: Vec<i64> = labels(&set).iter().map(|image| image.id).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    }
    // Ids that mean one number are different all the same.
    for (first, second, expected) in [
        ("\"01\"", "\"1\"", ["1", "3", "4", "5", "6", "01"]),
        ("\"1e1\"", "\"10\"", ["3", "4", "5", "6", "10", "1e1"]),
        ("\"1.0\"", "1", ["1", "3", "4", "5", "6", "1.0"]),
    ] {
        let of = |place: usize| match place {
            1 => first.to_string(),
            2 => second.to_string(),
            _ => place.to_string(),
        };
        let folder = with_ids(of, of);
        let set = train(&folder).unwrap();
        check_square(&set, 6);
        assert_eq!(texts(&set), expected);
        // The image of the first id is `im000.png`, and its object a person.
        assert_eq!((set.info(5).unwrap().name.as_str(), classes(&set)[5]), ("im000.png", 0));
    }
    // A number that two of them mean is neither.
    let of = |place: usize| match place {
        1 => "\"01\"".to_string(),
        2 => "\"001\"".to_string(),
        _ => place.to_string(),
    };
    let by = |place: usize| if place == 1 { "1".to_string() } else { of(place) };
    let set = train(&with_ids(of, by)).unwrap();
    assert_eq!((boxes(&set).concat().len(), set.left_out().faulty), (5, 1));
    // Categories, whose results have numbers.
    let folder = replaced("{\"id\": 1, \"name\"", "{\"id\": \"01\", \"name\"");
    let set = train(&folder).unwrap();
    check_square(&set, 6);
    assert_eq!((classes(&set), set.classes().id(0)), (vec![0, 1, 0, 1, 0, 1], Some(1)));
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
        ("[30, 20, 24, 24]", "{\"height\": 24, \"width\": 24, \"y\": 20, \"x\": 30}"),
        ("[30, 20, 24, 24]", "{\"top\": 20, \"h\": 24, \"left\": \"30\", \"w\": 24.0}"),
        ("[30, 20, 24, 24]", "{\"ymax\": 44, \"ymin\": 20, \"xmax\": 54, \"xmin\": 30}"),
        ("[30, 20, 24, 24]", "{\"x1\": 30, \"y1\": 20, \"x2\": 54, \"y2\": 44}"),
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
        (".png\"", ".png?token=1&size=2\""),
        ("\"file_name\": \"im000.png", "\"file_name\": \"https://host/train/im000.png?v=1#top"),
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
    // Names that do not say what is what, in whichever order: a box is not guessed.
    for named in ["{\"cx\": 30, \"cy\": 20, \"w\": 24, \"h\": 24}", "{\"x\": 30, \"y\": 20}"] {
        let alone = |text: String| text.replace("\"segmentation\"", "\"none\"");
        let folder = coco(|text| alone(text).replacen("[30, 20, 24, 24]", named, 1));
        let set = train(&folder).unwrap();
        assert_eq!((boxes(&set).concat().len(), set.left_out().faulty), (5, 1), "{named}");
        let strict = DetectionOptions { max_faulty: 0.0, ..options.clone() };
        let refused = text(open_at(folder.path(), "train", "auto", &strict), &folder);
        assert!(
            refused.ends_with("annotation 1 (image 1, im000.png): expected a box, found none"),
            "{refused}"
        );
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

#[test]
fn shares_in_place_of_pixels_are_noticed() {
    let folder = replaced("[30, 20, 24, 24]", "[0.375, 0.3125, 0.3, 0.375]");
    let expected = "ROOT: expected boxes in the units of the format, found all 6 within the first pixel of their images \
                    (shares of the sides in place of pixels?)";
    assert_eq!(text(train(&folder), &folder), expected);
    // One such box among others is not told apart from a small object.
    let folder = coco(|text| text.replacen("[30, 20, 24, 24]", "[0.375, 0.3125, 0.3, 0.375]", 1));
    assert_eq!(boxes(&train(&folder).unwrap())[1], [SQUARE]);
}
