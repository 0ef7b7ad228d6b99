//! Files of every format, good and bad; each error's text.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    Error, Result,
    dataset::{Dataset, Subset},
    draw::Canvas,
    image::Pixels,
    loader::{DetectionBatch, Loader, LoaderConfig},
    scenes::{SceneConfig, Size},
    transform::detection::{DetectionPipeline, DetectionTargets, batch_of},
};

/// A folder with pictures of 40 x 60 (`a.png`, `b.png`, `c.png`).
fn pictures() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, level) in [("a", 10), ("b", 100), ("c", 200)] {
        picture(&folder.path().join(format!("images/{name}.png")), level);
    }
    folder
}

fn picture(path: &Path, level: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut canvas = Canvas::new(ImageSize::new(40, 60), [level; 3]);
    canvas.paste(&Canvas::new(ImageSize::new(20, 30), [255 - level; 3]), 10, 5);
    canvas.save_png(path).unwrap();
}

/// COCO annotations whose numbers are in no order and have gaps.
fn annotations() -> Value {
    json!({
        "info": {"year": 2020},
        "images": [
            {"id": 907, "file_name": "c.png", "width": 60, "height": 40, "extra": [1]},
            {"id": 12, "file_name": "a.png", "width": 60, "height": 40},
            {"id": 40, "file_name": "b.png"},
        ],
        "categories": [
            {"id": 7, "name": "car", "supercategory": "vehicle"},
            {"id": 2, "name": "person"},
            {"id": 9, "name": "dog"},
        ],
        "annotations": [
            {"id": 5, "image_id": 907, "category_id": 7, "bbox": [5, 10, 30, 20], "area": 321.5},
            {"id": 3, "image_id": 907, "category_id": 2, "bbox": [0.5, 0, 59.5, 40], "iscrowd": 1},
            {"id": 1, "image_id": 12, "category_id": 9, "bbox": [1, 2, 3, 4]},
        ],
    })
}

fn write(folder: &TempDir, annotations: &Value) -> PathBuf {
    let path = folder.path().join("train.json");
    fs::write(&path, annotations.to_string()).unwrap();
    path
}

fn coco(annotations: &Value, options: &DetectionOptions) -> Result<DetectionSet> {
    let folder = pictures();
    DetectionSet::coco(write(&folder, annotations), folder.path().join("images"), options)
}

/// Nothing is tolerated.
fn strict() -> DetectionOptions {
    DetectionOptions { max_faulty: 0.0, ..Default::default() }
}

/// The text of the refusal, without the folder.
fn refused(annotations: &Value) -> String {
    let folder = pictures();
    let path = write(&folder, annotations);
    let refused = DetectionSet::coco(path, folder.path().join("images"), &strict());
    refused.unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "ROOT")
}

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

