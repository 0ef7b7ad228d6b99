//! Coding, clipping, matching.

use pad_heads::detection::{
    boxes::{BoxCoder, area, clipped, has_area},
    matching::{Label, Matcher},
};
use pad_ops::ImageSize;
use pad_testkit::close;

use super::table;
use crate::recorded::Recorded;

#[test]
fn coding_equals_the_original() {
    let recorded = Recorded::detection("boxes");
    let (source, target) = (recorded.boxes("input.src"), recorded.boxes("input.tgt"));
    let weighted = BoxCoder { weights: [10.0, 10.0, 5.0, 5.0] };
    for (name, coder) in [("rpn", BoxCoder::ANCHORS), ("roi", weighted)] {
        let pairs = || source.iter().zip(&target);
        let codes: Vec<[f32; 4]> = pairs().map(|(&a, &b)| coder.encode(a, b)).collect();
        close(name, &table(&codes), recorded.get(&format!("out.encode_{name}")), 1e-5);
        let back: Vec<[f32; 4]> =
            source.iter().zip(&codes).map(|(&a, code)| coder.decode(a, code)).collect();
        close(name, &table(&back), recorded.get(&format!("out.decode_encoded_{name}")), 1e-5);
        let deltas = recorded.boxes(&format!("input.deltas_{name}"));
        let classes = deltas.len() / source.len();
        let decoded: Vec<[f32; 4]> = deltas
            .iter()
            .enumerate()
            .map(|(i, deltas)| coder.decode(source[i / classes], deltas))
            .collect();
        let want = table(&recorded.boxes(&format!("out.decode_{name}")));
        close(name, &table(&decoded), &want, 1e-5);
    }
    let degenerate = recorded.boxes("input.degenerate");
    let deltas = recorded.boxes("input.degenerate_deltas");
    let decoded: Vec<[f32; 4]> =
        degenerate.iter().zip(&deltas).map(|(&a, d)| BoxCoder::ANCHORS.decode(a, d)).collect();
    close("degenerate", &table(&decoded), recorded.get("out.decode_degenerate"), 1e-5);
    // What is not a number shows.
    let nan = BoxCoder::ANCHORS.decode([0.0, 0.0, 1.0, 1.0], &[0.0, 0.0, f32::NAN, 0.0]);
    assert!(nan[0].is_nan() && nan[2].is_nan());
}

#[test]
fn clipping_equals_the_original() {
    let recorded = Recorded::detection("boxes");
    let size = ImageSize::new(280, 350);
    let boxes = recorded.boxes("input.to_clip");
    let inside: Vec<[f32; 4]> = boxes.iter().map(|&bbox| clipped(bbox, size)).collect();
    assert_eq!(inside, recorded.boxes("out.clipped"));
    // Recorded of the boxes as they are, or as they were clipped?
    let flags = |boxes: &[[f32; 4]]| -> Vec<i64> {
        boxes.iter().map(|&bbox| i64::from(has_area(bbox))).collect()
    };
    let areas = |boxes: &[[f32; 4]]| -> Vec<f32> { boxes.iter().copied().map(area).collect() };
    let want = recorded.integers("out.nonempty");
    assert!(flags(&boxes) == want || flags(&inside) == want);
    let want = recorded.get("out.area").to_vec1::<f32>().unwrap();
    assert!(areas(&boxes) == want || areas(&inside) == want);
}

#[test]
fn matching_equals_the_original() {
    let recorded = Recorded::detection("boxes");
    let quality = recorded.get("input.match_quality").to_vec2::<f32>().unwrap();
    let number = |label: &Label| match label {
        Label::Ignored => -1,
        Label::Background => 0,
        Label::Object => 1,
    };
    let matchers = [
        (
            "rpn",
            Matcher { low_threshold: 0.3, high_threshold: 0.7, allow_low_quality_matches: true },
        ),
        (
            "roi",
            Matcher { low_threshold: 0.5, high_threshold: 0.5, allow_low_quality_matches: false },
        ),
    ];
    for (name, matcher) in matchers {
        let matches = matcher.overlaps(quality.len(), quality[0].len(), |range| {
            quality.iter().flat_map(|row| row[range.clone()].to_vec()).collect()
        });
        let objects: Vec<i64> = matches.objects.iter().map(|&object| object as i64).collect();
        assert_eq!(objects, recorded.integers(&format!("out.match_idx_{name}")), "{name}");
        let labels: Vec<i64> = matches.labels.iter().map(number).collect();
        assert_eq!(labels, recorded.integers(&format!("out.match_labels_{name}")), "{name}");
    }
}
