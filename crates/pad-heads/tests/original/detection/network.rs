//! The whole network: maps, proposals, detections; losses and all gradients on recorded samples.

use candle_core::{DType, Device, Tensor};
use pad_adapter::{AdapterConfig, vit::ViTConfig};
use pad_heads::detection::{
    Boxes, Detection, DetectionBatch, DetectionTargets, Detector, DetectorConfig, LossSamples,
    RoiHeadsConfig, RoiSamples, RpnConfig, RpnSamples, Target, TopN, rescaled,
};
use pad_ops::{ImageSize, Mode};
use pad_testkit::close;

use super::table;
use crate::recorded::Recorded;

const SIZES: [ImageSize; 2] = [ImageSize::new(96, 128), ImageSize::new(117, 101)];

pub(super) fn config() -> DetectorConfig {
    let adapter = AdapterConfig { bottleneck: 6, dropout: 0.0, ..AdapterConfig::default() };
    DetectorConfig {
        vit: ViTConfig {
            image_size: ImageSize::square(96),
            adapter: Some(adapter),
            ..ViTConfig::new(16, 24, 4, 3)
        },
        window: Some(3),
        global_blocks: vec![2],
        relative_size: ImageSize::square(128),
        channels: 8,
        head_dim: 20,
        rpn: RpnConfig {
            anchor_sizes: vec![8.0, 16.0, 32.0, 64.0, 128.0],
            pre_nms_top_n: TopN { train: 300, test: 200 },
            post_nms_top_n: TopN { train: 120, test: 80 },
            ..RpnConfig::default()
        },
        roi: RoiHeadsConfig { batch_size_per_image: 32, ..RoiHeadsConfig::default() },
        ..DetectorConfig::default()
    }
}

/// Both images, normalised, at the upper left of 128 x 128 zeros.
fn images(recorded: &Recorded) -> Tensor {
    let image = |i: usize| {
        let image = recorded.get(&format!("input.image{i}")).to_dtype(DType::F32).unwrap();
        let image = ((image - 96.9255).unwrap() / 47.8976).unwrap();
        let (_, height, width) = image.dims3().unwrap();
        let image = image.pad_with_zeros(1, 0, 128 - height).unwrap();
        image.pad_with_zeros(2, 0, 128 - width).unwrap()
    };
    Tensor::stack(&[image(0), image(1)], 0).unwrap()
}

#[test]
fn detections_equal_the_original() {
    let recorded = Recorded::detection("faster_rcnn_eval");
    let detector = recorded.store.build(|vb| Detector::new(&config(), vb)).unwrap();
    let images = images(&recorded);
    let features = detector.features(&images, Mode::Eval).unwrap();
    close("features", &features, recorded.get("out.last_feat"), 1e-4);
    let maps = detector.maps(&images, Mode::Eval).unwrap();
    for (i, map) in maps.iter().enumerate() {
        close("a map", map, recorded.get(&format!("out.p{}", i + 2)), 1e-4);
    }
    let output = detector.rpn().forward(&maps).unwrap();
    let anchors = detector.rpn().anchors(&output).unwrap();
    let proposals = detector.rpn().proposals(&output, &anchors, &SIZES, Mode::Eval).unwrap();
    let found = detector.detect(&images, &SIZES).unwrap();
    let ends = [ImageSize::new(192, 256), ImageSize::new(94, 81)];
    for image in 0..2 {
        let want = |what: &str| recorded.get(&format!("out.{what}{image}"));
        close("proposals", &table(&proposals[image].boxes), want("proposals"), 1e-4);
        let same = |found: &[Detection], boxes: &str, scores: &str, classes: &str| {
            let ours: Boxes = found.iter().map(|one| one.bbox).collect();
            close(boxes, &table(&ours), want(boxes), 1e-4);
            let ours: Vec<f32> = found.iter().map(|one| one.score).collect();
            close(scores, &Tensor::new(ours, &Device::Cpu).unwrap(), want(scores), 1e-4);
            let ours: Vec<i64> = found.iter().map(|one| i64::from(one.label)).collect();
            assert_eq!(ours, recorded.integers(&format!("out.{classes}{image}")));
        };
        same(&found[image], "raw_boxes", "raw_scores", "raw_classes");
        let end = rescaled(&found[image], SIZES[image], ends[image]);
        same(&end, "boxes", "scores", "classes");
    }
}

