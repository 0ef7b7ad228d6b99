//! HIT-UAV as its authors publish it.

use std::fs;

use pad_data::{Dataset, sets::detection::DetectionOptions};

use super::support::{
    SQUARE, case, check_square, classes, copy, copy_all, labels, names, open, open_at, train,
};

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
