//! Heads on boxes.

use candle_core::{DType, Device, Tensor, Var};
use pad_adapter::params::{ParamStore, Planned};
use pad_heads::detection::{
    Boxes, DetectorConfig, RoiHeads, RoiHeadsConfig, RoiSamples, Target, level_of,
};
use pad_ops::{ImageSize, Mode, rng::Key};
use pad_testkit::{close, largest, numbers};

use super::table;
use crate::recorded::Recorded;

const SIZES: [ImageSize; 2] = [ImageSize::new(250, 311), ImageSize::new(256, 320)];

fn config(class_agnostic: bool, max_detections: usize) -> DetectorConfig {
    DetectorConfig {
        channels: 8,
        head_dim: 20,
        roi: RoiHeadsConfig {
            class_agnostic,
            batch_size_per_image: 32,
            ..RoiHeadsConfig::default()
        },
        max_detections,
        ..DetectorConfig::default()
    }
}

/// The recorded head's first convolution takes 4 channels, ours as many as the pyramid has: the
/// other 4 are zero.
fn widened(map: &Tensor) -> Tensor {
    Tensor::cat(&[map, &map.zeros_like().unwrap()], 1).unwrap()
}

fn open(file: &str) -> Recorded {
    Recorded::detection_with(file, |name, value| match name {
        "box_head.conv1.weight" => widened(&value),
        _ => value,
    })
}

fn maps(recorded: &Recorded) -> (Vec<Var>, Vec<Tensor>) {
    let maps: Vec<Var> = (2..6)
        .map(|level| Var::from_tensor(recorded.get(&format!("input.p{level}"))).unwrap())
        .collect();
    let tracked = maps.iter().map(|map| widened(map.as_tensor())).collect();
    (maps, tracked)
}

fn equals_the_original(file: &str, class_agnostic: bool, max_detections: usize) {
    let recorded = open(file);
    let heads = recorded
        .store
        .build(|vb| RoiHeads::new(&config(class_agnostic, max_detections), vb))
        .unwrap();
    let (vars, maps) = maps(&recorded);
    // Evaluation.
    let proposals: Vec<Boxes> =
        (0..2).map(|image| recorded.boxes(&format!("input.proposals{image}"))).collect();
    let slices: Vec<&[[f32; 4]]> = proposals.iter().map(Vec::as_slice).collect();
    let output = heads.forward(&maps, &slices, 0).unwrap();
    close("logits", &output.logits, recorded.get("out.eval.logits"), 1e-4);
    close("deltas", &output.deltas, recorded.get("out.eval.deltas"), 1e-4);
    let found = heads.detect(&maps, &proposals, &SIZES).unwrap();
    for (image, found) in found.iter().enumerate() {
        let want = |what: &str| recorded.get(&format!("out.det.{what}{image}"));
        let boxes: Boxes = found.iter().map(|one| one.bbox).collect();
        close("boxes", &table(&boxes), want("boxes"), 1e-4);
        let scores: Vec<f32> = found.iter().map(|one| one.score).collect();
        let scores = Tensor::new(scores, &Device::Cpu).unwrap();
        close("scores", &scores, want("scores"), 1e-4);
        let labels: Vec<i64> = found.iter().map(|one| i64::from(one.label)).collect();
        assert_eq!(labels, recorded.integers(&format!("out.det.classes{image}")));
    }
    // Training on the recorded samples.
    let sample = |image: usize| RoiSamples {
        boxes: recorded.boxes(&format!("input.sampled_boxes{image}")),
        labels: recorded
            .integers(&format!("input.sampled_classes{image}"))
            .into_iter()
            .map(|label| label as u32)
            .collect(),
        targets: recorded.boxes(&format!("input.sampled_gt_boxes{image}")),
        ..Default::default()
    };
    let samples: Vec<RoiSamples> = (0..2).map(sample).collect();
    let slices: Vec<&[[f32; 4]]> = samples.iter().map(|image| &image.boxes[..]).collect();
    let pooled = heads.pooled(&maps, &slices).unwrap().narrow(1, 0, 4).unwrap();
    for (image, first) in [(0, 0), (1, samples[0].boxes.len())] {
        let want = recorded.get(&format!("out.train.pooled_first2_{image}"));
        close("pooled", &pooled.narrow(0, first, 2).unwrap(), want, 1e-4);
    }
    let output = heads.forward(&maps, &slices, 0).unwrap();
    close("logits", &output.logits, recorded.get("out.train.logits"), 1e-4);
    close("deltas", &output.deltas, recorded.get("out.train.deltas"), 1e-4);
    let (classes, places) = heads.losses(&output, &samples, 0).unwrap();
    for (name, loss) in [("out.loss_cls", &classes), ("out.loss_box_reg", &places)] {
        close(name, &loss.reshape(1).unwrap(), recorded.get(name), 1e-5);
    }
    let loss = (classes + places).unwrap();
    let grads = loss.backward().unwrap();
    for Planned { name, var, .. } in recorded.store.planned() {
        let got = grads.get(&var).unwrap();
        let got = match name.as_str() {
            "box_head.conv1.weight" => got.narrow(1, 0, 4).unwrap(),
            _ => got.clone(),
        };
        close(&name, &got, recorded.get(&format!("grad.{name}")), 1e-3);
    }
    for (i, var) in vars.iter().enumerate() {
        let want = recorded.get(&format!("grad.input.p{}", i + 2));
        match (grads.get(var), largest(want)) {
            (Some(got), 0.0) => assert_eq!(largest(got), 0.0),
            (Some(got), _) => close("gradient of a map", got, want, 1e-3),
            (None, most) => assert_eq!(most, 0.0),
        }
    }
}

