//! The images that runs see.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use super::{
    evidence::{
        data::{self, Sets},
        images::{evaluated_images, expect_different, training_images},
        plan::Plan,
        solar::split_classes,
    },
    flags, tree,
};

#[test]
fn training_images_are_those_of_the_training_part() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let names = |folder: &str| -> Vec<String> {
        let paths = training_images(&root.join(folder)).unwrap();
        paths.iter().map(|path| path.file_name().unwrap().to_string_lossy().into()).collect()
    };
    tree(root, &["udder/images/a.png", "udder/images/b.png", "udder/images/c.png"]);
    tree(root, &["udder/masks/a.png", "udder/masks/b.png", "udder/masks/c.png"]);
    std::fs::write(root.join("udder/train.txt"), "a\nc.png\n\n").unwrap();
    std::fs::write(root.join("udder/val.txt"), "b\n").unwrap();
    assert_eq!(names("udder"), ["a.png", "c.png"]);
    assert_eq!(evaluated_images(&root.join("udder")), Some(1));
    // HIT-UAV, copied and as its authors publish it.
    for place in ["hit", "published/normal_json"] {
        tree(&root.join(place), &["train/d.jpg", "val/e.jpg", "val/f.jpg", "test/g.jpg"]);
        tree(&root.join(place), &["annotations/train.json"]);
        let set = r#"{"images": [{"id": 1}, {"id": 2}, {"id": 3}]}"#;
        std::fs::write(root.join(place).join("annotations/val.json"), set).unwrap();
    }
    tree(root, &["published/rotate_json/train/d.jpg", "published/README.md"]);
    for place in ["hit", "published"] {
        assert_eq!(names(place), ["d.jpg"]);
        assert_eq!(evaluated_images(&root.join(place)), Some(3));
    }
    // YOLO, with labels inside and outside; a set with masks and no list.
    tree(root, &["yolo/images/train/h.png", "yolo/images/val/i.png", "yolo/labels/train/h.txt"]);
    tree(root, &["robo/train/images/j.png", "robo/train/labels/j.txt", "robo/valid/images/k.png"]);
    tree(root, &["maps/Training/images/l.png", "maps/Training/masks/l.png", "maps/val/m.png"]);
    assert_eq!([names("yolo"), names("robo"), names("maps")].concat(), ["h.png", "j.png", "l.png"]);
    let evaluated = ["yolo", "robo", "maps"].map(|name| evaluated_images(&root.join(name)));
    assert_eq!(evaluated, [Some(1); 3]);
    // Without labels: all of them, in natural order, below hidden folders none.
    tree(root, &["plain/x/n.TIF", "plain/o10.jpeg", "plain/o9.jpeg", "plain/notes.txt"]);
    tree(root, &["plain/.val/p.png", "plain/test_flight/q.png"]);
    assert_eq!(evaluated_images(&root.join("plain")), None);
    assert_eq!(names("plain"), ["o9.jpeg", "o10.jpeg", "q.png", "n.TIF"]);
}

#[test]
fn images_of_other_parts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, files: &[&str], at: &str| {
        let root = folder.path().join(name);
        tree(&root, files);
        let error = format!("{:#}", training_images(&root).unwrap_err());
        let place = format!("{}: part of a labelled set", root.join(at).display());
        assert!(error.starts_with(&place), "{error}");
        assert!(error.contains("expected training images alone: train.txt"), "{error}");
    };
    refused("val", &["a.png", "val/b.png"], "val");
    refused("test", &["day/a.png", "Testing/b.png"], "Testing");
    refused("masks", &["images/a.png", "masks/a.png"], "masks");
    refused("labels", &["images/a.png", "labels/a.txt"], "labels");
    refused("coco", &["images/a.png", "annotations/val.json"], "annotations");
    refused(
        "flir",
        &["images_thermal_train/a.jpg", "images_thermal_val/b.jpg"],
        "images_thermal_train",
    );
    refused("years", &["x/a.jpg", "val2017/b.jpg"], "val2017");
    refused("list", &["a.jpg", "train.txt"], "train.txt");
    refused("deep", &["site/a.jpg", "site/val/b.jpg"], "site/val/b.jpg");
    refused("beside", &["train/images.jpg", "train/masks/b.png"], "train/masks/b.png");
    let two = folder.path().join("two");
    tree(&two, &["train2014/a.jpg", "train2017/b.jpg"]);
    let error = training_images(&two).unwrap_err().to_string();
    assert!(error.contains("train2014: expected one folder of training images"), "{error}");
    let empty = folder.path().join("empty");
    tree(&empty, &["notes.md"]);
    assert!(training_images(&empty).unwrap_err().to_string().contains("empty"));
}

