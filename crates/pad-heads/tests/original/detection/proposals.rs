//! The region proposal network.

use candle_core::{Tensor, Var};
use pad_adapter::params::Planned;
use pad_heads::detection::{
    Boxes, Rpn, RpnConfig, RpnSamples, Target, TopN,
    matching::{Label, Matcher},
};
use pad_ops::{ImageSize, Mode, rng::Key};
use pad_testkit::close;

use super::{scalar, table};
use crate::recorded::Recorded;

const SIZES: [ImageSize; 3] =
    [ImageSize::new(60, 90), ImageSize::new(64, 96), ImageSize::new(50, 77)];
const STRIDES: [f32; 5] = [4.0, 8.0, 16.0, 32.0, 64.0];

fn config() -> RpnConfig {
    RpnConfig {
        anchor_sizes: vec![8.0, 16.0, 32.0, 64.0, 128.0],
        pre_nms_top_n: TopN { train: 100, test: 100 },
        post_nms_top_n: TopN { train: 40, test: 40 },
        ..RpnConfig::default()
    }
}

fn build(recorded: &Recorded) -> Rpn {
    recorded.store.build(|vb| Rpn::new(&config(), 8, &STRIDES, vb)).unwrap()
}

fn maps(recorded: &Recorded) -> (Vec<Var>, Vec<Tensor>) {
    let maps: Vec<Var> = (2..7)
        .map(|level| Var::from_tensor(recorded.get(&format!("input.p{level}"))).unwrap())
        .collect();
    let tracked = maps.iter().map(|map| map.as_tensor().clone()).collect();
    (maps, tracked)
}

fn objects(recorded: &Recorded, image: usize) -> Boxes {
    let name = format!("input.gt_boxes{image}");
    if recorded.has(&name) { recorded.boxes(&name) } else { Boxes::new() }
}

#[test]
fn outputs_anchors_and_proposals_equal_the_original() {
    let recorded = Recorded::detection("rpn");
    let rpn = build(&recorded);
    let output = rpn.forward(&maps(&recorded).1).unwrap();
    let anchors = rpn.anchors(&output).unwrap();
    assert_eq!(anchors.len(), 5);
    for (i, anchors) in anchors.iter().enumerate() {
        let level = i + 2;
        let want = |what: &str| recorded.get(&format!("out.{what}_p{level}"));
        close("logits", &output.logits[i], want("logits"), 1e-4);
        close("deltas", &output.deltas[i], want("deltas"), 1e-4);
        close("anchors", &table(anchors), want("anchors"), 1e-6);
    }
    let proposals = rpn.proposals(&output, &anchors, &SIZES, Mode::Eval).unwrap();
    for (image, proposals) in proposals.iter().enumerate() {
        let want = recorded.get(&format!("out.proposals{image}"));
        close("proposals", &table(&proposals.boxes), want, 1e-4);
        let logits = Tensor::new(proposals.logits.as_slice(), want.device()).unwrap();
        close("logits", &logits, recorded.get(&format!("out.proposal_logits{image}")), 1e-4);
    }
}

#[test]
fn labels_losses_and_gradients_equal_the_original() {
    let recorded = Recorded::detection("rpn");
    let rpn = build(&recorded);
    let (vars, maps) = maps(&recorded);
    let output = rpn.forward(&maps).unwrap();
    let anchors = rpn.anchors(&output).unwrap();
    let all = anchors.concat();
    let matcher =
        Matcher { low_threshold: 0.3, high_threshold: 0.7, allow_low_quality_matches: true };
    let mut samples = Vec::new();
    for image in 0..3 {
        let matches = matcher.boxes(&objects(&recorded, image), &all);
        let number = |label: &Label| match label {
            Label::Ignored => -1,
            Label::Background => 0,
            Label::Object => 1,
        };
        let labels: Vec<i64> = matches.labels.iter().map(number).collect();
        assert_eq!(labels, recorded.integers(&format!("out.match_labels{image}")));
        let index: Vec<i64> = matches.objects.iter().map(|&object| object as i64).collect();
        assert_eq!(index, recorded.integers(&format!("out.match_index{image}")));
        let sampled = recorded.integers(&format!("input.sampled_labels{image}"));
        let boxes = recorded.boxes(&format!("input.matched_boxes{image}"));
        let of = |wanted: i64| -> Vec<usize> {
            (0..sampled.len()).filter(|&at| sampled[at] == wanted).collect()
        };
        let positives = of(1);
        let boxes = positives.iter().map(|&at| boxes[at]).collect();
        samples.push(RpnSamples { positives, boxes, negatives: of(0) });
    }
    let (classes, places) = rpn.losses(&output, &anchors, &samples).unwrap();
    let near = |got: &Tensor, name: &str| {
        close(name, &got.reshape(1).unwrap(), recorded.get(name), 1e-5);
    };
    near(&classes, "out.loss_rpn_cls");
    near(&places, "out.loss_rpn_loc");
    let loss = (classes + places).unwrap();
    recorded.gradients_equal(&loss);
    let grads = loss.backward().unwrap();
    for (i, var) in vars.iter().enumerate() {
        let name = format!("grad.input.p{}", i + 2);
        close(&name, grads.get(var).unwrap(), recorded.get(&name), 1e-3);
    }
}

