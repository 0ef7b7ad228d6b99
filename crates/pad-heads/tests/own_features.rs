//! A detector on a convolutional network of one's own: no transformer, no configuration of one. It
//! is trained for some steps on bright rectangles and measured as COCO does.

use candle_core::{DType, Device, Module, Tensor};
use candle_nn::{Conv2dConfig, VarBuilder, VarMap};
use pad_heads::{
    Result,
    detection::{
        Detection, DetectionBatch, DetectionFeatures, DetectionHeadsConfig, DetectionTargets,
        Detector, RoiHeadsConfig, RpnConfig, Target,
        coco::{
            CocoAnnotation, CocoCategory, CocoImage, CocoMetrics, CocoResult, CocoTruth, evaluate,
        },
    },
};
use pad_ops::{
    ImageSize, Mode,
    nn::{Conv2d, conv2d},
    rng::{Key, Purpose},
};

const SIDE: usize = 64;
const CHANNELS: usize = 16;

/// Four convolutions of stride 2, a lateral one on each of the last three.
struct Net {
    convs: Vec<Conv2d>,
    laterals: Vec<Conv2d>,
}

impl Net {
    fn new(vb: VarBuilder) -> pad_ops::Result<Self> {
        let halving = Conv2dConfig { stride: 2, padding: 1, ..Default::default() };
        let widths = [1, 8, 16, 16, 16];
        let conv = |i: usize| {
            let at = vb.pp(format!("conv{i}"));
            conv2d(widths[i], widths[i + 1], 3, halving, at)
        };
        let lateral = |i: usize| {
            let at = vb.pp(format!("lateral{i}"));
            conv2d(widths[i + 2], CHANNELS, 1, Conv2dConfig::default(), at)
        };
        let convs = (0..4).map(conv).collect::<pad_ops::Result<_>>()?;
        Ok(Self { convs, laterals: (0..3).map(lateral).collect::<pad_ops::Result<_>>()? })
    }
}

impl DetectionFeatures for Net {
    fn maps(&self, images: &Tensor, _mode: Mode) -> Result<Vec<Tensor>> {
        let mut x = images.clone();
        let mut maps = Vec::new();
        for (i, conv) in self.convs.iter().enumerate() {
            x = Module::forward(conv, &x)?.relu()?;
            if i > 0 {
                maps.push(self.laterals[i - 1].forward(&x)?);
            }
        }
        Ok(maps)
    }

    fn channels(&self) -> usize {
        CHANNELS
    }

    fn strides(&self) -> Vec<f32> {
        vec![4.0, 8.0, 16.0]
    }
}

fn config() -> DetectionHeadsConfig {
    DetectionHeadsConfig {
        channels: CHANNELS,
        head_dim: 32,
        classes: 2,
        rpn: RpnConfig {
            convs: 1,
            anchor_sizes: vec![10.0, 18.0, 30.0],
            aspect_ratios: vec![1.0],
            batch_size_per_image: 64,
            ..Default::default()
        }
        .with_proposals(50),
        roi: RoiHeadsConfig { convs: 1, batch_size_per_image: 32, ..Default::default() },
        ..Default::default()
    }
}

/// Initial values that do not hang on candle's generator: variance 2 over the fan in, predictors
/// small, norms one, biases zero.
fn initialise(vars: &VarMap) {
    for (name, var) in vars.data().lock().unwrap().iter() {
        let mut stream = Key::new(5).purpose(Purpose::Init).named(name).stream();
        let fan_in = var.dims()[1..].iter().product::<usize>().max(1) as f64;
        let predictor = ["cls_score", "bbox_pred", "objectness", "anchor_deltas"];
        let deviation = match predictor.iter().any(|part| name.contains(part)) {
            true => 0.01,
            false => (2.0 / fan_in).sqrt(),
        };
        let value = |_| match (name.ends_with("norm.weight"), name.ends_with("bias")) {
            (true, _) => 1.0,
            (_, true) => 0.0,
            _ => (stream.normal() * deviation) as f32,
        };
        let values: Vec<f32> = (0..var.elem_count()).map(value).collect();
        var.set(&Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap()).unwrap();
    }
}

/// A dark image with one or two bright (class 0) or very dark (class 1) rectangles.
fn scene(index: u64) -> (Vec<f32>, Target) {
    let mut stream = Key::new(11).sample(index).purpose(Purpose::Scene).stream();
    let mut pixels: Vec<f32> = (0..SIDE * SIDE).map(|_| 0.1 * stream.normal() as f32).collect();
    let mut target = Target::default();
    for half in 0..1 + stream.below(2) as usize {
        let (height, width) = (10 + stream.below(18) as usize, 10 + stream.below(18) as usize);
        let top = stream.below((SIDE - height) as u64) as usize;
        let left = half * SIDE / 2 + stream.below((SIDE / 2 - width) as u64) as usize;
        let label = stream.below(2) as u32;
        for row in top..top + height {
            for column in left..left + width {
                pixels[row * SIDE + column] += if label == 0 { 2.0 } else { -2.0 };
            }
        }
        let edges = [left, top, left + width, top + height];
        target.boxes.push(edges.map(|edge| edge as f32));
        target.labels.push(label);
    }
    (pixels, target)
}