#[test]
fn lists_name_an_image_each() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    tree(root, &["images/day/1.png", "images/night/1.png", "images/2.v2.png", "images/3.png"]);
    let listed = |lines: &str| {
        std::fs::write(root.join("train.txt"), lines).unwrap();
        training_images(root)
    };
    let names = |lines: &str| -> Vec<String> {
        let images = root.join("images");
        let paths = listed(lines).unwrap();
        let name =
            |path: &std::path::PathBuf| path.strip_prefix(&images).unwrap().display().to_string();
        paths.iter().map(name).collect()
    };
    // Not both of one name; dots in names; with the folder before and the mask behind.
    assert_eq!(names("night/1\n2.v2\n"), ["2.v2.png", "night/1.png"]);
    assert_eq!(
        names("images/day/1.png masks/day/1.png\r\nimages\\3.png\n"),
        ["3.png", "day/1.png"]
    );
    for (lines, names, found) in [("3\n4\n5\n", 3, 1), ("3\n3.png\n", 2, 1), ("3\n1\n", 2, 1)] {
        let error = listed(lines).unwrap_err().to_string();
        assert!(error.contains(&format!("train.txt: {names} names, expected")), "{error}");
        assert!(error.ends_with(&format!("images, found {found}")), "{error}");
    }
    assert!(listed("\n").unwrap_err().to_string().ends_with("names of images, found none"));
}

#[cfg(unix)]
#[test]
fn an_image_is_in_the_mix_once() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    tree(root, &["a/1.png", "a/2.png", "b/3.png"]);
    let all = |folders: &[&str]| -> Vec<std::path::PathBuf> {
        folders.iter().flat_map(|name| training_images(&root.join(name)).unwrap()).collect()
    };
    expect_different(all(&["a", "b"]).iter()).unwrap();
    symlink(root.join("a/2.png"), root.join("b/4.png")).unwrap();
    let error = expect_different(all(&["a", "b"]).iter()).unwrap_err().to_string();
    assert!(error.contains("b/4.png: the same image as ") && error.contains("a/2.png"), "{error}");
    // A folder that is inside itself.
    symlink(root.join("a"), root.join("a/again")).unwrap();
    assert!(training_images(&root.join("a")).is_err());
}

#[test]
fn classes_are_split_alike_at_every_call() {
    let module = |number: usize| {
        let class = if number < 40 { "No-Anomaly" } else { "Cell" };
        (
            number.to_string(),
            json!({ "anomaly_class": class, "image_filepath": format!("images/{number}.jpg") }),
        )
    };
    let modules: BTreeMap<String, Value> = (0..60).map(module).collect();
    let all = split_classes(&modules, None).unwrap();
    let count = |parts: &[(String, String)], place: &str| {
        parts.iter().filter(|(name, _)| name.starts_with(place)).count()
    };
    let places = ["train/No-Anomaly/", "val/No-Anomaly/", "train/Cell/", "val/Cell/"];
    assert_eq!(places.map(|place| count(&all, place)), [30, 10, 15, 5]);
    let some = split_classes(&modules, Some([20, 6])).unwrap();
    assert_eq!(places.map(|place| count(&some, place)), [20, 6, 15, 5]);
    assert!(some.iter().all(|part| all.contains(part)));
    let broken = BTreeMap::from([("7".to_string(), json!({ "anomaly_class": "Cell" }))]);
    let error = split_classes(&broken, None).unwrap_err().to_string();
    assert_eq!(error, "module 7: expected `anomaly_class` and `image_filepath`");
    let one: BTreeMap<String, Value> = (39..60).map(module).collect();
    let error = split_classes(&one, None).unwrap_err().to_string();
    assert_eq!(error, "class `No-Anomaly`: expected at least 2 images, found 1");
    // Of two, one each.
    let two: BTreeMap<String, Value> = (38..60).map(module).collect();
    let parts = split_classes(&two, None).unwrap();
    assert_eq!(places.map(|place| count(&parts, place)), [1, 1, 15, 5]);
}

