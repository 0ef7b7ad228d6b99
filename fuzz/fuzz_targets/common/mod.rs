//! A folder with one picture of 40 x 60, whose labels a target writes.

use std::{fs, path::Path};

use pad_data::{
    Dataset, Result,
    draw::Canvas,
    sets::detection::{DetectionOptions, DetectionSet, Object},
};
use pad_ops::ImageSize;
use tempfile::TempDir;

/// Writes `images/train/a.png`.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["images/train", "labels/train", "Annotations", "annotations"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    let picture = Canvas::new(ImageSize::new(40, 60), [90; 3]);
    picture.save_png(folder.path().join("images/train/a.png")).unwrap();
    folder
}

/// Opens the folder, with and without masks: what opens has boxes and masks inside their images and
/// classes of its set, under numbers of their own.
pub(crate) fn check(root: &Path, format: &str, masks: bool) {
    for max_faulty in [0.0, 1.0] {
        let options = DetectionOptions { masks, max_faulty, ..DetectionOptions::default() };
        let opened: Result<DetectionSet> =
            DetectionSet::open(root, "train", format.parse().unwrap(), &options);
        match opened {
            Ok(set) => check_set(&set, masks),
            Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
        }
    }
}

fn check_set(set: &DetectionSet, masks: bool) {
    let mut ids = std::collections::BTreeSet::new();
    for index in 0..set.len() {
        let labels = set.info(index).unwrap();
        let (height, width) = (labels.size.height as f64, labels.size.width as f64);
        for Object { bbox: [x1, y1, x2, y2], class, area, mask, id, .. } in &labels.objects {
            assert!(0.0 <= *x1 && x1 < x2 && *x2 <= width);
            assert!(0.0 <= *y1 && y1 < y2 && *y2 <= height);
            assert!((*class as usize) < set.classes().len());
            assert!(*area >= 0.0 && area.is_finite());
            assert!(ids.insert(*id));
            assert_eq!(mask.is_some(), masks);
            if let Some(mask) = mask {
                assert_eq!(mask.size(), labels.size);
                assert!(mask.area() > 0);
            }
        }
    }
}