fn batch(indices: std::ops::Range<u64>) -> DetectionBatch {
    let (mut pixels, mut targets) = (Vec::new(), Vec::new());
    for index in indices {
        let (image, target) = scene(index);
        pixels.extend(image);
        targets.push(target);
    }
    let images = Tensor::from_vec(pixels, (targets.len(), 1, SIDE, SIDE), &Device::Cpu).unwrap();
    let sizes = vec![ImageSize::square(SIDE); targets.len()];
    DetectionBatch::new(images, DetectionTargets { sizes, targets })
}

fn xywh([x1, y1, x2, y2]: [f32; 4]) -> [f64; 4] {
    [x1, y1, x2 - x1, y2 - y1].map(f64::from)
}

/// COCO's numbers on images that no step has seen.
fn measured(detector: &Detector<Net>) -> CocoMetrics {
    let held_out = batch(1000..1024);
    let found = detector.detect(&held_out.images, &held_out.labels.sizes).unwrap();
    let category = |id: i64| CocoCategory { id: id.into(), name: format!("class {id}") };
    let mut truth = CocoTruth {
        images: Vec::new(),
        annotations: Vec::new(),
        categories: vec![category(0), category(1)],
    };
    let mut results = Vec::new();
    for (image, (target, found)) in (0_i64..).zip(held_out.labels.targets.iter().zip(found)) {
        let file_name = String::new();
        truth.images.push(CocoImage { id: image.into(), file_name, width: SIDE, height: SIDE });
        for (bbox, label) in target.boxes.iter().zip(&target.labels) {
            let bbox = xywh(*bbox);
            truth.annotations.push(CocoAnnotation {
                id: (truth.annotations.len() as i64).into(),
                image_id: image.into(),
                category_id: i64::from(*label).into(),
                bbox,
                area: bbox[2] * bbox[3],
                iscrowd: 0,
                difficult: false,
                segmentation: None,
            });
        }
        results.extend(found.iter().map(|&Detection { bbox, score, label }| CocoResult {
            image_id: image.into(),
            category_id: i64::from(label).into(),
            bbox: xywh(bbox),
            score: f64::from(score),
            segmentation: None,
        }));
    }
    evaluate(&truth, &results).unwrap()
}

#[test]
fn a_detector_on_a_network_of_one_s_own_learns() {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let net = Net::new(vb.pp("net")).unwrap();
    let detector = Detector::from_features(&config(), net, vb).unwrap();
    initialise(&vars);
    let before = measured(&detector);
    // Stochastic gradient descent with momentum, written out.
    let data = vars.data().lock().unwrap().clone();
    let mut velocity: Vec<Tensor> = data.values().map(|var| var.zeros_like().unwrap()).collect();
    let (mut first, mut last) = (0.0, 0.0);
    const STEPS: u64 = 150;
    for step in 0..STEPS {
        let batch = batch(4 * step..4 * step + 4);
        let losses = detector.losses(&batch, Mode::Train(Key::new(1).epoch(step))).unwrap();
        let loss = losses.total.to_scalar::<f32>().unwrap();
        assert!(loss.is_finite(), "step {step}: {loss}");
        if step < 10 {
            first += loss / 10.0;
        } else if step >= STEPS - 10 {
            last += loss / 10.0;
        }
        let grads = losses.total.backward().unwrap();
        for ((name, var), velocity) in data.iter().zip(&mut velocity) {
            let grad = grads.get(var).unwrap_or_else(|| panic!("{name}: no gradient"));
            *velocity = ((&*velocity * 0.9).unwrap() + grad.detach()).unwrap();
            let moved = (var.as_tensor() - (&*velocity * 0.02).unwrap()).unwrap();
            var.set(&moved.detach()).unwrap();
        }
    }
    let after = measured(&detector);
    let text = format!("loss {first} -> {last}, {:?} -> {:?}", before.stats, after.stats);
    println!("{text}");
    // The box heads' losses rise at first, with the number of proposals that are objects.
    assert!(last < 0.9 * first, "{text}");
    assert!(before.stats[1].unwrap() < 0.05, "{text}");
    // 0.54 where it was written: AP at an overlap of 0.5, on images of no step.
    assert!(after.stats[1].unwrap() > 0.3, "{text}");
}

#[test]
fn features_that_do_not_fit_are_refused() {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let refused = |config: DetectionHeadsConfig| {
        let net = Net::new(vb.pp("net")).unwrap();
        Detector::from_features(&config, net, vb.clone()).err().unwrap().to_string()
    };
    assert_eq!(
        refused(DetectionHeadsConfig { channels: 8, ..config() }),
        "detector: `channels` is 8, expected 16, those of the maps"
    );
    let rpn = RpnConfig { anchor_sizes: vec![8.0, 16.0], ..config().rpn };
    assert_eq!(
        refused(DetectionHeadsConfig { rpn, ..config() }),
        "detector: `rpn.anchor_sizes` has 2 entries, expected 3"
    );
    // Behind a box, as a network chosen at run time.
    let net: Box<dyn DetectionFeatures> = Box::new(Net::new(vb.pp("net")).unwrap());
    let detector = Detector::from_features(&config(), net, vb.clone()).unwrap();
    let maps = detector.maps(&batch(0..2).images, Mode::Eval).unwrap();
    let shapes: Vec<&[usize]> = maps.iter().map(|map| map.dims()).collect();
    assert_eq!(shapes, [[2, 16, 16, 16], [2, 16, 8, 8], [2, 16, 4, 4]]);
}
