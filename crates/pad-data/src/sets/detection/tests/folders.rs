//! Folders of other formats, good and bad; damaged files of any.

use std::fs;

use serde_json::{Value, json};

use super::fixtures::{annotations, picture, pictures, strict, voc_file, voc_object};
use crate::{dataset::Dataset, sets::detection::*};

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
             a list of tasks in annotations/train.json or train.json (label-studio), \
             annotations/train.json, annotations/instances_train.json or train/_annotations.coco.json (coco), "
        ),
        "{unknown}"
    );
    assert_eq!(
        "coca".parse::<DetectionFormat>().unwrap_err().to_string(),
        "format: expected auto, flir, llvip, hit-uav, label-studio, coco, cvat, voc or yolo, found `coca` (did you mean `coco`?)"
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
