//! Against the numbers of pycocotools, and what is refused.

use pad_testkit::golden_folder;

use super::*;

/// As pycocotools writes it: -1 where it is undefined.
fn recorded(metric: Option<f64>) -> Option<f64> {
    metric.or(Some(-1.0))
}

#[test]
fn numbers_are_those_of_pycocotools_to_the_last_digit() {
    for case in 0..3 {
        let file = |what| golden_folder().join(format!("detection/coco{case}_{what}.json"));
        let truth = CocoTruth::read(&file("gt")).unwrap();
        let results = read_results(&file("dt")).unwrap();
        let found = evaluate(&truth, &results).unwrap();
        let expected: serde_json::Value =
            serde_json::from_slice(&std::fs::read(file("expected")).unwrap()).unwrap();
        for (place, found) in found.stats.iter().enumerate() {
            assert_eq!(recorded(*found), expected["stats"][place].as_f64(), "case {case}, {place}");
        }
        let mut categories = truth.categories.clone();
        categories.sort_by(|a, b| a.id.cmp(&b.id));
        for (category, found) in categories.iter().zip(found.per_class) {
            let expected = expected["per_class_AP"][&category.name].as_f64().unwrap_or(-1.0);
            let found = recorded(found).unwrap();
            assert!((found - expected).abs() < 1e-12, "case {case}, {}", category.name);
        }
    }
}

#[test]
fn numbers_of_masks_are_those_of_pycocotools_to_the_last_digit() {
    let file = |what| golden_folder().join(format!("detection/masks_{what}.json"));
    let mut truth = CocoTruth::read(&file("gt")).unwrap();
    let mut results = read_results(&file("dt")).unwrap();
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(file("expected")).unwrap()).unwrap();
    for (found, name) in [
        (evaluate_masks(&truth, &results).unwrap(), "stats"),
        (evaluate(&truth, &results).unwrap(), "box_stats"),
    ] {
        for (place, found) in found.stats.iter().enumerate() {
            assert_eq!(recorded(*found), expected[name][place].as_f64(), "{name}, {place}");
        }
    }
    let by_class = evaluate_masks(&truth, &results).unwrap().per_class;
    for (name, found) in ["person", "car", "nothing of it"].iter().zip(by_class) {
        let expected = expected["per_class_AP"][name].as_f64().unwrap_or(-1.0);
        assert!((recorded(found).unwrap() - expected).abs() < 1e-12, "{name}");
    }
    results[4].segmentation = None;
    let refused = evaluate_masks(&truth, &results).unwrap_err().to_string();
    assert_eq!(refused, "result 4: expected a segmentation, found none");
    truth.images.iter_mut().for_each(|image| image.width = 150);
    let refused = evaluate_masks(&truth, &results[..4]).unwrap_err().to_string();
    // Outlines may reach beyond their image; runs may not.
    let (place, _) = truth.annotations.iter().enumerate().find(|(_, a)| a.iscrowd == 1).unwrap();
    let expected = format!(
        "annotation {place}: segmentation: `mask` is 160x200, expected a mask of the image's 160x150"
    );
    assert_eq!(refused, expected);
}

#[test]
fn wrong_results_are_refused() {
    let path = golden_folder().join("detection/coco0_gt.json");
    let mut truth = CocoTruth::read(&path).unwrap();
    let good = CocoResult {
        image_id: 1.into(),
        category_id: 2.into(),
        bbox: [0.0; 4],
        score: 0.5,
        segmentation: None,
    };
    let text = |result| evaluate(&truth, &[good.clone(), result]).unwrap_err().to_string();
    assert_eq!(
        text(CocoResult { score: f64::NAN, ..good.clone() }),
        "result 1: expected a finite score, found NaN"
    );
    assert_eq!(
        text(CocoResult { category_id: 77.into(), ..good.clone() }),
        "result 1: expected a known category, found id 77"
    );
    truth.images[1].id = 1.into();
    assert_eq!(
        evaluate(&truth, &[]).unwrap_err().to_string(),
        "image id 1: expected once, found again"
    );
}

#[test]
fn files_come_back_and_truncated_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    let result = CocoResult {
        image_id: (-3).into(),
        category_id: 9.into(),
        bbox: [0.1, 2.0, 0.0, 4.5],
        score: 0.3,
        segmentation: None,
    };
    std::fs::write(&path, serde_json::to_vec(&[&result]).unwrap()).unwrap();
    assert_eq!(read_results(&path).unwrap(), [result]);
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 9]).unwrap();
    let refused = read_results(&path).unwrap_err().to_string();
    let expected = format!("{}: EOF while parsing", path.display());
    assert!(refused.starts_with(&expected), "{refused}");
}

