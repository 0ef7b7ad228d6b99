//! Operators on boxes: RoIAlign against its reference, finite differences and the recorded results
//! of detectron2; overlap and suppression against torchvision's.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use pad_ops::{
    ImageBox, RoiAlign, Windows, batched_nms, box_iou, nms, reference, roi_align, window_partition,
    window_unpartition,
};
use pad_testkit::{Precision, close, golden, gradcheck, largest, numbers};
use proptest::prelude::*;

fn boxes(tensor: &Tensor) -> Vec<[f32; 4]> {
    let rows = tensor.to_vec2::<f32>().unwrap();
    rows.into_iter().map(|row| [row[0], row[1], row[2], row[3]]).collect()
}

fn integers(tensor: &Tensor) -> Vec<usize> {
    tensor.to_vec1::<i64>().unwrap().into_iter().map(|value| value as usize).collect()
}

/// Boxes over and around maps of `maps` sizes; some degenerate.
fn rois(count: usize, maps: usize, images: usize, reach: f32, salt: u64) -> Vec<ImageBox> {
    let draws = numbers(&[count, 4], DType::F32, salt).to_vec2::<f32>().unwrap();
    let roi = |(i, draw): (usize, Vec<f32>)| {
        let [x, y] = [draw[0], draw[1]].map(|draw| reach * (0.5 + 0.6 * draw));
        let [w, h] = [draw[2], draw[3]].map(|draw| reach * (0.3 * draw + 0.2));
        ImageBox { map: i % maps, image: i / maps % images, bbox: [x, y, x + w, y + h] }
    };
    draws.into_iter().enumerate().map(roi).collect()
}

fn pyramid(b: usize, c: usize, h: usize, w: usize, dtype: DType) -> Vec<Tensor> {
    vec![numbers(&[b, c, h, w], dtype, 1), numbers(&[b, c, h.div_ceil(2), w / 2 + 1], dtype, 2)]
}

const SCALES: [f32; 2] = [0.5, 0.25];

fn gradients(maps: &[Tensor], op: impl Fn(&[Tensor]) -> Tensor) -> (Tensor, Vec<Tensor>) {
    let vars: Vec<Var> = maps.iter().map(|map| Var::from_tensor(map).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let out = op(&tracked);
    let probe = numbers(out.dims(), out.dtype(), 9);
    let mut loss = (&out * probe).unwrap().sum_all().unwrap();
    for map in &tracked {
        loss = (loss + map.sqr().unwrap().sum_all().unwrap()).unwrap();
    }
    let grads = loss.backward().unwrap();
    (out.detach(), vars.iter().map(|var| grads.get(var.as_tensor()).unwrap().clone()).collect())
}

fn equals_reference(sizes: (usize, usize, usize, usize), options: RoiAlign, salt: u64) {
    let (b, c, h, w) = sizes;
    let maps = pyramid(b, c, h, w, DType::F32);
    let rois = rois(13, 2, b, 2.0 * h.max(w) as f32, salt);
    let (fast, fast_grads) =
        gradients(&maps, |maps| roi_align(maps, &SCALES, &rois, options).unwrap());
    let exact: Vec<Tensor> = maps.iter().map(|map| map.to_dtype(DType::F64).unwrap()).collect();
    let (want, want_grads) =
        gradients(&exact, |maps| reference::roi_align(maps, &SCALES, &rois, options).unwrap());
    let name = format!("{sizes:?} {options:?} {salt}");
    if largest(&want) > 0.0 {
        close(&name, &fast, &want, 2e-5);
    }
    for (got, want) in fast_grads.iter().zip(&want_grads) {
        close(&name, got, want, 2e-5);
    }
}

#[test]
fn the_kernel_equals_the_reference() {
    for options in [
        RoiAlign::square(7),
        RoiAlign { height: 1, width: 1, sampling_ratio: None },
        RoiAlign { height: 3, width: 5, sampling_ratio: Some(2) },
        RoiAlign { height: 4, width: 2, sampling_ratio: Some(1) },
    ] {
        for (i, sizes) in
            [(1, 1, 1, 1), (2, 3, 7, 9), (1, 5, 16, 3), (3, 2, 2, 33)].into_iter().enumerate()
        {
            equals_reference(sizes, options, i as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn random_sizes(b in 1_usize..3, c in 1_usize..5, h in 1_usize..20, w in 1_usize..20, side in 1_usize..8,
                    samples in 0_usize..4, salt in 0_u64..1000) {
        equals_reference((b, c, h, w), RoiAlign { height: side, width: 8 - side, sampling_ratio: (samples > 0).then_some(samples) }, salt);
    }

    /// Against every pair compared by hand.
    #[test]
    fn suppression_equals_its_definition(count in 0_usize..70, salt in 0_u64..1000, groups in 1_u32..4) {
        let boxes: Vec<[f32; 4]> = rois(count.max(1), 1, 1, 20.0, salt).iter().take(count).map(|roi| roi.bbox).collect();
        // Few values, so that many are equal.
        let scores: Vec<f32> = (0..count).map(|i| ((i as u64 * 7 + salt) % 11) as f32).collect();
        let group: Vec<u32> = (0..count as u32).map(|i| i * 5 % groups).collect();
        let overlap = box_iou(&boxes, &boxes);
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let mut want: Vec<usize> = Vec::new();
        for at in order {
            let meets = |&kept: &usize| group[kept] == group[at] && overlap[kept * count + at] > 0.3;
            // An empty box shares nothing with any other.
            if !want.iter().any(meets) {
                want.push(at);
            }
        }
        let positive = |b: &[f32; 4]| b[2] > b[0] && b[3] > b[1];
        if boxes.iter().all(positive) {
            prop_assert_eq!(batched_nms(&boxes, &scores, &group, 0.3).unwrap(), want);
        }
    }
}

#[test]
fn finite_differences() {
    let rois = rois(7, 2, 2, 12.0, 3);
    let options = RoiAlign { height: 3, width: 2, sampling_ratio: None };
    let f = |t: &[Tensor]| Ok(roi_align(t, &SCALES, &rois, options)?);
    gradcheck("roi_align", &pyramid(2, 2, 6, 5, DType::F32), Precision::F32, f);
    gradcheck("roi_align", &pyramid(2, 2, 6, 5, DType::F64), Precision::F64, f);
}

#[test]
fn same_bits_for_any_number_of_threads() {
    let rois = rois(60, 2, 2, 80.0, 5);
    let bits = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let maps = pyramid(2, 9, 40, 37, DType::F32);
            let (out, grads) = gradients(&maps, |maps| {
                roi_align(maps, &SCALES, &rois, RoiAlign::square(7)).unwrap()
            });
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let tensors = std::iter::once(&out).chain(&grads);
            tensors.flat_map(flat).map(f32::to_bits).collect::<Vec<u32>>()
        })
    };
    let one = bits(1);
    assert_eq!(one, bits(2));
    assert_eq!(one, bits(3));
}

#[test]
fn frozen_maps_get_no_gradient() {
    let maps = pyramid(1, 2, 5, 5, DType::F32);
    let trained = Var::from_tensor(&maps[1]).unwrap();
    let both = [maps[0].clone(), trained.as_tensor().clone()];
    let y = roi_align(&both, &SCALES, &rois(6, 2, 1, 10.0, 1), RoiAlign::square(2)).unwrap();
    let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&maps[0]).is_none() && largest(grads.get(&trained).unwrap()) > 0.0);
}

