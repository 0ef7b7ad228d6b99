//! From sets to batches: scenes, the loader, the pipeline.

use serde_json::json;
use tempfile::TempDir;

use super::fixtures::{pictures, write};
use crate::{
    Result,
    dataset::Dataset,
    image::Pixels,
    loader::{DetectionBatch, Loader, LoaderConfig},
    scenes::{SceneConfig, Size},
    sets::detection::*,
    transform::detection::{DetectionPipeline, DetectionTargets, batch_of},
};

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