#[test]
fn draws_are_fixed_by_their_key_and_keep_the_counts() {
    let recorded = Recorded::detection("rpn");
    let rpn = build(&recorded);
    let output = rpn.forward(&maps(&recorded).1).unwrap();
    let anchors = rpn.anchors(&output).unwrap();
    let target = |image| {
        let boxes = objects(&recorded, image);
        Target { labels: vec![0; boxes.len()], boxes, ..Default::default() }
    };
    let targets: Vec<Target> = (0..3).map(target).collect();
    let mode = Mode::Train(Key::new(1).epoch(5));
    let samples = rpn.sample(&anchors, &targets, mode);
    for (image, (positives, negatives)) in [(3, 253), (6, 250), (0, 256)].into_iter().enumerate() {
        let sample = &samples[image];
        assert_eq!((sample.positives.len(), sample.negatives.len()), (positives, negatives));
        assert_eq!(sample.boxes.len(), positives);
    }
    assert_eq!(rpn.sample(&anchors, &targets, mode), samples);
    let other = rpn.sample(&anchors, &targets, Mode::Train(Key::new(1).epoch(6)));
    assert_ne!(other[0].negatives, samples[0].negatives);
    // Samples of another number of anchors or boxes.
    let all: usize = anchors.iter().map(Vec::len).sum();
    let beyond = RpnSamples { negatives: vec![all], ..Default::default() };
    let error = rpn.losses(&output, &anchors, &[beyond]).unwrap_err().to_string();
    assert!(error.contains(&format!("samples below {all} anchors")), "{error}");
    let bare = RpnSamples { positives: vec![0, 1], ..Default::default() };
    let error = rpn.losses(&output, &anchors, &[bare]).unwrap_err().to_string();
    assert!(error.contains("a box for each of 2 positives"), "{error}");
    // Nothing to learn from is no loss, with gradients of zero.
    let none: [RpnSamples; 3] = Default::default();
    let (classes, places) = rpn.losses(&output, &anchors, &none).unwrap();
    assert_eq!((scalar(&classes), scalar(&places)), (0.0, 0.0));
    let grads = (classes + places).unwrap().backward().unwrap();
    for Planned { var, .. } in recorded.store.planned() {
        assert_eq!(pad_testkit::largest(grads.get(&var).unwrap()), 0.0);
    }
}

#[test]
fn what_is_not_finite_is_not_proposed() {
    let recorded = Recorded::detection("rpn");
    let rpn = build(&recorded);
    let (_, mut maps) = maps(&recorded);
    maps[0] = (&maps[0] * f64::NAN).unwrap();
    let output = rpn.forward(&maps).unwrap();
    let anchors = rpn.anchors(&output).unwrap();
    let proposals = rpn.proposals(&output, &anchors, &SIZES, Mode::Eval).unwrap();
    let refused = rpn.proposals(&output, &anchors, &SIZES[..2], Mode::Eval).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "batch: 4608 logits and 18432 deltas, expected 1 and 4 for each of 1536 anchors of 2 images"
    );
    for image in proposals {
        assert!(!image.boxes.is_empty());
        assert!(image.boxes.iter().flatten().chain(&image.logits).all(|value| value.is_finite()));
    }
}
