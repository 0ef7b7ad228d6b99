//! From a pre-trained ViT to a detector, and a run that is stopped and resumed.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use pad_adapter::{
    checkpoint::Checkpoint,
    params::{ParamStore, Planned, Role},
    vit::ViT,
};
use pad_data::{
    rect::Rect,
    rle::Rle,
    transform::detection::{Geometry, ObjectMask},
};
use pad_heads::{
    Trained,
    detection::{
        DetectionBatch, DetectionTargets, DetectionTask, Detector, DetectorConfig, LAYER_DECAY,
        Target, WEIGHT_DECAY, pretrained, role_of,
    },
    parameters,
};
use pad_ops::{ImageSize, Mode, rng::Key};
use pad_testkit::{close, numbers};
use pad_train::{
    AdamW, AdamWConfig, BatchIter, Batches, BoxError, CheckpointConfig, Checkpoints, Schedule,
    Trainer, TrainerConfig,
};

use super::network::config;

fn file(config: &DetectorConfig) -> Checkpoint {
    let store = ParamStore::scratch(&Device::Cpu, Key::new(8));
    store.build(|vb| ViT::new(&config.vit, vb)).unwrap();
    let mut tensors = store.tensors(|_| true);
    let grid = config.vit.grid().unwrap();
    let table = pad_adapter::vit::sin_cos_table(24, grid, &Device::Cpu).unwrap();
    tensors.insert("pos_embed".into(), table);
    for name in ["mask_token", "decoder_pred.bias", "fc_norm.weight"] {
        tensors.insert(name.into(), numbers(&[3], DType::F32, 1));
    }
    Checkpoint::from_tensors("vit.safetensors", tensors)
}

fn store(checkpoint: Checkpoint, trained: Trained) -> ParamStore {
    ParamStore::from_checkpoint(checkpoint, &Device::Cpu, Key::new(2))
        .with_roles(role_of)
        .with_fresh(|role| role == Role::Head)
        .with_plan(trained.plan(LAYER_DECAY, 4))
}

#[test]
fn a_pretrained_vit_becomes_a_backbone() {
    let config = config();
    let (fitted, changes) = pretrained(file(&config), &config).unwrap();
    assert_eq!(changes, ["8 relative position tables added"]);
    let want = file(&config);
    let name = "blocks.2.attn.qkv.weight";
    let store_of = store(fitted, Trained::AdaptersAndHeads);
    let detector = store_of.build(|vb| Detector::new(&config, vb)).unwrap();
    let tensors = store_of.tensors(|_| true);
    close(name, &tensors[&format!("backbone.net.{name}")], &want.tensors()[name], 0.0);
    for Planned { name, role, .. } in store_of.planned() {
        assert!(role == Role::Head || role.is_adapter(), "{name}");
    }
    assert_eq!(role_of("backbone.net.blocks.3.attn.rel_pos_h"), Role::Block(3));
    assert_eq!(role_of("backbone.simfp_2.0.weight"), Role::Head);
    assert_eq!(role_of("roi_heads.box_head.fc1.weight"), Role::Head);
    let images = numbers(&[1, 3, 64, 80], DType::F32, 5);
    detector.detect(&images, &[ImageSize::new(64, 80)]).unwrap();
    // A detector's own file comes back as it is.
    let own = Checkpoint::from_tensors("own.safetensors", tensors);
    let (again, changes) = pretrained(own.clone(), &config).unwrap();
    assert!(changes.is_empty() && again.names().eq(own.names()));
    ParamStore::from_checkpoint(again, &Device::Cpu, Key::new(0))
        .with_roles(role_of)
        .build(|vb| Detector::new(&config, vb))
        .unwrap();
}

#[test]
fn rates_fall_from_the_heads_to_the_patches() {
    let config = config();
    let plan = Trained::Everything.plan(LAYER_DECAY, 4);
    let store = ParamStore::scratch(&Device::Cpu, Key::new(2)).with_roles(role_of).with_plan(plan);
    store.build(|vb| Detector::new(&config, vb)).unwrap();
    let parameters = parameters(&store, WEIGHT_DECAY);
    let of = |name: &str| parameters.iter().find(|parameter| parameter.name == name).unwrap();
    for (name, power) in [
        ("backbone.net.pos_embed", 5),
        ("backbone.net.patch_embed.proj.weight", 5),
        ("backbone.net.blocks.0.attn.qkv.weight", 4),
        ("backbone.net.blocks.3.adaptmlp.down_proj.weight", 1),
        ("backbone.simfp_4.0.weight", 0),
        ("roi_heads.box_predictor.bbox_pred.weight", 0),
    ] {
        assert!((of(name).lr_factor - 0.7_f64.powi(power)).abs() < 1e-12, "{name}");
    }
    assert_eq!(of("roi_heads.box_head.conv1.norm.weight").weight_decay, 0.0);
    assert_eq!(of("roi_heads.box_head.conv1.weight").weight_decay, 0.1);
}