#[test]
fn layouts_of_flir_and_hit_uav_are_found() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    let file = |name: &str, categories: [(i64, &str); 3]| {
        let categories: Vec<Value> =
            categories.iter().map(|(id, name)| json!({"id": id, "name": name})).collect();
        json!({
            "images": [{"id": 0, "file_name": name, "width": 60, "height": 40}],
            "categories": categories,
            "annotations": [
                {"id": 0, "image_id": 0, "category_id": 2, "bbox": [5, 10, 30, 20]},
                {"id": 1, "image_id": 0, "category_id": 18, "bbox": [5, 10, 30, 20]},
            ],
        })
        .to_string()
    };
    // Version 1.
    picture(&at("train/thermal_8_bit/FLIR_00001.png"), 9);
    let first = file("thermal_8_bit/FLIR_00001.png", [(1, "person"), (2, "bicycle"), (18, "dog")]);
    fs::write(at("train/thermal_annotations.json"), first).unwrap();
    let check = |set: DetectionSet, left_out: &str| {
        assert_eq!(set.classes().list(), "person, bicycle, car");
        let labels = set.info(0).unwrap();
        let objects = &labels.objects;
        assert_eq!((objects.len(), objects[0].class, objects[0].id), (1, 1, 0));
        assert_eq!(set.left_out().categories[left_out], 1);
        assert!(set.get(0, &Default::default()).is_ok());
    };
    let open = |split: &str, format: &str| {
        DetectionSet::open(root.path(), split, format.parse().unwrap(), &Default::default())
    };
    check(open("train", "flir").unwrap(), "dog");
    // Version 2 goes before.
    picture(&at("images_thermal_train/data/video-1.png"), 9);
    let second = file("data/video-1.png", [(1, "person"), (2, "bike"), (18, "other vehicle")]);
    fs::write(at("images_thermal_train/coco.json"), second).unwrap();
    check(open("train", "flir").unwrap(), "other vehicle");
    let missing = open("val", "flir").unwrap_err().to_string();
    assert!(missing.contains("val/thermal_annotations.json: No such file"), "{missing}");

    // HIT-UAV, with its images in a folder of their own and without.
    fs::create_dir_all(at("annotations")).unwrap();
    let hit = file("h.png", [(1, "Person"), (2, "OtherVehicle"), (18, "DontCare")]);
    fs::write(at("annotations/val.json"), hit).unwrap();
    picture(&at("val/h.png"), 9);
    let set = open("val", "hit-uav").unwrap();
    let labels = set.info(0).unwrap();
    assert_eq!((labels.objects[0].class, set.classes().id(3)), (3, Some(2)));
    // Its region counts for every class.
    let crowds: Vec<bool> = labels.objects.iter().map(|object| object.crowd).collect();
    assert_eq!(crowds, [false, true, true, true, true]);
    fs::create_dir_all(at("val/images")).unwrap();
    fs::rename(at("val/h.png"), at("val/images/h.png")).unwrap();
    assert!(open("val", "hit-uav").is_ok());
}

#[test]
fn folders_are_known_by_their_look() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    let open = |format: &str| {
        let format = format.parse().unwrap();
        DetectionSet::open(root.path(), "train", format, &Default::default())
    };
    let unknown = open("auto").unwrap_err().to_string();
    assert!(
        unknown.contains(
            ": expected labelled images, found none of images_thermal_train/coco.json or \
             train/thermal_annotations.json (flir), infrared and Annotations (llvip), normal_json/annotations (hit-uav), \
             annotations/train.json, annotations/instances_train.json or train/_annotations.coco.json (coco), "
        ),
        "{unknown}"
    );
    assert_eq!(
        "coca".parse::<DetectionFormat>().unwrap_err().to_string(),
        "format: expected auto, flir, llvip, hit-uav, coco, cvat, voc or yolo, found `coca` (did you mean `coco`?)"
    );
    let named: DetectionFormat = serde_json::from_str("\"hit-uav\"").unwrap();
    assert_eq!(serde_json::to_string(&named).unwrap(), "\"hit-uav\"");
    assert_eq!(DetectionFormat::default().to_string(), "auto");
    // YOLO.
    picture(&at("images/train/a.png"), 9);
    fs::create_dir_all(at("labels/train")).unwrap();
    fs::write(at("labels/train/a.txt"), "0 0.5 0.5 0.5 0.5").unwrap();
    let unnamed = open("auto").unwrap_err().to_string();
    assert!(
        unnamed.contains("labels/train/classes.txt: expected the names of the classes"),
        "{unnamed}"
    );
    fs::write(at("classes.txt"), "person").unwrap();
    assert_eq!(open("auto").unwrap().info(0).unwrap().objects.len(), 1);
    // VOC goes before it, COCO before that, and LLVIP and FLIR first.
    fs::create_dir_all(at("Annotations")).unwrap();
    fs::write(at("Annotations/a.xml"), voc_file(&voc_object("van", ["1", "1", "9", "9"]))).unwrap();
    assert_eq!(open("auto").unwrap().classes().list(), "van");
    fs::create_dir_all(at("annotations")).unwrap();
    let file = json!({
        "images": [{"id": 4, "file_name": "a.png"}],
        "categories": [{"id": 3, "name": "bus"}],
        "annotations": [],
    });
    fs::write(at("annotations/train.json"), file.to_string()).unwrap();
    assert_eq!(open("auto").unwrap().classes().list(), "bus");
    assert_eq!(open("voc").unwrap().classes().list(), "van");
    assert_eq!(open("yolo").unwrap().classes().list(), "person");
    // Nothing of HIT-UAV's is in it, and no image.
    assert!(open("hit-uav").unwrap_err().to_string().contains("expected the file"));
    picture(&at("infrared/train/a.png"), 9);
    let llvip = open("auto").unwrap_err().to_string();
    assert!(llvip.contains("expected one of the classes person, found `van`"), "{llvip}");
    fs::create_dir_all(at("images_thermal_train")).unwrap();
    assert!(open("auto").unwrap_err().to_string().contains("coco.json: No such file"));
}

