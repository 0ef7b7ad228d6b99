//! COCO's files, good and bad; each error's text.

use std::fs;

use serde_json::{Value, json};

use super::fixtures::{annotations, coco, pictures, refused, strict, write};
use crate::{
    Error,
    dataset::{Dataset, Subset},
    sets::detection::*,
};

#[test]
fn coco_files_are_read() {
    let folder = pictures();
    let images = folder.path().join("images");
    let set =
        DetectionSet::coco(write(&folder, &annotations()), &images, &Default::default()).unwrap();
    // Classes and images in the order of their numbers.
    let classes = set.classes();
    assert_eq!(classes.list(), "person, car, dog");
    assert_eq!([0, 1, 2, 3].map(|class| classes.id(class)), [Some(2), Some(7), Some(9), None]);
    let ids: Vec<i64> = (0..set.len()).map(|index| set.info(index).unwrap().id).collect();
    assert_eq!(ids, [12, 40, 907]);
    // `b` has no box and stays; its size is that of the file.
    let empty = set.info(1).unwrap();
    assert_eq!((empty.name.as_str(), empty.size), ("b.png", ImageSize::new(40, 60)));
    assert!(empty.objects.is_empty());
    let full = set.info(2).unwrap();
    let full = &full.objects;
    let expected = Object {
        bbox: [5.0, 10.0, 35.0, 30.0],
        class: 1,
        area: 321.5,
        crowd: false,
        difficult: false,
        id: 5,
        mask: None,
    };
    assert_eq!(full[0], expected);
    assert!(full[1].crowd);
    // Without an area, the box's.
    assert_eq!(full[1].area, 59.5 * 40.0);
    assert_eq!(set.left_out(), &LeftOut::default());
    let image = set.get(2, &Default::default()).unwrap().image;
    assert_eq!((image.size(), image.channels()), (ImageSize::new(40, 60), 1));
    assert_eq!(
        set.get(3, &Default::default()).unwrap_err().to_string(),
        "`index` is 3, expected below 3"
    );
    assert_eq!(Subset::all(set).first(1).len(), 1);
}

#[test]
fn categories_go_to_classes() {
    let classes = BoxClasses::new(vec![BoxClass::new("Person", 1)], Others::LeaveOut).unwrap();
    let options = DetectionOptions { classes: Some(classes.clone()), ..Default::default() };
    let set = coco(&annotations(), &options).unwrap();
    let objects: Vec<usize> = (0..3).map(|index| set.info(index).unwrap().objects.len()).collect();
    assert_eq!(objects, [0, 0, 1]);
    let left_out = &set.left_out().categories;
    assert_eq!((left_out["car"], left_out["dog"], left_out.len()), (1, 1, 2));
    let mut strict = classes;
    strict.others = Others::Refuse;
    let options = DetectionOptions { classes: Some(strict), ..Default::default() };
    let refused = coco(&annotations(), &options).unwrap_err().to_string();
    assert!(
        refused.ends_with(
            "train.json: annotation 5: expected one of the classes Person, found category 7 (`car`)"
        ),
        "{refused}"
    );
}

#[test]
fn selected_classes_keep_the_numbers_of_the_file() {
    let select = |names: &[&str]| {
        let select = Some(names.iter().map(ToString::to_string).collect());
        coco(&annotations(), &DetectionOptions { select, ..Default::default() })
    };
    let set = select(&["Dog", "person"]).unwrap();
    assert_eq!(set.classes().list(), "Dog, person");
    assert_eq!([0, 1].map(|class| set.classes().id(class)), [Some(9), Some(2)]);
    assert_eq!(set.left_out().categories["car"], 1);
    assert_eq!(
        select(&["persn"]).unwrap_err().to_string(),
        "class: expected person, car or dog, found `persn` (did you mean `person`?)"
    );
    assert!(matches!(select(&["tree"]).unwrap_err(), Error::ClassNotFound { .. }));
    // A format's own names count beside those of the file.
    let found =
        BoxClasses::new(vec![BoxClass::new("bike", 7), BoxClass::new("dog", 18)], Others::Refuse);
    let found = found.unwrap().with_names_of(&BoxClasses::flir());
    let selected = found.select(&["bicycle", "dog"]).unwrap();
    assert_eq!((selected.id(0), selected.name(0), selected.id(1)), (Some(7), "bicycle", Some(18)));
    assert_eq!(selected.by_name("bike"), Some(0));
}