fn sets(out: &Path, more: &[&str]) -> anyhow::Result<Sets> {
    Ok(Plan::new(&flags(out, more))?.sets)
}

#[test]
fn the_sets_of_a_folder_stay_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path(), folder.path().join("out"));
    // Listed by name and size, and not read.
    let write = |name: &str, bytes: usize| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x".repeat(bytes)).unwrap();
    };
    for number in 0..3 {
        write(&format!("street/{number}.png"), 16 + number);
        write(&format!("hit/normal_json/train/{number}.png"), 16);
        write(&format!("hit/normal_json/val/{number}.png"), 16);
    }
    let place = |name: &str| root.join(name).display().to_string();
    let (street, hit) = (place("street"), place("hit"));
    let mix = ["--mix", &street, &hit, "--mix-scenes=1"];
    for _ in 0..2 {
        data::prepare(&sets(&out, &mix).unwrap()).unwrap();
        data::check(&sets(&out, &mix).unwrap()).unwrap();
    }
    let names = |name: &str| -> Vec<String> {
        let entries = std::fs::read_dir(out.join("data/mix").join(name).join("thermal")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    // Three links, the training part alone, and a scene.
    assert_eq!(names("street"), ["000000_0.png", "000001_1.png", "000002_2.png"]);
    assert_eq!(names("hit").len(), 3);
    assert_eq!(names("scenes"), ["00000.png"]);
    let linked = out.join("data/mix/hit/thermal/000000_0.png").canonicalize().unwrap();
    assert!(linked.ends_with("normal_json/train/0.png"), "{}", linked.display());
    // `pad` sees them all, each source under its name.
    let opened = pad::data::sets::ImageFolder::open(out.join("data/mix")).unwrap();
    assert_eq!(pad::data::Dataset::len(&opened), 7);

    let refused = |more: &[&str]| {
        let sets = sets(&out, more).unwrap();
        let error = data::check(&sets).unwrap_err().to_string();
        assert_eq!(data::prepare(&sets).unwrap_err().to_string(), error);
        assert!(error.contains("data/mix.txt: expected `"), "{error}");
        assert!(error.ends_with("choose another --out"), "{error}");
        error
    };
    refused(&["--mix", &street, "--mix-scenes=1"]);
    refused(&["--mix", &street, &hit, "--mix-scenes=2"]);
    refused(&["--mix", &street, &hit, "--mix-scenes=0"]);
    std::fs::rename(root.join("hit"), root.join("moved")).unwrap();
    std::fs::create_dir_all(root.join("again")).unwrap();
    std::fs::rename(root.join("moved"), root.join("again/hit")).unwrap();
    assert!(refused(&["--mix", &street, &place("again/hit"), "--mix-scenes=1"]).contains("again"));
    std::fs::rename(root.join("again/hit"), root.join("hit")).unwrap();
    data::prepare(&sets(&out, &mix).unwrap()).unwrap();
    // Another image under the same name, one more, one less.
    write("street/0.png", 40);
    assert!(refused(&mix).contains("street: "));
    write("street/0.png", 16);
    write("street/3.png", 16);
    assert!(refused(&mix).contains("4 files"));
    std::fs::remove_file(root.join("street/3.png")).unwrap();
    data::prepare(&sets(&out, &mix).unwrap()).unwrap();
    // More scenes than there should be; a folder without its record.
    std::fs::write(out.join("data/mix/scenes/thermal/00001.png"), "").unwrap();
    let error = data::prepare(&sets(&out, &mix).unwrap()).unwrap_err().to_string();
    assert!(error.ends_with("thermal: 2 files, expected 1: choose another --out"), "{error}");
    std::fs::remove_file(out.join("data/mix.txt")).unwrap();
    let error = data::prepare(&sets(&out, &mix).unwrap()).unwrap_err().to_string();
    assert!(error.contains("mix.txt: missing beside its folder"), "{error}");
}

#[test]
fn names_that_the_mix_has_itself_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["scenes", "thermal", ".hidden", "a/scenes", "b/same", "c/same"] {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    let place = |name: &str| folder.path().join(name).display().to_string();
    for name in ["scenes", "thermal", ".hidden", "a/scenes"] {
        let error = sets(folder.path(), &["--mix", &place(name)]).unwrap_err().to_string();
        let last = name.rsplit('/').next().unwrap();
        let expected = format!("{name}: a folder of the mix cannot be called `{last}`, expected");
        assert!(error.contains(&expected), "{error}");
    }
    let error = sets(folder.path(), &["--mix", &place("b/same"), &place("c/same")]).unwrap_err();
    assert_eq!(error.to_string(), "same: two folders of the mix have this name");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(place("thermal"), place("night")).unwrap();
        sets(folder.path(), &["--mix", &place("night")]).unwrap();
    }
}