fn voc_file(object: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<annotation><filename>a.png</filename>\
         <size><width>60</width><height>40</height><depth>1</depth></size>{object}</annotation>"
    )
}

fn voc_object(name: &str, [x1, y1, x2, y2]: [&str; 4]) -> String {
    format!(
        "<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>\
         <xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
    )
}

#[test]
fn voc_files_are_read_and_checked() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    picture(&at("infrared/train/190001.png"), 9);
    picture(&at("infrared/train/190002.png"), 9);
    fs::create_dir_all(at("Annotations")).unwrap();
    let put =
        |name: &str, text: String| fs::write(at(&format!("Annotations/{name}")), text).unwrap();
    put("190001.xml", voc_file(&voc_object("person", ["1", "11", "30", "40"])));
    put("190002.xml", voc_file(""));
    let llvip = "llvip".parse().unwrap();
    let open = || DetectionSet::open(root.path(), "train", llvip, &strict());
    let set = open().unwrap();
    let labels = set.info(0).unwrap();
    let objects = &labels.objects;
    // Counted from 1, the last ones included.
    assert_eq!((objects[0].bbox, objects[0].area), ([0.0, 10.0, 30.0, 40.0], 900.0));
    assert_eq!((set.len(), set.info(1).unwrap().objects.len()), (2, 0));
    assert_eq!(set.info(1).unwrap().id, 2);

    let refused = |object: String| {
        put("190002.xml", object);
        let text = open().unwrap_err().to_string();
        text.replace(root.path().to_str().unwrap(), "ROOT")
    };
    let place = "ROOT/Annotations/190002.xml: object 1: ";
    assert_eq!(
        refused(voc_file(&voc_object("car", ["1", "1", "9", "9"]))),
        format!("{place}expected one of the classes person, found `car`")
    );
    assert_eq!(
        refused(voc_file(&voc_object("person", ["1", "1", "90", "9"]))),
        format!(
            "{place}box [0.0, 0.0, 90.0, 9.0]: expected to be inside the image of 40x60, found its right edge at 90"
        )
    );
    assert_eq!(
        refused(voc_file(&voc_object("person", ["1", "1", "NaN", "9"]))),
        format!("{place}box [0.0, 0.0, NaN, 9.0]: expected finite numbers, found NaN")
    );
    assert_eq!(
        refused(voc_file(&voc_object("person", ["1", "x", "9", "9"]))),
        format!("{place}`ymin`: expected a number, found `x`")
    );
    assert_eq!(
        refused(voc_file("<object><name>person</name></object>")),
        format!("{place}expected an element `bndbox`, found none")
    );
    let text = voc_file("");
    let cut = refused(text[..text.len() - 9].to_string());
    assert!(cut.starts_with("ROOT/Annotations/190002.xml: expected a Pascal VOC file: "), "{cut}");
    fs::remove_file(at("Annotations/190002.xml")).unwrap();
    let set = open().unwrap();
    assert_eq!((set.len(), set.left_out().unlabelled), (1, 1));
}

#[test]
fn voc_classes_are_the_names_that_occur() {
    let folder = pictures();
    let annotations = folder.path().join("xml");
    fs::create_dir_all(&annotations).unwrap();
    for (file, class) in [("a", "van"), ("b", "bus"), ("c", "van")] {
        let text = voc_file(&voc_object(class, ["1", "1", "9", "9"]));
        fs::write(annotations.join(format!("{file}.xml")), text).unwrap();
    }
    let images = folder.path().join("images");
    let set = DetectionSet::voc(images, annotations, &Default::default()).unwrap();
    assert_eq!(set.classes().list(), "bus, van");
    assert_eq!(set.info(0).unwrap().objects[0].class, 1);
}

