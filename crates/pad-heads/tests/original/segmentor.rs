//! The whole network: sliding windows, losses, all gradients; training; what trains.

use candle_core::{DType, Device, Tensor};
use pad_adapter::{
    AdapterConfig,
    params::{ParamStore, Planned, Role},
    vit::ViTConfig,
};
use pad_heads::{
    Trained,
    backbone::DownstreamConfig,
    parameters,
    segmentation::{
        BackboneKind, FcnConfig, HeadKind, InferenceMode, LAYER_DECAY, SegmentationBatch,
        SegmentationTask, Segmentor, SegmentorConfig, SlidingWindow, UperConfig, WEIGHT_DECAY,
        predict_logits, resized_logits, role_of,
    },
};
use pad_ops::{ImageSize, Mode, rng::Key};
use pad_testkit::{close, largest, numbers};
use pad_train::{AdamW, AdamWConfig, Gradients, Task};

use crate::recorded::Recorded;

fn config() -> SegmentorConfig {
    let adapter = AdapterConfig { bottleneck: 5, dropout: 0.0, ..AdapterConfig::default() };
    let vit = ViTConfig {
        image_size: ImageSize::square(64),
        layer_scale: Some(1.0),
        adapter: Some(adapter),
        ..ViTConfig::new(16, 18, 5, 3)
    };
    SegmentorConfig {
        backbone: BackboneKind::Downstream(DownstreamConfig { vit, relative_positions: true }),
        blocks: vec![0, 2, 3, 4],
        head: HeadKind::Uper(UperConfig { channels: 12, dropout: 0.0, ..UperConfig::default() }),
        auxiliary: Some(FcnConfig { channels: 10, dropout: 0.0, ..FcnConfig::default() }),
        ..SegmentorConfig::original(5)
    }
}

#[test]
fn sliding_windows_equal_the_original() {
    let recorded = Recorded::open("segmentor");
    let segmentor = recorded.store.build(|vb| Segmentor::new(&config(), vb)).unwrap();
    let model = |images: &Tensor| segmentor.logits(images);
    for batch_size in [1, 4] {
        let (window, stride) = (ImageSize::square(64), ImageSize::square(40));
        let mode = InferenceMode::Sliding(SlidingWindow { window, stride, batch_size });
        let logits = predict_logits(recorded.get("input.big_image"), mode, &model).unwrap();
        close("logits", &logits, recorded.get("out.slide_logits"), 1e-4);
        let classes = resized_logits(&logits, ImageSize::new(124, 174)).unwrap();
        let classes = classes.argmax(1).unwrap().to_dtype(DType::U8).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<u8>().unwrap();
        assert_eq!(flat(&classes), flat(recorded.get("out.slide_pred")));
    }
}

#[test]
fn losses_and_gradients_equal_the_original() {
    let recorded = Recorded::open("segmentor");
    let segmentor = recorded.store.build(|vb| Segmentor::new(&config(), vb)).unwrap();
    let labels = recorded.get("input.labels").squeeze(1).unwrap();
    let images = recorded.get("input.images").clone();
    let batch = SegmentationBatch::new(images, labels);
    let task = SegmentationTask::new(&segmentor);
    let losses = task.losses(&batch, Mode::Train(Key::new(0))).unwrap();
    for (name, part) in &losses.parts {
        let name = if *name == "decode" { "decode" } else { "aux" };
        let want = recorded.get(&format!("out.train.{name}.loss_seg"));
        close(name, &part.reshape(1).unwrap(), want, 1e-5);
    }
    recorded.gradients_equal(&losses.total);
}

/// A small network on images that none of its sides divide.
fn probe(trained: Trained) -> (ParamStore, Segmentor) {
    let vit = ViTConfig {
        image_size: ImageSize::square(28),
        adapter: Some(AdapterConfig { bottleneck: 4, ..AdapterConfig::default() }),
        ..ViTConfig::new(14, 16, 3, 2)
    };
    let store = ParamStore::scratch(&Device::Cpu, Key::new(5))
        .with_roles(role_of)
        .with_plan(trained.plan(LAYER_DECAY, 3));
    let segmentor = store.build(|vb| Segmentor::new(&SegmentorConfig::probe(vit, 3), vb)).unwrap();
    (store, segmentor)
}

#[test]
fn what_trains() {
    let roles = |trained| -> Vec<Role> {
        let (store, _) = probe(trained);
        let mut roles: Vec<Role> =
            store.planned().into_iter().map(|planned| planned.role).collect();
        roles.sort();
        roles.dedup();
        roles
    };
    assert_eq!(roles(Trained::Heads), [Role::Head]);
    let adapters = [0, 1, 2].map(Role::Adapter);
    let gates = [0, 1, 2].map(Role::Gate);
    let mut want: Vec<Role> = adapters.into_iter().chain(gates).chain([Role::Head]).collect();
    want.sort();
    assert_eq!(roles(Trained::AdaptersAndHeads), want);
    assert!(roles(Trained::Everything).contains(&Role::Block(2)));
    assert_eq!(role_of("backbone.fpn1.1.running_mean"), Role::Head);
    assert_eq!(role_of("backbone.blocks.3.gamma_1"), Role::Block(3));
    assert_eq!(role_of("blocks.3.gamma_1"), Role::Head, "not the backbone's");
}