/// The same set with texts for ids and without areas: the boxes' areas are the file's here.
#[test]
fn ids_may_be_texts_and_areas_missing() {
    let read = |what| {
        let path = golden_folder().join(format!("detection/coco0_{what}.json"));
        serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).unwrap()).unwrap()
    };
    let (mut truth, mut results) = (read("gt"), read("dt"));
    for object in truth["annotations"].as_array_mut().unwrap() {
        let side = |i: usize| object["bbox"][i].as_f64().unwrap();
        object["area"] = (side(2) * side(3)).into();
    }
    let evaluated = |truth: &serde_json::Value, found: &serde_json::Value| {
        let truth = CocoTruth::parse(&truth.to_string()).unwrap();
        let found = super::results(&found.to_string()).unwrap();
        evaluate(&truth, &found).unwrap()
    };
    let expected = evaluated(&truth, &results);
    assert!(expected.stats[0].is_some_and(|ap| ap > 0.1));
    // Classes keep their order, so that those of each class can be compared.
    let text = |id: &mut serde_json::Value, kind: &str| {
        *id = format!("{kind}-{:04}", id.as_i64().unwrap()).into();
    };
    for object in truth["annotations"].as_array_mut().unwrap() {
        text(&mut object["image_id"], "image");
        text(&mut object["category_id"], "class");
        text(&mut object["id"], "object");
        object.as_object_mut().unwrap().remove("area");
    }
    for (list, kind) in [("images", "image"), ("categories", "class")] {
        truth[list].as_array_mut().unwrap().iter_mut().for_each(|one| text(&mut one["id"], kind));
    }
    for found in results.as_array_mut().unwrap() {
        text(&mut found["image_id"], "image");
        text(&mut found["category_id"], "class");
    }
    let found = evaluated(&truth, &results);
    assert_eq!((found.stats, found.per_class), (expected.stats, expected.per_class));
    results[0]["image_id"] = "nowhere".into();
    let truth = CocoTruth::parse(&truth.to_string()).unwrap();
    let found = super::results(&results.to_string()).unwrap();
    let refused = evaluate(&truth, &found).unwrap_err().to_string();
    assert_eq!(refused, "result 0: expected a known image, found id nowhere");
    let refused = super::results(r#"[{"image_id": null}]"#).unwrap_err().to_string();
    assert!(refused.contains("an id: a whole number or a text"), "{refused}");
}

#[test]
fn metrics_without_objects_are_undefined() {
    let path = golden_folder().join("detection/coco0_gt.json");
    let mut truth = CocoTruth::read(&path).unwrap();
    assert_eq!(evaluate(&truth, &[]).unwrap().stats[0], Some(0.0));
    truth.annotations.clear();
    assert_eq!(evaluate(&truth, &[]).unwrap().stats, [None; 12]);
}

/// Two objects on one image, the second one difficult, and detections of both.
fn pair(difficult: bool) -> (CocoTruth, Vec<CocoResult>) {
    let object = |id: i64, left: f64, difficult: bool| CocoAnnotation {
        id: id.into(),
        image_id: 1.into(),
        category_id: 1.into(),
        bbox: [left, 0.0, 40.0, 40.0],
        area: 1600.0,
        iscrowd: 0,
        difficult,
        segmentation: None,
    };
    let image = super::CocoImage { id: 1.into(), file_name: "a".into(), width: 200, height: 50 };
    let truth = CocoTruth {
        images: vec![image],
        annotations: vec![object(1, 0.0, false), object(2, 100.0, difficult)],
        categories: vec![super::CocoCategory { id: 1.into(), name: "person".into() }],
    };
    let found = |left: f64, score: f64| CocoResult {
        image_id: 1.into(),
        category_id: 1.into(),
        bbox: [left, 0.0, 40.0, 40.0],
        score,
        segmentation: None,
    };
    // The best two are on the second object; then the first; then part of the second.
    let results = vec![found(100.0, 0.9), found(101.0, 0.8), found(0.0, 0.7)];
    (truth, results)
}

#[test]
fn difficult_objects_are_neither_right_nor_wrong() {
    let (truth, results) = pair(true);
    // Only the first object counts, and its detection is the only one that does.
    // In pycocotools' arithmetic the best is a little below 1.
    let is_best = |share: f64| (share - 1.0).abs() < 1e-12;
    assert!(is_best(evaluate(&truth, &results).unwrap().stats[0].unwrap()));
    assert_eq!(evaluate(&truth, &results[..2]).unwrap().stats[0], Some(0.0));
    // Unlike a crowd, it does not excuse a small detection inside it.
    let inside = CocoResult { bbox: [110.0, 10.0, 5.0, 5.0], score: 0.95, ..results[0].clone() };
    let with = |truth: &CocoTruth| {
        let results = [results.clone(), vec![inside.clone()]].concat();
        evaluate(truth, &results).unwrap().stats[0].unwrap()
    };
    assert!((with(&truth) - 0.5).abs() < 1e-12, "{}", with(&truth));
    let mut crowd = truth.clone();
    (crowd.annotations[1].difficult, crowd.annotations[1].iscrowd) = (false, 1);
    assert!(is_best(with(&crowd)));
    let (all, results) = pair(false);
    let found = evaluate(&all, &results).unwrap().stats[0].unwrap();
    assert!(found < 0.9, "the second detection of an object is wrong: {found}");
    let text = serde_json::to_string(&truth).unwrap();
    assert_eq!(serde_json::from_str::<CocoTruth>(&text).unwrap(), truth);
}