#[test]
fn yolo_files_are_read_and_checked() {
    let folder = pictures();
    let labels = folder.path().join("labels");
    fs::create_dir_all(&labels).unwrap();
    fs::write(labels.join("classes.txt"), "person\ncar\n").unwrap();
    fs::write(labels.join("a.txt"), "1 0.5 0.5 0.5 0.25\n\n0 0.25 0.5 0.5 1\n").unwrap();
    let images = folder.path().join("images");
    let open = || DetectionSet::yolo(&images, &labels, &strict());
    let set = open().unwrap();
    let found = set.info(0).unwrap();
    let objects = &found.objects;
    assert_eq!((objects[0].class, objects[0].bbox), (1, [15.0, 15.0, 45.0, 25.0]));
    assert_eq!((objects[1].class, objects[1].bbox), (0, [0.0, 0.0, 30.0, 40.0]));
    assert!(set.info(1).unwrap().objects.is_empty());
    let refused = |text: &str| {
        fs::write(labels.join("b.txt"), text).unwrap();
        let text = open().unwrap_err().to_string();
        text.replace(folder.path().to_str().unwrap(), "ROOT")
    };
    let place = "ROOT/labels/b.txt:2: ";
    assert_eq!(
        refused("\n2 0.5 0.5 0.5 0.25"),
        format!("{place}expected a class below 2, found `2`")
    );
    assert_eq!(
        refused("\n1 0.5 0.5 0.5"),
        format!("{place}expected 5 numbers, `class x y width height`, or an outline, found 4")
    );
    assert_eq!(refused("\n1 0.5 0.5 a 1"), format!("{place}expected a number, found `a`"));
    assert_eq!(
        refused("\n1 0.5 0.5 nan 1"),
        format!("{place}box [NaN, 0.0, NaN, 40.0]: expected finite numbers, found NaN")
    );
    assert_eq!(
        refused("\n1 0.5 0.5 2 1"),
        format!(
            "{place}box [-30.0, 0.0, 90.0, 40.0]: expected to be inside the image of 40x60, found its left edge at -30"
        )
    );
    fs::write(labels.join("classes.txt"), "").unwrap();
    assert!(
        open()
            .unwrap_err()
            .to_string()
            .ends_with("classes.txt: expected names of classes, one a line, found none")
    );
    let nowhere = DetectionSet::yolo(
        &images,
        folder.path().join("no"),
        &DetectionOptions { classes: Some(BoxClasses::llvip()), ..Default::default() },
    );
    assert!(nowhere.unwrap_err().to_string().contains("/no: "));
}

fn scenes(first: u64, count: usize) -> DetectionScenes {
    DetectionScenes::render(&SceneConfig::new(Size::new(64, 80), 3), first, count).unwrap()
}

#[test]
fn scenes_have_boxes_of_things() {
    let set = scenes(2, 6);
    let boxes: usize = (0..6).map(|index| set.info(index).unwrap().objects.len()).sum();
    assert!(boxes > 3, "{boxes}");
    for index in 0..6 {
        let labelled = set.info(index).unwrap();
        assert_eq!(labelled.size, set.get(index, &Default::default()).unwrap().image.size());
        for Object { bbox: [x1, y1, x2, y2], class, .. } in &labelled.objects {
            assert!(0.0 <= *x1 && x1 < x2 && *x2 <= 80.0 && 0.0 <= *y1 && y1 < y2 && *y2 <= 64.0);
            assert!(*class < 4);
        }
        for object in &labelled.objects {
            let bounds = object.mask.as_ref().unwrap().bounds().unwrap();
            let [x1, y1, x2, y2] = object.bbox.map(|edge| edge as usize);
            assert_eq!(
                [bounds.left, bounds.top, bounds.right(), bounds.bottom()],
                [x1, y1, x2, y2]
            );
            assert!(object.area > 0.0 && object.area <= ((x2 - x1) * (y2 - y1)) as f64);
        }
    }
    assert_eq!(set.info(0).unwrap().name, "scene_00002");
    assert_eq!(scenes(3, 1).info(0).unwrap(), set.info(1).unwrap());
    assert!(set.info(6).is_err());
}