#[test]
fn boxes_for_each_class() {
    equals_the_original("box_head", false, 100);
}

#[test]
fn boxes_for_all_classes() {
    equals_the_original("box_head_agnostic", true, 15);
}

#[test]
fn levels_equal_the_original() {
    let recorded = Recorded::detection("roi_align");
    let boxes = [recorded.boxes("input.boxes0"), recorded.boxes("input.boxes1")].concat();
    let levels: Vec<i64> = boxes.into_iter().map(|bbox| level_of(bbox) as i64).collect();
    assert_eq!(levels, recorded.integers("out.levels"));
}

fn scratch(config: &DetectorConfig) -> RoiHeads {
    let store = ParamStore::scratch(&Device::Cpu, Key::new(4)).with_trained(|_| true);
    store.build(|vb| RoiHeads::new(config, vb)).unwrap()
}

#[test]
fn samples_are_proposals_and_objects() {
    let heads = scratch(&config(false, 10));
    let target = Target {
        boxes: vec![[10.0, 10.0, 30.0, 30.0], [50.0, 5.0, 60.0, 25.0]],
        labels: vec![2, 0],
        ..Default::default()
    };
    let mut proposals: Boxes = (0..100)
        .map(|i| {
            let x = i as f32 * 3.0;
            [x, 100.0, x + 5.0, 120.0]
        })
        .collect();
    proposals.push([11.0, 10.0, 30.0, 30.0]);
    let empty = Target::default();
    let all = [proposals.clone(), proposals];
    let mode = Mode::Train(Key::new(3));
    let samples = heads.sample(&all, &[target.clone(), empty.clone()], mode);
    assert_eq!(samples[0].boxes.len(), 32);
    let objects: Vec<(u32, [f32; 4])> = samples[0]
        .labels
        .iter()
        .zip(&samples[0].targets)
        .filter(|(label, _)| **label < 3)
        .map(|(&label, &bbox)| (label, bbox))
        .collect();
    // The good proposal and both objects' own boxes.
    let [first, second] = [target.boxes[0], target.boxes[1]];
    assert_eq!(objects, [(2, first), (2, first), (0, second)]);
    assert!(samples[1].labels.iter().all(|&label| label == 3));
    assert_eq!(heads.sample(&all, &[target, empty], mode), samples);
}

