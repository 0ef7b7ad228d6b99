//! Files of Pascal VOC.

use std::fs;

use pad_data::Dataset;

use super::support::{
    SQUARE, boxes, case, check_square, classes, coco, copy, copy_all, labels, names, open, open_at,
    text, train,
};

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
fn parts_may_be_folders() {
    let files = |part: &str| -> Vec<std::path::PathBuf> {
        let all = fs::read_dir(case("N14base/Annotations")).unwrap();
        let all = all.map(|entry| entry.unwrap().path());
        all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(part)).collect()
    };
    for (images, annotations) in [
        ("images/PART", "Annotations/PART"),
        ("images/PART", "annotations/PART"),
        ("JPEGImages/PART", "Annotations/PART"),
        ("PART/images", "PART/Annotations"),
        ("PART/images", "PART/annotations"),
        ("PART/JPEGImages", "PART/Annotations"),
        ("PART/images", "PART/xmls"),
        ("PART", "PART/Annotations"),
        ("images", "xmls"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let at = |place: &str, part: &str| folder.path().join(place.replace("PART", part));
        // The other part has files of the same names with another class: they are not taken.
        for (part, name) in [("val", "car"), ("train", "person")] {
            let (to, told) = (at(images, part), at(annotations, part));
            copy_all(&case("N14base/images/train"), &to);
            fs::create_dir_all(&told).unwrap();
            for file in files("train") {
                let text = fs::read_to_string(&file).unwrap();
                let (start, rest) = text.split_once("<name>").unwrap();
                let (_, end) = rest.split_once("</name>").unwrap();
                let text = format!("{start}<name>{name}</name>{end}");
                fs::write(told.join(file.file_name().unwrap()), text).unwrap();
            }
        }
        let parts: &[(&str, &str)] = match images.contains("PART") {
            true => &[("train", "person"), ("val", "car")],
            false => &[(".", "person")],
        };
        for &(split, class) in parts {
            for format in ["auto", "voc"] {
                let set = open_at(folder.path(), split, format, &Default::default())
                    .unwrap_or_else(|error| panic!("{images} {annotations} {split}: {error}"));
                check_square(&set, 6);
                assert_eq!(names(&set), [class], "{images} {annotations} {split}");
            }
        }
    }
}

#[test]
fn where_every_object_is_faulty_the_first_fault_is_told() {
    let folder = copy("N14base");
    let change = |from: &str, to: &str| {
        for entry in fs::read_dir(folder.path().join("Annotations")).unwrap() {
            let path = entry.unwrap().path();
            let sound = case("N14base/Annotations").join(path.file_name().unwrap());
            fs::write(&path, fs::read_to_string(sound).unwrap().replace(from, to)).unwrap();
        }
        text(open_at(folder.path(), "train", "voc", &Default::default()), &folder)
    };
    let place = "ROOT/Annotations/train000.xml: object 1: ";
    assert_eq!(
        change("bndbox>", "box>"),
        format!("{place}expected an element `bndbox`, found none")
    );
    assert_eq!(
        change("<xmax>54", "<xmax>5a"),
        format!("{place}`xmax`: expected a number, found `5a`")
    );
    assert_eq!(change("object>", "thing>"), "ROOT/Annotations: expected objects, found none");
    // CVAT.
    let folder = tempfile::tempdir().unwrap();
    copy_all(&case("N00/train"), folder.path());
    let shape = "<box label=\"a\" xtl=\"x\" ytl=\"0\" xbr=\"1\" ybr=\"1\"/>";
    let images = format!("<image name=\"im000.png\"/><image name=\"im001.png\">{shape}</image>");
    let told = format!("<annotations>{images}</annotations>");
    fs::write(folder.path().join("annotations.xml"), told).unwrap();
    assert_eq!(
        text(open_at(folder.path(), "annotations.xml", "cvat", &Default::default()), &folder),
        "ROOT/annotations.xml: im001.png: `xtl`: expected a number, found `x`"
    );
    // COCO without categories.
    let folder = coco(|text| {
        text.replace("\"categories\"", "\"none\"").replace("\"category_id\"", "\"class\"")
    });
    assert_eq!(
        text(train(&folder), &folder),
        "ROOT/annotations/train.json: annotation 1 of the file: expected `category_id`, found nothing"
    );
}

#[test]
fn names_go_on_behind_comments() {
    let folder = copy("N14base");
    let path = folder.path().join("Annotations/train000.xml");
    let told = fs::read_to_string(&path).unwrap();
    let told = told
        .replace("<name>person", "<name><!-- who --> per<!-- -->son ")
        .replace("<xmin>31", "<xmin><!-- from 1 -->31")
        .replace("<difficult>0", "<difficult><!-- no -->1");
    fs::write(&path, told).unwrap();
    let set = train(&folder).unwrap();
    check_square(&set, 6);
    let first = set.info(0).unwrap();
    assert_eq!((classes(&set)[0], first.objects[0].difficult), (0, true));
    assert_eq!(names(&set), ["person"]);
}