/// All batches of an epoch, from `first` on.
fn batches(workers: usize, pad_to: Option<usize>, first: usize) -> Vec<DetectionBatch> {
    let mut pipeline = DetectionPipeline { pad_to, ..DetectionPipeline::square(64) };
    pipeline.jitter.scale = [0.1, 0.9];
    let config = LoaderConfig { batch_size: 2, workers, seed: 5, ..Default::default() };
    let loader: Loader<DetectionTargets> = Loader::new(scenes(0, 8), pipeline, config).unwrap();
    assert_eq!(loader.batches_per_epoch(), 4);
    loader.epoch(2, first).unwrap().collect::<Result<_>>().unwrap()
}

/// Boxes of all images of a batch.
fn boxes_of(batch: &DetectionBatch) -> Vec<Vec<[f32; 4]>> {
    batch.labels.targets.iter().map(|target| target.boxes.clone()).collect()
}

fn bits(batches: &[DetectionBatch]) -> Vec<u32> {
    let pixels = |batch: &DetectionBatch| {
        let pixels = batch.images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let boxes = boxes_of(batch).into_iter().flatten().flatten();
        let labels = batch.labels.targets.iter().flat_map(|target| target.labels.clone());
        let numbers = pixels.into_iter().chain(boxes).map(f32::to_bits);
        numbers.chain(labels).chain(batch.indices.iter().map(|&i| i as u32)).collect::<Vec<_>>()
    };
    batches.iter().flat_map(pixels).collect()
}

#[test]
fn batches_do_not_depend_on_workers_and_go_on_where_they_ended() {
    let one = batches(0, None, 0);
    assert_eq!(one.len(), 4);
    assert_eq!(bits(&one), bits(&batches(1, None, 0)));
    assert_eq!(bits(&one), bits(&batches(3, None, 0)));
    assert_eq!(bits(&one[2..]), bits(&batches(2, None, 2)));
    let boxes: usize = one.iter().flat_map(boxes_of).map(|boxes| boxes.len()).sum();
    assert!(boxes > 0);
    for batch in &one {
        assert_eq!(batch.images.dims(), [2, 3, 64, 64]);
        for (target, size) in batch.labels.targets.iter().zip(&batch.labels.sizes) {
            for [x1, y1, x2, y2] in &target.boxes {
                assert!(*x1 >= 0.0 && x1 < x2 && *x2 <= size.width as f32);
                assert!(*y1 >= 0.0 && y1 < y2 && *y2 <= size.height as f32);
            }
        }
    }
}

#[test]
fn batches_hold_what_the_pipeline_makes_of_their_images() {
    let set = scenes(0, 8);
    let mut pipeline = DetectionPipeline::square(64);
    pipeline.jitter.scale = [0.1, 0.9];
    // Pixels and boxes must come from the same decision.
    for batch in batches(2, None, 0) {
        for (place, &index) in batch.indices.iter().enumerate() {
            let key = pad_ops::rng::Key::new(5).epoch(2).sample(index as u64);
            let image = set.get(index, &Default::default()).unwrap().image;
            let labels = set.info(index).unwrap();
            let objects = &labels.objects;
            let sample = pipeline.train(image, objects, key).unwrap();
            let pixels = batch.images.get(place).unwrap().flatten_all().unwrap();
            assert_eq!(pixels.to_vec1::<f32>().unwrap(), sample.pixels);
            assert_eq!(batch.labels.sizes[place], sample.size);
            let target = &batch.labels.targets[place];
            assert_eq!(target.boxes, sample.boxes);
            assert_eq!(target.labels, sample.labels);
            assert_eq!(target.masks, sample.masks);
            assert_eq!(sample.masks.len(), sample.boxes.len());
            for (mask, &bbox) in sample.masks.iter().zip(&sample.boxes) {
                // Some of a box is its object's.
                assert!(mask.within(bbox, 28).contains(&1.0));
            }
        }
    }
}