#[test]
fn losses_and_gradients_equal_the_original() {
    let recorded = Recorded::detection("faster_rcnn_train");
    let detector = recorded.store.build(|vb| Detector::new(&config(), vb)).unwrap();
    let labels = |name: String| -> Vec<u32> {
        recorded.integers(&name).into_iter().map(|label| label as u32).collect()
    };
    let target = |image: usize| Target {
        boxes: recorded.boxes(&format!("input.gt_boxes{image}")),
        labels: labels(format!("input.gt_classes{image}")),
        ..Target::default()
    };
    let rpn = |image: usize| {
        let sampled = recorded.integers(&format!("input.rpn_labels{image}"));
        let of = |wanted: i64| -> Vec<usize> {
            (0..sampled.len()).filter(|&at| sampled[at] == wanted).collect()
        };
        let boxes = recorded.boxes(&format!("input.rpn_pos_matched_boxes{image}"));
        RpnSamples { positives: of(1), boxes, negatives: of(0) }
    };
    let roi = |image: usize| RoiSamples {
        boxes: recorded.boxes(&format!("input.roi_boxes{image}")),
        labels: labels(format!("input.roi_classes{image}")),
        targets: recorded.boxes(&format!("input.roi_gt_boxes{image}")),
        ..Default::default()
    };
    let labels = DetectionTargets { sizes: SIZES.to_vec(), targets: vec![target(0), target(1)] };
    let batch = DetectionBatch::new(images(&recorded), labels);
    let samples = LossSamples { rpn: vec![rpn(0), rpn(1)], roi: vec![roi(0), roi(1)] };
    let losses = detector.losses_on(&batch, samples, Mode::Eval).unwrap();
    for (part, name) in [
        ("rpn_cls", "loss_rpn_cls"),
        ("rpn_loc", "loss_rpn_loc"),
        ("cls", "loss_cls"),
        ("box_reg", "loss_box_reg"),
    ] {
        let (_, loss) = losses.parts.iter().find(|(name, _)| *name == part).unwrap();
        close(name, &loss.reshape(1).unwrap(), recorded.get(&format!("out.{name}")), 1e-4);
    }
    close("loss", &losses.total.reshape(1).unwrap(), recorded.get("out.loss"), 1e-4);
    recorded.gradients_equal(&losses.total);
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let recorded = Recorded::detection("faster_rcnn_eval");
    let detector = recorded.store.build(|vb| Detector::new(&config(), vb)).unwrap();
    let labels = DetectionTargets {
        sizes: SIZES.to_vec(),
        targets: vec![
            Target { boxes: vec![[1.0, 1.0, 9.0, 9.0]], labels: vec![0], ..Default::default() },
            Target::default(),
        ],
    };
    let good = DetectionBatch::new(images(&recorded), labels);
    detector.losses(&good, Mode::Eval).unwrap();
    let refused = |change: &dyn Fn(&mut DetectionBatch)| {
        let mut batch = good.clone();
        change(&mut batch);
        detector.losses(&batch, Mode::Eval).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&|batch| batch.labels.sizes.truncate(1)),
        "batch: 1 sizes, expected one for each of 2 images"
    );
    assert_eq!(
        refused(&|batch| batch.labels.sizes[1].height = 129),
        "batch: an image of size 129x101, expected at least 1x1, at most 128x128, the batch's"
    );
    assert_eq!(
        refused(&|batch| batch.labels.targets.truncate(1)),
        "batch: 1 targets, expected one for each of 2 images"
    );
    assert_eq!(
        refused(&|batch| batch.labels.targets[0].labels.clear()),
        "batch: image 0 with 0 labels, expected one for each of its 1 boxes"
    );
    assert_eq!(
        refused(&|batch| batch.labels.targets[0].labels[0] = 3),
        "batch: image 0 with label 3, expected less than 3"
    );
    for bbox in [[1.0, 1.0, 129.0, 9.0], [5.0, 5.0, 5.0, 9.0], [f32::NAN, 0.0, 5.0, 5.0]] {
        assert_eq!(
            refused(&|batch| batch.labels.targets[0].boxes[0] = bbox),
            format!(
                "batch: image 0 with box {bbox:?}, expected boxes of an area above 0 inside its 96x128"
            )
        );
    }
    // Any size of image, however small.
    let small = Tensor::zeros((1, 3, 5, 23), DType::F32, &Device::Cpu).unwrap();
    let found = detector.detect(&small, &[ImageSize::new(5, 23)]).unwrap();
    assert!(found[0].iter().all(|one| one.bbox[2] <= 23.0 && one.bbox[3] <= 5.0));
}