fn levels(file: &BTreeMap<String, Tensor>) -> Vec<Var> {
    (2..6).map(|i| Var::from_tensor(&file[&format!("input.p{i}")]).unwrap()).collect()
}

#[test]
fn roi_align_equals_detectron2() {
    let file = golden("detection/roi_align");
    let maps = levels(&file);
    let tracked: Vec<Tensor> = maps.iter().map(|map| map.as_tensor().clone()).collect();
    let levels = integers(&file["out.levels"]);
    let all = (0..2).flat_map(|image| {
        let boxes = boxes(&file[&format!("input.boxes{image}")]);
        boxes.into_iter().map(move |bbox| (image, bbox))
    });
    let rois: Vec<ImageBox> =
        all.zip(levels).map(|((image, bbox), map)| ImageBox { map, image, bbox }).collect();
    let scales = [0.25, 0.125, 0.0625, 0.03125];
    let pooled = roi_align(&tracked, &scales, &rois, RoiAlign::square(7)).unwrap();
    close("pooled", &pooled, &file["out.pooled"], 1e-5);
    let grads = (pooled * &file["input.loss_weight"]).unwrap().sum_all().unwrap();
    let grads = grads.backward().unwrap();
    for (i, map) in maps.iter().enumerate() {
        let want = &file[&format!("grad.input.p{}", i + 2)];
        close("gradient of a map", grads.get(map).unwrap(), want, 1e-5);
    }
    // One map, other shapes, a box of a negative side.
    let map = file["input.single"].clone();
    let rois: Vec<ImageBox> = file["input.single_rois"]
        .to_vec2::<f32>()
        .unwrap()
        .into_iter()
        .map(|row| ImageBox {
            map: 0,
            image: row[0] as usize,
            bbox: [row[1], row[2], row[3], row[4]],
        })
        .collect();
    for (name, height, width) in [("7x7", 7, 7), ("3x5", 3, 5)] {
        let var = Var::from_tensor(&map).unwrap();
        let options = RoiAlign { height, width, sampling_ratio: None };
        let pooled = roi_align(&[var.as_tensor().clone()], &[0.25], &rois, options).unwrap();
        close(name, &pooled, &file[&format!("out.single_{name}")], 1e-5);
        let weight = &file[&format!("input.single_w_{name}")];
        let grads = (pooled * weight).unwrap().sum_all().unwrap().backward().unwrap();
        if let Some(want) = file.get(&format!("grad.input.single_{name}")) {
            close(name, grads.get(&var).unwrap(), want, 1e-5);
        }
    }
}