#[test]
fn a_cascade_trains_and_detects() {
    let config = DetectorConfig { cascade: true, score_threshold: 0.0, ..config(false, 20) };
    let store = ParamStore::scratch(&Device::Cpu, Key::new(4)).with_trained(|_| true);
    let heads = store.build(|vb| RoiHeads::new(&config, vb)).unwrap();
    let maps: Vec<Var> = [64, 32, 16, 8]
        .map(|side| {
            Var::from_tensor(&numbers(&[1, 8, side, side], DType::F32, side as u64)).unwrap()
        })
        .to_vec();
    let tracked: Vec<Tensor> = maps.iter().map(|map| map.as_tensor().clone()).collect();
    let target =
        Target { boxes: vec![[10.0, 10.0, 90.0, 80.0]], labels: vec![1], ..Default::default() };
    let proposals = [vec![[12.0, 8.0, 95.0, 80.0], [100.0, 100.0, 200.0, 220.0]]];
    let targets = [target];
    let sizes = [ImageSize::square(256)];
    let samples = heads.sample(&proposals, &targets, Mode::Train(Key::new(1)));
    let (classes, places) = heads.train(&tracked, samples, &targets, &sizes).unwrap();
    // Three cross-entropies of nearly equal logits.
    let chance = 3.0 * 4.0_f32.ln();
    assert!((super::scalar(&classes) - chance).abs() < 0.3, "{classes}");
    let grads = (classes + places).unwrap().backward().unwrap();
    let names: Vec<String> = store.planned().into_iter().map(|planned| planned.name).collect();
    assert!(names.contains(&"box_head.2.conv4.norm.weight".to_string()));
    assert!(names.contains(&"box_predictor.0.cls_score.weight".to_string()));
    for Planned { name, var, .. } in store.planned() {
        // The signs that L1 sends to a bias may cancel.
        let got = largest(grads.get(&var).unwrap());
        assert!(got > 0.0 || name.ends_with("bbox_pred.bias"), "{name}");
    }
    assert!(largest(grads.get(&maps[0]).unwrap()) > 0.0);
    let found = heads.detect(&tracked, &proposals, &sizes).unwrap();
    assert!(!found[0].is_empty() && found[0].len() <= 20);
    assert!(found[0].windows(2).all(|pair| pair[0].score >= pair[1].score));
    let none = heads.detect(&tracked, &[Boxes::new()], &sizes).unwrap();
    assert!(none.len() == 1 && none[0].is_empty());
}

#[test]
fn refusals() {
    let heads = scratch(&config(false, 10));
    let map = numbers(&[1, 8, 8, 8], DType::F32, 1);
    let boxes: &[[f32; 4]] = &[[0.0, 0.0, 5.0, 5.0]];
    assert_eq!(
        heads.forward(std::slice::from_ref(&map), &[boxes], 0).unwrap_err().to_string(),
        "box head: 1 feature maps, expected 4"
    );
    let maps = vec![map; 4];
    assert_eq!(
        heads.forward(&maps, &[boxes], 1).unwrap_err().to_string(),
        "detector: stage 1, expected less than 1"
    );
    let wrong = DetectorConfig {
        classes: 0,
        score_threshold: f64::NAN,
        rpn: pad_heads::detection::RpnConfig {
            iou_thresholds: [0.7, 0.3],
            anchor_sizes: vec![1.0],
            aspect_ratios: vec![-1.0],
            ..Default::default()
        },
        roi: RoiHeadsConfig { smooth_l1_beta: -1.0, ..RoiHeadsConfig::default() },
        ..DetectorConfig::default()
    };
    assert_eq!(
        wrong.validate().unwrap_err().to_string(),
        "detector: `classes` is 0, expected at least 1; `score_threshold` is NaN, expected between 0 and 1; `rpn.iou_thresholds` are 0.7 \
         and 0.3, expected the lower first; `rpn.anchor_sizes` has 1 entries, expected 5; `rpn.aspect_ratios`: expected \
         finite ratios above 0; `roi.smooth_l1_beta` is -1, expected a finite number >= 0"
    );
    DetectorConfig::default().validate().unwrap();
}