/// What counts as the square's pixels: its left half, so that a mask is not just its box.
fn left_half([x1, y1, x2, y2]: [f32; 4]) -> ObjectMask {
    let size = ImageSize::new(96, 128);
    let [left, top, right, bottom] = [x1, y1, 0.5 * (x1 + x2), y2].map(|edge| edge as usize);
    let window = Rect { top, left, height: bottom - top, width: right - left };
    let mask = Rle::within(size, window, |_, _| true).unwrap();
    ObjectMask::new(Arc::new(mask), Geometry::whole(size, size))
}

/// Two images: one with a bright square, one with nothing in it.
fn squares(number: usize) -> DetectionBatch {
    let at = 16.0 + 16.0 * number as f32;
    let bbox = [at, 24.0, at + 40.0, 72.0];
    let inside = |i: usize| {
        let (x, y) = ((i % 128) as f32, (i / 128 % 96) as f32);
        i < 3 * 96 * 128 && x >= bbox[0] && x < bbox[2] && y >= bbox[1] && y < bbox[3]
    };
    let pixels: Vec<f32> =
        (0..2 * 3 * 96 * 128).map(|i| if inside(i) { 2.0 } else { -0.5 }).collect();
    let labels = DetectionTargets {
        sizes: vec![ImageSize::new(96, 128); 2],
        targets: vec![
            Target {
                boxes: vec![bbox],
                labels: vec![1],
                masks: vec![left_half(bbox)],
                ignored: vec![],
            },
            Target::default(),
        ],
    };
    let images = Tensor::from_vec(pixels, (2, 3, 96, 128), &Device::Cpu).unwrap();
    DetectionBatch::new(images, labels)
}

struct Squares;

impl Batches for Squares {
    type Batch = DetectionBatch;

    fn per_epoch(&self) -> usize {
        2
    }

    fn epoch(&mut self, _: usize, first: usize) -> Result<BatchIter<'_, Self::Batch>, BoxError> {
        Ok(Box::new((first..2).map(|number| Ok(squares(number)))))
    }
}

fn trainer(steps: usize, store: &ParamStore) -> Trainer<'static> {
    let optimizer = AdamW::new(parameters(store, WEIGHT_DECAY), AdamWConfig::default()).unwrap();
    let settings = TrainerConfig {
        epochs: 150,
        max_steps: Some(steps),
        accumulate: 1,
        clip_norm: Some(5.0),
        seed: 3,
    };
    Trainer::new(settings, Schedule::poly(5e-3, 0.5, 150.0), optimizer).unwrap()
}

/// Every number of a network after `steps` steps, from a checkpoint in `folder` if there is one.
fn train(folder: &std::path::Path, steps: usize) -> Vec<(String, Vec<u32>)> {
    let mut config = config();
    config.vit.drop_path = 0.2;
    let (fitted, _) = pretrained(file(&config), &config).unwrap();
    let store = store(fitted, Trained::Everything);
    let detector = store.build(|vb| Detector::new(&config, vb)).unwrap();
    let checkpoints = Checkpoints::new(folder, CheckpointConfig::default()).unwrap();
    let latest = checkpoints.latest().unwrap();
    let mut trainer = trainer(steps, &store).with_checkpoints(checkpoints);
    if let Some(checkpoint) = &latest {
        trainer.resume(checkpoint).unwrap();
    }
    trainer.run(&DetectionTask::new(&detector), &mut Squares).unwrap();
    let bits = |tensor: &Tensor| -> Vec<u32> {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    store.tensors(|_| true).iter().map(|(name, tensor)| (name.clone(), bits(tensor))).collect()
}

#[test]
fn a_resumed_run_has_the_same_weights() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let want = train(whole.path(), 4);
    let halfway = train(parts.path(), 3);
    assert_ne!(halfway, want);
    assert_eq!(train(parts.path(), 4), want);
}

