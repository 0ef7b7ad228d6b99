//! JSON files of Label Studio.

use std::fs;

use pad_data::{Dataset, sets::detection::DetectionOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{
    SQUARE, boxes, case, check_square, classes, copy_all, names, open_at, text, train,
};

/// Six images, and tasks that are to be written of the file names.
fn tasks(task: impl Fn(usize, &str) -> Value) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_all(&case("N00/train"), &folder.path().join("images"));
    let all: Vec<Value> = (0..6).map(|i| task(i, &format!("im{i:03}.png"))).collect();
    write(&folder, &json!(all));
    folder
}

fn write(folder: &TempDir, tasks: &Value) {
    fs::write(folder.path().join("train.json"), tasks.to_string()).unwrap();
}

/// The warm square, per cent of 80 x 64.
fn square(label: &str) -> Value {
    json!({
        "x": 37.5, "y": 31.25, "width": 30.0, "height": "37.5", "rotation": 0,
        "rectanglelabels": [label], "original_width": 80, "original_height": 64,
    })
}

/// A result of the whole export.
fn result(value: &Value, id: &str) -> Value {
    json!({ "id": id, "type": "rectanglelabels", "value": value,
        "original_width": 80, "original_height": 64, "image_rotation": 0 })
}

fn label(index: usize) -> &'static str {
    ["person", "car"][index % 2]
}

#[test]
fn short_and_whole_exports_are_read() {
    let short = tasks(|index, name| {
        json!({ "id": index, "image": format!("/data/upload/3/0a1b2c3d-{name}"), "annotator": 1,
            "label": [square(label(index))], "choice": "night", "lead_time": 3.5 })
    });
    let whole = tasks(|index, name| {
        let cancelled = json!({ "was_cancelled": true, "result": [] });
        let first = json!({ "result": [] });
        let last = json!({ "result": [result(&square(label(index)), "a"),
            { "id": "b", "type": "choices", "value": { "choices": ["night"] } }] });
        json!({ "id": index, "data": { "image": format!("s3://bucket/{name}?X-Amz-Date=1") },
            "annotations": [first, last, cancelled], "predictions": [] })
    });
    for folder in [short, whole] {
        for format in ["auto", "label-studio"] {
            let set =
                open_at(folder.path(), "train", format, &DetectionOptions::default()).unwrap();
            check_square(&set, 6);
            assert_eq!(names(&set), ["car", "person"]);
            assert_eq!(classes(&set), [1, 0, 1, 0, 1, 0]);
        }
    }
}

#[test]
fn shapes_of_label_studio_become_boxes() {
    let outline = |value: Value| tasks(move |_, name| json!({ "image": name, "label": [value] }));
    let turned = json!({ "x": 50.0, "y": 25.0, "width": 20.0, "height": 12.5, "rotation": 90.0,
        "rectanglelabels": ["a"] });
    let points = json!({ "points": [[37.5, 31.25], [67.5, 40.0], [50.0, 68.75]],
        "polygonlabels": ["a"] });
    let ellipse = json!({ "x": 50.0, "y": 50.0, "radiusX": 10.0, "radiusY": 25.0, "rotation": 90,
        "ellipselabels": ["a"] });
    for (value, expected) in [
        (points, SQUARE),
        // 16 x 8 pixels about (40, 16): to the left and downwards.
        (turned, [32.0, 16.0, 40.0, 32.0]),
        (ellipse, [24.0, 24.0, 56.0, 40.0]),
    ] {
        let found = boxes(&train(&outline(value.clone())).unwrap())[0][0];
        let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        assert!(off.into_iter().all(|off| off < 1e-9), "{value}: {found:?}");
    }
    // What covers nothing is no object; a brush is a fault.
    let folder = tasks(|index, name| {
        let key = json!({ "x": 5, "y": 5, "width": 1, "keypointlabels": ["a"] });
        let brush = json!({ "format": "rle", "rle": [1, 2], "brushlabels": ["a"] });
        let rest = if index == 3 { brush } else { key };
        json!({ "image": name, "label": [square("a"), rest] })
    });
    let set = train(&folder).unwrap();
    check_square(&set, 6);
    assert_eq!((set.left_out().faulty, set.left_out().shapes), (1, 5));
}