#[test]
fn overlap_and_suppression_equal_torchvision() {
    let file = golden("detection/boxes");
    let (a, b) = (boxes(&file["input.iou_a"]), boxes(&file["input.iou_b"]));
    let iou = Tensor::from_vec(box_iou(&a, &b), (a.len(), b.len()), &Device::Cpu).unwrap();
    close("iou", &iou, &file["out.iou"], 1e-6);
    for (i, threshold) in [0.5, 0.7, 0.5, 0.3].into_iter().enumerate() {
        let boxes = boxes(&file[&format!("input.nms_boxes{i}")]);
        let scores = file[&format!("input.nms_scores{i}")].to_vec1::<f32>().unwrap();
        let got = nms(&boxes, &scores, threshold).unwrap();
        assert_eq!(got, integers(&file[&format!("out.nms{i}")]), "nms {i}");
        let classes = integers(&file[&format!("input.nms_classes{i}")]);
        let classes: Vec<u32> = classes.into_iter().map(|class| class as u32).collect();
        let got = batched_nms(&boxes, &scores, &classes, threshold).unwrap();
        assert_eq!(got, integers(&file[&format!("out.batched_nms{i}")]), "batched nms {i}");
    }
    // More than one lane of kept boxes: none of a hundred meets another, each has a twin.
    let apart: Vec<[f32; 4]> = (0..200)
        .map(|i| [f32::from(i % 100_u8) * 10.0, 0.0, f32::from(i % 100_u8) * 10.0 + 9.0, 9.0])
        .collect();
    assert_eq!(nms(&apart, &[1.0; 200], 0.5).unwrap(), (0..100).collect::<Vec<_>>());
}

#[test]
fn refusals_name_operator_and_argument() {
    let map = numbers(&[1, 2, 4, 4], DType::F32, 0);
    let maps = [map.clone()];
    let roi = ImageBox { map: 0, image: 0, bbox: [0.0, 0.0, 2.0, 2.0] };
    let square = RoiAlign::square(2);
    let text = |result: pad_ops::Result<Tensor>| result.unwrap_err().to_string();
    assert_eq!(
        text(roi_align(&[], &[], &[], square)),
        "roi_align: `maps` is none, expected at least one"
    );
    assert_eq!(text(roi_align(&maps, &[], &[], square)), "roi_align: `scales` is 0, expected 1");
    assert_eq!(
        text(roi_align(
            &[map.clone(), numbers(&[1, 3, 2, 2], DType::F32, 0)],
            &SCALES,
            &[],
            square
        )),
        "roi_align: `maps` has shape [1, 3, 2, 2], expected [1, 2, 2, 2]"
    );
    assert_eq!(
        text(roi_align(&maps, &[1.0], &[roi], RoiAlign::square(0))),
        "roi_align: `options` is 0 x 0, expected at least 1 x 1 bins"
    );
    assert_eq!(
        text(roi_align(&maps, &[1.0], &[ImageBox { image: 1, ..roi }], square)),
        "roi_align: `rois` is map 0, image 1, expected a map below 1 and an image below 1"
    );
    for edge in [f32::NAN, f32::INFINITY, 1e9] {
        let wrong = ImageBox { bbox: [0.0, 0.0, edge, 1.0], ..roi };
        assert_eq!(
            text(roi_align(&maps, &[1.0], &[wrong], square)),
            format!(
                "roi_align: `rois` is [0.0, 0.0, {edge:?}, 1.0], expected finite edges, at most 65536 samples of a bin"
            )
        );
    }
    let none = roi_align(&maps, &[1.0], &[], square).unwrap();
    assert_eq!(none.dims(), [0, 2, 2, 2]);
    let text = |result: pad_ops::Result<Vec<usize>>| result.unwrap_err().to_string();
    assert_eq!(
        text(nms(&[[0.0; 4]; 2], &[1.0], 0.5)),
        "nms: `scores` is 1, expected one for each of the 2 boxes"
    );
    assert_eq!(
        text(nms(&[[0.0; 4]; 2], &[1.0, f32::NAN], 0.5)),
        "nms: `scores` is NaN at 1, expected numbers"
    );
    assert_eq!(
        text(batched_nms(&[[0.0; 4]; 2], &[1.0, 2.0], &[0], 0.5)),
        "batched_nms: `groups` is 1, expected one for each of the 2 boxes"
    );
    assert_eq!(nms(&[], &[], 0.5).unwrap(), [0_usize; 0]);
    let tokens = numbers(&[1, 6, 2], DType::F32, 0);
    let windows = |height, width, side| Windows { height, width, side };
    let text = |result: pad_ops::Result<Tensor>| result.unwrap_err().to_string();
    assert_eq!(
        text(window_partition(&tokens, windows(2, 2, 3))),
        "window_partition: `x` has shape [1, 6, 2], expected [1, 4, 2]"
    );
    assert_eq!(
        text(window_partition(&tokens, windows(2, 3, 0))),
        "window_partition: `windows` is Windows { height: 2, width: 3, side: 0 }, expected a grid and windows of at \
         least 1 x 1"
    );
    assert_eq!(
        text(window_unpartition(&numbers(&[3, 4, 2], DType::F32, 0), windows(2, 3, 2))),
        "window_unpartition: `y` has shape [3, 4, 2], expected a multiple of 2 windows"
    );
}