#[test]
fn bad_coco_files_are_refused() {
    let with = |pointer: &str, value: Value| {
        let mut changed = annotations();
        *changed.pointer_mut(pointer).unwrap() = value;
        refused(&changed)
    };
    let outside = with("/annotations/0/bbox", json!([50, 10, 30, 20]));
    assert_eq!(
        outside,
        "ROOT/train.json: annotation 5 (image 907, c.png): box [50.0, 10.0, 30.0, 20.0]: expected to be inside the \
         image of 40x60, found its right edge at 80"
    );
    assert_eq!(
        with("/annotations/0/bbox", json!([5, 10, 0, 20])),
        "ROOT/train.json: annotation 5 (image 907, c.png): box [5.0, 10.0, 0.0, 20.0]: expected a width and height \
         above 0, found 0 x 20"
    );
    assert_eq!(
        with("/annotations/0/area", json!(-1.0)),
        "ROOT/train.json: annotation 5 (image 907, c.png): box [5.0, 10.0, 30.0, 20.0]: expected an area of at least \
         0, found -1"
    );
    assert_eq!(
        with("/annotations/0/category_id", json!(8)),
        "ROOT/train.json: annotation 5: expected a category of the file, found 8"
    );
    assert_eq!(
        with("/annotations/2/image_id", json!(8)),
        "ROOT/train.json: annotation 1: expected an image of the file, found 8"
    );
    assert_eq!(
        with("/images/2/id", json!(907)),
        "ROOT/train.json: image 907: expected once, found again"
    );
    assert_eq!(
        with("/categories/1/id", json!(9)),
        "ROOT/train.json: category 9: expected once, found again"
    );
    assert_eq!(
        with("/images/1/file_name", json!("no.png")),
        "ROOT/train.json: image 12: expected the file ROOT/images/no.png, found none"
    );
    assert_eq!(with("/images", json!([])), "ROOT/train.json: expected images, found none");
    assert_eq!(
        with("/annotations/0/bbox", json!([1, 2, 3])),
        "ROOT/train.json: annotation 5 (image 907, c.png): box: expected 4 numbers, found 3"
    );
}