#[test]
fn solar_modules_that_are_there_are_linked() {
    let folder = tempfile::tempdir().unwrap();
    let (from, out) = (folder.path().join("solar"), folder.path().join("out"));
    let module = |number: usize| {
        let class = if number.is_multiple_of(2) { "Cell" } else { "No-Anomaly" };
        let file = format!("images/{number}.jpg");
        (number.to_string(), json!({ "anomaly_class": class, "image_filepath": file }))
    };
    let modules: serde_json::Map<String, Value> = (0..80).map(module).collect();
    tree(&from, &["notes.txt"]);
    std::fs::write(from.join("module_metadata.json"), Value::from(modules).to_string()).unwrap();
    let flag = from.display().to_string();
    let prepare = || data::prepare(&sets(&out, &["--solar", &flag]).unwrap());
    let error = prepare().unwrap_err().to_string();
    assert!(error.contains("module_metadata.json: expected 80 images below"), "{error}");
    assert!(error.ends_with("found 0"), "{error}");
    // A quarter is missing; `tiny` takes 8 and 4 of each class all the same.
    for number in 0..60 {
        tree(&from, &[&format!("images/{number}.jpg")]);
    }
    prepare().unwrap();
    prepare().unwrap();
    let count =
        |place: &str| std::fs::read_dir(out.join("data/classes-8-4").join(place)).unwrap().count();
    let places = ["train/Cell", "val/Cell", "train/No-Anomaly", "val/No-Anomaly"];
    assert_eq!(places.map(count), [8, 4, 8, 4]);
    // Another list in its place.
    std::fs::write(from.join("module_metadata.json"), "{}").unwrap();
    let error = prepare().unwrap_err().to_string();
    assert!(error.contains("data/classes-8-4.txt: expected `classes: "), "{error}");
    // A folder per class is taken as it is.
    let other = folder.path().join("faults");
    tree(&other, &["Cell/1.jpg", "Crack/1.jpg"]);
    let other = other.display().to_string();
    data::prepare(&sets(&folder.path().join("out2"), &["--solar", &other]).unwrap()).unwrap();
    assert!(!folder.path().join("out2").exists());
}