/// Tasks that show a thermal picture and one in colour, whose regions were drawn on `drawn_on`.
fn pairs(drawn_on: impl Fn(usize) -> Vec<&'static str>) -> TempDir {
    tasks(|index, name| {
        let regions: Vec<Value> = drawn_on(index)
            .iter()
            .zip(["a", "b"])
            .map(|(field, id)| {
                let mut region = result(&square(label(index)), id);
                region["to_name"] = json!(field);
                region
            })
            .collect();
        json!({ "data": { "colour": format!("rgb/{name}.jpg"), "note": "night", "thermal": name },
            "annotations": [{ "result": regions }] })
    })
}

#[test]
fn a_task_of_several_images_says_which_is_meant() {
    // The first one is of another name and is not there; a task without a region shows nothing.
    let folder = pairs(|index| if index == 4 { vec![] } else { vec!["thermal"] });
    let set = train(&folder).unwrap();
    let found = boxes(&set);
    assert_eq!((set.len(), found[4].len(), set.left_out().images), (6, 0, 0));
    assert_eq!(found.concat(), [SQUARE; 5]);
    // Names of neither, and of both.
    let options = DetectionOptions { max_faulty: 0.0, ..Default::default() };
    for fields in [vec!["img"], vec!["thermal", "colour"], vec![]] {
        let folder = pairs(|_| fields.clone());
        assert_eq!(
            text(open_at(folder.path(), "train", "label-studio", &options), &folder),
            "ROOT/train.json: task 1: expected one image, or regions whose `to_name` is its field, \
             found images in `colour`, `thermal`",
            "{fields:?}"
        );
    }
    // One of six is tolerated, as any other fault.
    let folder = pairs(|index| if index == 2 { vec!["img"] } else { vec!["thermal"] });
    let set = train(&folder).unwrap();
    assert_eq!((set.len(), set.left_out().images), (5, 1));
    check_square(&set, 5);
    // One image is meant whatever it is called, and whichever fields have its address.
    let folder = tasks(|index, name| {
        let mut region = result(&square(label(index)), "a");
        region["to_name"] = json!("img");
        json!({ "data": { "image": name, "preview": format!("{name}?small"), "text": "a" },
            "annotations": [{ "result": [region] }] })
    });
    check_square(&train(&folder).unwrap(), 6);
    // The short form does not say it.
    let folder = tasks(
        |index, name| json!({ "a": name, "b": format!("b/{name}.png"), "label": [square(label(index))] }),
    );
    let refused = text(train(&folder), &folder);
    assert!(refused.contains("found images in `a`, `b`"), "{refused}");
}

#[test]
fn shapes_and_labels_may_be_results_of_their_own() {
    let folder = tasks(|index, name| {
        let mut shape = square("");
        shape.as_object_mut().unwrap().remove("rectanglelabels");
        let mut labelled = shape.clone();
        labelled["labels"] = json!([label(index)]);
        let results = [result(&shape, "a"), result(&labelled, "a"), result(&shape, "unlabelled")];
        json!({ "data": { "img": name }, "annotations": [{ "result": results }] })
    });
    let set = train(&folder).unwrap();
    check_square(&set, 6);
    assert_eq!(classes(&set), [1, 0, 1, 0, 1, 0]);
}

#[test]
fn tasks_that_cannot_be_used_are_counted() {
    let folder = tasks(|index, name| match index {
        0 => json!({ "data": { "image": name }, "annotations": [] }),
        1 => json!({ "data": { "image": "none.png" }, "annotations": [{ "result": [] }] }),
        _ => json!({ "data": { "image": name },
            "annotations": [{ "result": [result(&square("a"), "r")] }] }),
    });
    let set = train(&folder).unwrap();
    check_square(&set, 4);
    assert_eq!((set.left_out().unlabelled, set.left_out().images), (1, 1));
    let refused = |tasks: Value| {
        write(&folder, &tasks);
        text(open_at(folder.path(), "train", "label-studio", &Default::default()), &folder)
    };
    assert_eq!(refused(json!([])), "ROOT/train.json: expected tasks, found none");
    assert_eq!(
        refused(json!([{ "data": { "image": "im000.png" } }])),
        "ROOT/train.json: expected annotations of some of 1 tasks, found none"
    );
    let key = json!({ "x": 5, "y": 5, "width": 1, "keypointlabels": ["a"] });
    let results = json!([{ "result": [result(&key, "k")] }]);
    let points = json!([{ "data": { "image": "im000.png" }, "annotations": results }]);
    assert_eq!(refused(points), "ROOT/train.json: expected regions with labels, found none");
    let strange = refused(json!([1, { "data": { "text": "a" } }]));
    assert!(strange.contains("task 1: expected an object"), "{strange}");
    assert!(strange.contains("task 2: expected the address of an image"), "{strange}");
}