#[test]
fn annotations_of_one_number_are_numbered_anew() {
    let mut changed = annotations();
    changed["annotations"][2]["id"] = json!(5);
    changed["annotations"][1]["id"] = Value::Null;
    let set = coco(&changed, &strict()).unwrap();
    let mut ids: Vec<i64> = (0..3)
        .flat_map(|index| {
            set.info(index).unwrap().objects.iter().map(|one| one.id).collect::<Vec<_>>()
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [5, 6, 7]);
}

#[test]
fn masks_are_read_where_they_are_requested() {
    let mut told = annotations();
    told["annotations"][0]["segmentation"] = json!([[5, 10, 35, 10, 35, 30, 5, 30]]);
    told["annotations"][1]["segmentation"] = json!({"size": [40, 60], "counts": [20, 100, 2280]});
    told["annotations"][2]["segmentation"] = json!([[1, 2, 4, 2, 4, 6, 1, 6], [1, 2, 2, 2, 2, 3]]);
    let masks = DetectionOptions { masks: true, ..strict() };
    let set = coco(&told, &masks).unwrap();
    let labels = set.info(2).unwrap();
    let [first, crowd] = &labels.objects[..] else { panic!("two objects") };
    let mask = first.mask.as_ref().unwrap();
    let expected = crate::rect::Rect { top: 10, left: 5, height: 20, width: 30 };
    assert_eq!((mask.area(), mask.bounds()), (600, Some(expected)));
    assert_eq!(crowd.mask.as_ref().unwrap().area(), 100);
    assert_eq!(set.info(0).unwrap().objects[0].mask.as_ref().unwrap().area(), 12);
    // Not requested, they may be anything.
    told["annotations"][2]["segmentation"] = json!("none");
    let set = coco(&told, &Default::default()).unwrap();
    assert!(set.info(2).unwrap().objects.iter().all(|object| object.mask.is_none()));
    for (value, expected) in [
        (Value::Null, "expected a segmentation, since masks are requested, found none"),
        (json!([]), "segmentation: expected at least one pixel, found none"),
        (
            json!([[1, 2, 3]]),
            "segmentation: `polygon` is 3 coordinates, expected an even number of at least 6",
        ),
        (
            json!({"size": [40, 61], "counts": [2440]}),
            "segmentation: `mask` is 40x61, expected a mask of the image's 40x60",
        ),
        (
            json!({"size": [40, 60], "counts": "44"}),
            "segmentation: `mask` is a sum of 8, expected runs that add up to the pixels of 40x60",
        ),
    ] {
        let mut bad = told.clone();
        bad["annotations"][0]["segmentation"] = value;
        let refused = coco(&bad, &masks).unwrap_err().to_string();
        let place = "annotation 5 (image 907, c.png): box [5.0, 10.0, 30.0, 20.0]: ";
        assert!(refused.ends_with(&format!("{place}{expected}")), "{refused}");
    }
    let folder = pictures();
    let refused = DetectionSet::voc(folder.path(), folder.path(), &masks).unwrap_err().to_string();
    let expected = "`masks` is requested of VOC files, expected a COCO file, the only format with the pixels of objects";
    assert_eq!(refused, expected);
}

#[test]
fn every_prefix_of_a_coco_file_is_refused() {
    let folder = pictures();
    let path = folder.path().join("train.json");
    let text = annotations().to_string();
    let open = || DetectionSet::coco(&path, folder.path().join("images"), &Default::default());
    for length in (0..text.len()).step_by(7) {
        fs::write(&path, &text[..length]).unwrap();
        let refused = open().unwrap_err().to_string();
        assert!(refused.contains("train.json: expected COCO annotations: EOF while"), "{refused}");
    }
    // As Python writes what is no number: without an area, the box's.
    fs::write(&path, text.replace("321.5", "NaN")).unwrap();
    assert_eq!(open().unwrap().info(2).unwrap().objects[0].area, 600.0);
    fs::write(&path, text.replace("321.5", "1e999")).unwrap();
    assert!(open().unwrap_err().to_string().contains("number out of range"));
    fs::remove_file(&path).unwrap();
    assert!(open().unwrap_err().to_string().contains("train.json: No such file"));
}

#[test]
fn repaired_boxes_are_cut_and_counted() {
    let mut changed = annotations();
    changed["annotations"][0]["bbox"] = json!([50, 10, 30, 20]);
    changed["annotations"][2]["bbox"] = json!([1, 2, 0, 4]);
    let options = DetectionOptions { bad_boxes: BadBoxes::Repair, ..Default::default() };
    let set = coco(&changed, &options).unwrap();
    assert_eq!(set.info(2).unwrap().objects[0].bbox, [50.0, 10.0, 60.0, 30.0]);
    assert!(set.info(0).unwrap().objects.is_empty());
    assert_eq!(set.left_out(), &LeftOut { cut: 1, without_area: 1, ..Default::default() });
}

#[test]
fn images_of_another_size_are_refused() {
    let mut changed = annotations();
    changed["images"][1]["width"] = json!(61);
    let folder = pictures();
    let path = write(&folder, &changed);
    let set = DetectionSet::coco(path, folder.path().join("images"), &Default::default()).unwrap();
    let refused = set.get(0, &Default::default()).unwrap_err().to_string();
    assert!(
        refused.ends_with("a.png: expected an image of 40x61 by its annotations, found 40x60"),
        "{refused}"
    );
}