#[test]
fn rates_fall_towards_the_patches() {
    let plan = Trained::Everything.plan(LAYER_DECAY, 12);
    let factor = |role| plan.rate(role).unwrap().lr_factor;
    assert_eq!(factor(Role::Head), 1.0);
    assert_eq!(factor(Role::Adapter(11)), 0.65);
    assert!((factor(Role::PosTable) - 0.65_f64.powi(13)).abs() < 1e-15);
    let recorded = Recorded::open("segmentor");
    let plan = Trained::Everything.plan(LAYER_DECAY, 5);
    let store = recorded.store.clone().with_roles(role_of).with_plan(plan);
    store.build(|vb| Segmentor::new(&config(), vb)).unwrap();
    let parameters = parameters(&store, WEIGHT_DECAY);
    let find = |name: &str| parameters.iter().find(|p| p.name == name).unwrap();
    assert_eq!(find("backbone.pos_embed").weight_decay, 0.05, "as the original computes");
    assert_eq!(find("backbone.blocks.0.attn.relative_position_bias_table").weight_decay, 0.05);
    assert_eq!(find("backbone.blocks.4.gamma_1").weight_decay, 0.0);
    assert!((find("backbone.blocks.4.gamma_1").lr_factor - 0.65).abs() < 1e-12);
    assert_eq!(find("backbone.fpn1.0.weight").lr_factor, 1.0);
    let statistics = find("decode_head.bottleneck.bn.running_mean");
    assert!(!statistics.trains_in(1_000_000));
}

#[test]
fn a_probe_learns_from_frozen_features() {
    let (store, segmentor) = probe(Trained::Heads);
    let parameters = parameters(&store, WEIGHT_DECAY);
    let mut optimizer = AdamW::new(parameters, AdamWConfig::default()).unwrap();
    let task = SegmentationTask::new(&segmentor);
    let images = numbers(&[2, 3, 28, 42], DType::F32, 1);
    // Left of the middle class 0, right of it class 2.
    let labels: Vec<u8> = (0..2 * 28 * 42).map(|i| if i % 42 < 14 { 0 } else { 2 }).collect();
    let labels = Tensor::from_vec(labels, (2, 28, 42), &Device::Cpu).unwrap();
    let batch = SegmentationBatch::new(images, labels);
    let mut seen = Vec::new();
    for step in 0..30 {
        let losses = task.losses(&batch, Mode::Train(Key::new(7).epoch(step))).unwrap();
        seen.push(losses.total.to_scalar::<f32>().unwrap());
        let store = pad_ops::backward(&losses.total).unwrap();
        let gradients = Gradients::from_store(optimizer.parameters(), &store, 0);
        optimizer.step(&gradients, 0.02, 0).unwrap();
    }
    assert!(seen[29] < 0.5 * seen[0], "{seen:?}");
    // The running statistics moved without the optimiser, and the store sees their present values.
    let mean = &store.tensors(|role| role == Role::Head)["decode_head.bn.running_mean"];
    assert!(largest(mean) > 0.0);
}

#[test]
fn images_of_any_size_give_logits_of_that_size() {
    let (_, segmentor) = probe(Trained::Heads);
    for (height, width) in [(28, 28), (13, 50), (1, 1), (30, 29)] {
        let images = numbers(&[1, 3, height, width], DType::F32, 2);
        let logits = segmentor.logits(&images).unwrap();
        assert_eq!(logits.dims(), [1, 3, height, width]);
    }
    let recorded = Recorded::open("segmentor");
    let segmentor = recorded.store.build(|vb| Segmentor::new(&config(), vb)).unwrap();
    let small = numbers(&[1, 3, 10, 50], DType::F32, 2);
    assert_eq!(segmentor.logits(&small).unwrap().dims(), [1, 5, 10, 50]);
}

#[test]
fn a_batch_without_labels_costs_nothing() {
    let recorded = Recorded::open("segmentor");
    let segmentor = recorded.store.build(|vb| Segmentor::new(&config(), vb)).unwrap();
    let labels = Tensor::full(255_u8, (3, 64, 64), &Device::Cpu).unwrap();
    let losses = segmentor.losses(recorded.get("input.images"), &labels, Mode::Train(Key::new(0)));
    let losses = losses.unwrap();
    assert_eq!(losses.total.to_scalar::<f32>().unwrap(), 0.0);
    let grads = pad_ops::backward(&losses.total).unwrap();
    for Planned { name, var, .. } in recorded.store.planned() {
        if let Some(grad) = grads.get(&var) {
            assert_eq!(largest(grad), 0.0, "{name}");
        }
    }
}

#[test]
fn refusals() {
    let bad = SegmentorConfig {
        blocks: vec![0, 9],
        classes: 0,
        auxiliary: Some(FcnConfig { in_index: 2, channels: 0, ..FcnConfig::default() }),
        ..config()
    };
    assert_eq!(
        bad.validate().unwrap_err().to_string(),
        "segmentor: `classes` is 0, expected at least 1; `blocks` has 9, expected indices below 5; `blocks` has 2 \
         entries, expected 4 for a pyramid; auxiliary: `in_index` is 2, expected less than the 2 maps; auxiliary: \
         `channels` is 0, expected at least 1"
    );
    let (_, segmentor) = probe(Trained::Heads);
    let images = numbers(&[1, 3, 28, 28], DType::F32, 2);
    let labels = Tensor::full(3_u8, (1, 28, 28), &Device::Cpu).unwrap();
    let message = segmentor.losses(&images, &labels, Mode::Eval).unwrap_err().to_string();
    assert_eq!(
        message,
        "cross_entropy2d: `labels` is 3 in image 0 at row 0, column 0, expected a label below 3, or 255 to be ignored"
    );
}