#[test]
fn batches_are_as_large_as_their_samples() {
    let whole = batches(1, None, 0);
    let small = batches(1, Some(16), 0);
    let mut smaller = 0;
    for (whole, small) in whole.iter().zip(&small) {
        let (_, _, height, width) = small.images.dims4().unwrap();
        let most =
            |side: fn(&ImageSize) -> usize| small.labels.sizes.iter().map(side).max().unwrap();
        assert_eq!(height, most(|size| size.height).next_multiple_of(16));
        assert_eq!(width, most(|size| size.width).next_multiple_of(16));
        smaller += usize::from(height * width < 64 * 64);
        let part = whole.images.narrow(2, 0, height).unwrap().narrow(3, 0, width).unwrap();
        let part = part.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(part, small.images.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        assert_eq!(boxes_of(small), boxes_of(whole));
    }
    assert!(smaller > 0);
}

#[test]
fn boxes_stay_on_their_objects() {
    // A bright rectangle on a dark ground: wherever it goes, its box goes, too.
    let folder = pictures();
    let set = coco_of(&folder);
    let pipeline = DetectionPipeline::square(48);
    let key = pad_ops::rng::Key::new(1);
    let mut seen = 0;
    for draw in 0..40 {
        let key = key.sample(draw);
        let image = set.get(0, &Default::default()).unwrap().image;
        let sample = pipeline.train(image, &set.info(0).unwrap().objects, key).unwrap();
        let Some(&[x1, y1, x2, y2]) = sample.boxes.first() else { continue };
        if x2 - x1 < 6.0 || y2 - y1 < 6.0 {
            continue;
        }
        seen += 1;
        let at = |x: f32, y: f32| {
            let value = sample.pixels[y as usize * 48 + x as usize];
            pipeline.normalize.invert(value, 0)
        };
        assert!((at((x1 + x2) / 2.0, (y1 + y2) / 2.0) - 245.0).abs() < 1.0);
        assert!(at(x1 + 2.0, y1 + 2.0) > 200.0 && at(x2 - 2.0, y2 - 2.0) > 200.0);
        for (x, y) in [(x1 - 2.5, y1 + 3.0), (x2 + 2.5, y1 + 3.0), (x1 + 3.0, y2 + 2.5)] {
            let inside = x >= 0.0
                && y >= 0.0
                && x < sample.size.width as f32
                && y < sample.size.height as f32;
            assert!(!inside || at(x, y) < 60.0, "{draw}: {x} {y} is {}", at(x, y));
        }
        // Nothing but zeros beside the image.
        let beside = (sample.size.width..48).map(|x| sample.pixels[x]);
        assert!(beside.into_iter().all(|value| value == 0.0));
    }
    assert!(seen > 10, "{seen}");
}

/// `a.png` with one box around its bright rectangle.
fn coco_of(folder: &TempDir) -> DetectionSet {
    let annotations = json!({
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 10, 30, 20]}],
    });
    let path = write(folder, &annotations);
    DetectionSet::coco(path, folder.path().join("images"), &Default::default()).unwrap()
}

