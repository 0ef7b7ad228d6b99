//! Text files of YOLO.

use std::fs;

use pad_data::{
    Dataset,
    sets::detection::{DetectionOptions, DetectionSet, LeftOut},
};
use tempfile::TempDir;

use super::support::{boxes, case, classes, copy, copy_all, names, open, open_at, text, train};

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
        "1 0.525 0.5 0.3 0.375 0.97 1",
        "1 0.525 0.5 0.3 0.375 0.97 38",
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
    // A score out of its range is rather an angle.
    let folder = yolo("0 0.5 0.5 0.3 0.375 -45", "person\ncar");
    let strict = DetectionOptions { max_faulty: 0.0, ..Default::default() };
    assert_eq!(
        text(open_at(folder.path(), "train", "auto", &strict), &folder),
        "ROOT/labels/train/im000.txt:1: expected a score of 0 to 1, found -45 (a turned box? expected its four corners)"
    );
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
    // A text that is repeated in `data.yaml`.
    let folder = copy("N10label");
    let told = "train: &t images/train\nval: *t\nnames: [person, car]";
    fs::write(folder.path().join("data.yaml"), told).unwrap();
    let set = open_at(folder.path(), "val", "auto", &Default::default()).unwrap();
    assert_eq!(as_is(set), expected());
    // Images and labels together, with the names above or among them.
    for names_at in ["classes.txt", "train/classes.txt"] {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("train");
        copy_all(&case("N10label/images/train"), &part);
        copy_all(&case("N10label/labels/train"), &part);
        fs::write(folder.path().join(names_at), "person\ncar\n").unwrap();
        assert_eq!(as_is(train(&folder).unwrap()), expected(), "{names_at}");
    }
    // A line without a name is named.
    for (told, class) in [("\nperson\ncar\n", 0), ("person\r\n \r\ncar", 1)] {
        let folder = copy("N10label");
        fs::write(folder.path().join("classes.txt"), told).unwrap();
        let line = class + 1;
        assert_eq!(
            text(train(&folder), &folder),
            format!(
                "ROOT/classes.txt:{line}: expected the name of class {class}, found an empty line"
            )
        );
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

/// A set of colour pictures with a thermal one inside it: the labels of each are its own.
#[test]
fn labels_of_another_set_are_not_taken() {
    let folder = copy("N10label");
    let at = |path: &str| folder.path().join(path);
    let small = [20.0, 16.0, 40.0, 32.0];
    for index in 0..6 {
        fs::write(at(&format!("labels/train/im00{index}.txt")), "0 0.375 0.375 0.25 0.25").unwrap();
    }
    copy_all(&case("N10label/images/train"), &at("thermal/images/train"));
    copy_all(&case("N10label/labels/train"), &at("thermal/labels/train"));
    // It shows nothing, whatever the other picture of this name shows.
    fs::remove_file(at("thermal/labels/train/im005.txt")).unwrap();
    fs::write(
        at("data.yaml"),
        "train: thermal/images/train\nval: images/val\nnames: [person, car]",
    )
    .unwrap();
    let near = |found: [f64; 4], expected: [f64; 4]| {
        let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        assert!(off.into_iter().all(|off| off < 1e-9), "{found:?}");
    };
    let square = [30.0, 20.0, 54.0, 44.0];
    for format in ["auto", "yolo"] {
        let set = open_at(folder.path(), "train", format, &Default::default()).unwrap();
        let found = boxes(&set);
        assert_eq!((found.concat().len(), found[5].len(), set.left_out().unlabelled), (5, 0, 1));
        found.concat().into_iter().for_each(|bbox| near(bbox, square));
        assert_eq!(classes(&set), [0, 1, 0, 1, 0]);
    }
    // Images that were given from elsewhere: the labels are the set's.
    let images = Some(at("thermal/images/train"));
    let options = DetectionOptions { images, ..Default::default() };
    let set = open_at(folder.path(), "train", "yolo", &options).unwrap();
    assert_eq!(boxes(&set).concat().len(), 6);
    boxes(&set).concat().into_iter().for_each(|bbox| near(bbox, small));
    // Both folders given: nothing else counts.
    let select = Some(vec!["person".to_string(), "car".to_string()]);
    let options = DetectionOptions { select, ..Default::default() };
    fs::remove_file(at("labels/train/im003.txt")).unwrap();
    let (images, labels) = (at("thermal/images/train"), at("labels/train"));
    let set = DetectionSet::yolo(images, labels, &options).unwrap();
    let found = boxes(&set);
    assert_eq!((found.concat().len(), found[3].len(), set.left_out().unlabelled), (5, 0, 1));
    found.concat().into_iter().for_each(|bbox| near(bbox, small));
    // Without a folder of its own, and where a folder above the set is called `images`.
    fs::remove_dir_all(at("thermal/labels")).unwrap();
    let set = open_at(folder.path(), "train", "yolo", &Default::default()).unwrap();
    assert_eq!((boxes(&set).concat().len(), set.left_out().unlabelled), (5, 1));
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("images/set");
    copy_all(&case("N10label/images/train"), &root.join("train"));
    copy_all(&case("N10label/labels/train"), &root.join("labels/train"));
    copy_all(&at("labels/train"), &above.path().join("labels/set/train"));
    fs::write(root.join("classes.txt"), "person\ncar").unwrap();
    let set = open_at(&root, "train", "auto", &Default::default()).unwrap();
    boxes(&set).concat().into_iter().for_each(|bbox| near(bbox, square));
    assert_eq!((boxes(&set).concat().len(), set.left_out()), (6, &LeftOut::default()));
}