#[test]
fn it_learns_where_a_square_is() {
    let config = config();
    let (fitted, _) = pretrained(file(&config), &config).unwrap();
    let store = store(fitted, Trained::Everything);
    let detector = store.build(|vb| Detector::new(&config, vb)).unwrap();
    let loss = || {
        let losses = detector.losses(&squares(0), Mode::Eval).unwrap();
        losses.total.to_scalar::<f32>().unwrap()
    };
    let before = loss();
    trainer(240, &store).run(&DetectionTask::new(&detector), &mut Squares).unwrap();
    assert!(loss() < 0.5 * before, "{} after {before}", loss());
    let batch = squares(0);
    let found = detector.detect(&batch.images, &batch.labels.sizes).unwrap();
    let best = found[0].first().expect("the square");
    let overlap = pad_ops::box_iou(&[best.bbox], &batch.labels.targets[0].boxes)[0];
    assert!(best.label == 1 && overlap > 0.5, "{best:?} overlaps by {overlap}");
}

#[test]
fn it_learns_which_pixels_of_a_square_count() {
    let config = DetectorConfig { masks: true, ..config() };
    let (fitted, _) = pretrained(file(&config), &config).unwrap();
    let store = store(fitted, Trained::Everything);
    let detector = store.build(|vb| Detector::new(&config, vb)).unwrap();
    let tensors = store.tensors(|_| true);
    // The names and shapes of detectron2's head.
    for (name, shape) in [
        ("mask_fcn4.weight", vec![config.channels, config.channels, 3, 3]),
        ("mask_fcn1.norm.bias", vec![config.channels]),
        ("deconv.weight", vec![config.channels, config.channels, 2, 2]),
        ("predictor.weight", vec![config.classes, config.channels, 1, 1]),
        ("predictor.bias", vec![config.classes]),
    ] {
        assert_eq!(tensors[&format!("roi_heads.mask_head.{name}")].dims(), shape, "{name}");
    }
    let mask_loss = || {
        let losses = detector.losses(&squares(0), Mode::Eval).unwrap();
        let (_, mask) = losses.parts.iter().find(|(name, _)| *name == "mask").unwrap();
        mask.to_scalar::<f32>().unwrap()
    };
    // Nothing is known yet: every bin is as likely as not.
    assert!((mask_loss() - 2_f32.ln()).abs() < 0.02, "{}", mask_loss());
    trainer(240, &store).run(&DetectionTask::new(&detector), &mut Squares).unwrap();
    let batch = squares(0);
    let found = detector.detect_with_masks(&batch.images, &batch.labels.sizes).unwrap();
    let best = found[0].first().expect("the square");
    assert_eq!(detector.detect(&batch.images, &batch.labels.sizes).unwrap()[0][0], best.detection);
    let mask = best.mask.paste(best.detection.bbox, batch.labels.sizes[0]).unwrap();
    let [x1, y1, x2, y2] = batch.labels.targets[0].boxes[0].map(|edge| edge as usize);
    let window = Rect { top: y1, left: x1, height: y2 - y1, width: (x2 - x1) / 2 };
    let wanted = Rle::within(batch.labels.sizes[0], window, |_, _| true).unwrap();
    let both = mask.intersection(&wanted).unwrap();
    let overlap = both as f64 / (mask.area() + wanted.area() - both) as f64;
    assert!(overlap > 0.6, "{overlap} of {best:?}");
}

#[test]
fn masks_that_are_missing_are_refused() {
    let config = DetectorConfig { masks: true, ..config() };
    let store = ParamStore::scratch(&Device::Cpu, Key::new(2)).with_roles(role_of);
    let detector = store.build(|vb| Detector::new(&config, vb)).unwrap();
    let mut batch = squares(0);
    batch.labels.targets[0].masks.clear();
    assert_eq!(
        detector.losses(&batch, Mode::Eval).unwrap_err().to_string(),
        "batch: image 0 with 0 masks, expected one for each of its 1 boxes"
    );
    let store = ParamStore::scratch(&Device::Cpu, Key::new(2)).with_roles(role_of);
    let boxes_only = store.build(|vb| Detector::new(&super::network::config(), vb)).unwrap();
    let refused =
        boxes_only.detect_with_masks(&batch.images, &batch.labels.sizes).unwrap_err().to_string();
    assert!(refused.contains("`masks` is false, expected true"), "{refused}");
}