#[test]
fn test_images_keep_their_shape_and_boxes_come_back() {
    let pipeline = DetectionPipeline::square(120);
    let gray = |height, width| {
        let size = ImageSize::new(height, width);
        Image::new(size, 1, Pixels::U8(vec![97; size.area()])).unwrap()
    };
    let images = [pipeline.test(gray(40, 60)).unwrap(), pipeline.test(gray(60, 20)).unwrap()];
    assert_eq!(images[0].size, ImageSize::new(80, 120));
    assert_eq!(images[1].size, ImageSize::new(120, 40));
    assert_eq!(images[0].to_original([-3.0, 20.0, 60.0, 999.0]), [0.0, 10.0, 30.0, 40.0]);
    let (batch, sizes) = batch_of(&images, 32).unwrap();
    assert_eq!(batch.dims(), [2, 3, 128, 128]);
    assert_eq!(sizes, [images[0].size, images[1].size]);
    let values = batch.narrow(0, 1, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let filled = values.iter().filter(|value| **value != 0.0).count();
    assert_eq!(filled, 3 * 120 * 40);
    assert_eq!(batch_of(&[], 32).unwrap_err().to_string(), "`images` is 0, expected at least one");
    assert_eq!(
        batch_of(&images, 0).unwrap_err().to_string(),
        "`multiple` is 0, expected at least 1"
    );
}

#[test]
fn sixteen_bits_go_through_the_window() {
    let size = ImageSize::new(40, 60);
    let counts: Vec<u16> = (0..size.area()).map(|i| 30_000 + (i % 60) as u16 * 5).collect();
    let bits16 = Image::new(size, 1, Pixels::U16(counts)).unwrap();
    let pipeline = DetectionPipeline::square(120);
    let seen = pipeline.test(bits16).unwrap();
    let levels: Vec<f32> =
        seen.pixels[..120].iter().map(|&v| pipeline.normalize.invert(v, 0)).collect();
    assert!(levels[0] < 8.0 && levels[119] > 247.0, "{levels:?}");
    assert!(levels.is_sorted());
}

#[test]
fn pipelines_are_checked() {
    let refused = |pipeline: DetectionPipeline| pipeline.validate().unwrap_err().to_string();
    let base = DetectionPipeline::default();
    assert_eq!(
        refused(DetectionPipeline { channels: 2, ..base.clone() }),
        "`channels` is 2, expected 1 or 3"
    );
    assert_eq!(
        refused(DetectionPipeline { crop: ImageSize::new(0, 9), ..base.clone() }),
        "`crop` is 0x9, expected sides of 1 to 16384"
    );
    assert_eq!(
        refused(DetectionPipeline { pad_to: Some(48), ..base.clone() }),
        "`pad_to` is 48, expected a divisor of the crop's sides, 1024x1024"
    );
    assert_eq!(
        refused(DetectionPipeline { min_side: f64::NAN, ..base }),
        "`min_side` is NaN, expected above 0"
    );
}

#[test]
fn damaged_files_are_errors_or_sets_whose_boxes_are_inside() {
    let folder = pictures();
    let images = folder.path().join("images");
    let json = annotations().to_string().into_bytes();
    let xml = folder.path().join("xml");
    fs::create_dir_all(&xml).unwrap();
    let pages = voc_file(&voc_object("van", ["2", "3", "19", "29"])).into_bytes();
    for name in ["b", "c"] {
        fs::write(xml.join(format!("{name}.xml")), &pages).unwrap();
    }
    let mut stream = pad_ops::rng::Key::new(8).stream();
    let mut opened = 0;
    for round in 0..600 {
        let mut flip = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for _ in 0..1 + round % 3 {
                let place = stream.below(bytes.len() as u64) as usize;
                // Mostly a figure, which is more likely to remain a file.
                let figure = b"0123456789.-eE \""[stream.below(16) as usize];
                bytes[place] = if round % 5 == 0 { stream.next_u32() as u8 } else { figure };
            }
            bytes
        };
        let path = folder.path().join("train.json");
        fs::write(&path, flip(&json)).unwrap();
        fs::write(xml.join("a.xml"), flip(&pages)).unwrap();
        let options = DetectionOptions::default();
        let sets = [
            DetectionSet::coco(&path, &images, &options),
            DetectionSet::voc(&images, &xml, &options),
        ];
        for set in sets {
            let Ok(set) = set else { continue };
            opened += 1;
            for index in 0..set.len() {
                let labelled = set.info(index).unwrap();
                for Object { bbox: [x1, y1, x2, y2], class, .. } in &labelled.objects {
                    assert!(0.0 <= *x1 && x1 < x2 && *x2 <= labelled.size.width as f64);
                    assert!(0.0 <= *y1 && y1 < y2 && *y2 <= labelled.size.height as f64);
                    assert!((*class as usize) < set.classes().len());
                }
            }
        }
    }
    assert!(opened > 40, "{opened}");
}
