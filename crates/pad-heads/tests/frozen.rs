//! A backbone in which nothing trains runs as in evaluation; one with adapters that train is dropped
//! at random, as the paper's is.

use candle_core::{DType, Device, Tensor};
use pad_adapter::{
    AdapterConfig, LoraConfig,
    checkpoint::Checkpoint,
    params::ParamStore,
    vit::{ViT, ViTConfig},
};
use pad_heads::{
    Start, Trained,
    detection::{DetectionModel, DetectorConfig},
    segmentation::{BackboneForm, HeadKind, SegmentationModel, SegmentorConfig},
};
use pad_ops::{ImageSize, Mode, rng::Key};
use pad_testkit::numbers;

const SIDE: usize = 32;

/// What is drawn at random: drop path alone, an adapter's dropout alone, that of LoRA.
const NOISES: [&str; 3] = ["drop path", "dropout", "dropout of lora"];

fn vit(noise: &str, adapted: bool) -> ViTConfig {
    let plain = ViTConfig { image_size: ImageSize::square(SIDE), ..ViTConfig::new(16, 16, 4, 2) };
    let dropout = if noise == "drop path" { 0.0 } else { 0.5 };
    let drop_path = if noise == "drop path" { 0.9 } else { 0.0 };
    match (adapted, noise) {
        (false, _) => ViTConfig { drop_path, ..plain },
        (true, "dropout of lora") => {
            ViTConfig { lora: Some(LoraConfig { dropout, ..Default::default() }), ..plain }
        }
        (true, _) => {
            let adapter = AdapterConfig { bottleneck: 4, dropout, ..Default::default() };
            ViTConfig { adapter: Some(adapter), drop_path, ..plain }
        }
    }
}

/// Weights whose adapters do something: their last layers are not zero.
fn weights(config: &ViTConfig) -> Checkpoint {
    let store = ParamStore::scratch(&Device::Cpu, Key::new(3));
    store.build(|vb| ViT::new(config, vb)).unwrap();
    let tensors = store.tensors(|_| true).into_iter().enumerate().map(|(seed, (name, tensor))| {
        let is_last = name.ends_with("up_proj.weight") || name.contains("lora_B");
        let tensor = match is_last {
            true => numbers(tensor.dims(), DType::F32, seed as u64),
            false => tensor,
        };
        (name, tensor)
    });
    let mut file = Checkpoint::from_tensors("vit.safetensors", tensors.collect());
    // A fixed table is no parameter of the store, and a detector starts from a file's.
    let patches = (SIDE / config.patch_size).pow(2);
    file.insert("pos_embed", numbers(&[1, 1 + patches, config.embed_dim], DType::F32, 7));
    file
}

fn start(trained: Trained) -> Start {
    Start::new(&Device::Cpu, Key::new(1)).with_trained(trained)
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// The maps of a segmentor's backbone by mode.
fn segmentor(config: &ViTConfig, trained: Trained) -> impl Fn(Mode) -> Vec<u32> + use<> {
    let classes = pad_data::sets::segmentation::Classes::new(["ground", "person"]).unwrap();
    let head = HeadKind::Linear;
    let network = SegmentorConfig::on_backbone(*config, BackboneForm::Plain, head, 2);
    let model = SegmentationModel::new(&network, classes, Some(weights(config)), &start(trained));
    let model = model.unwrap();
    let images = numbers(&[2, 3, SIDE, SIDE], DType::F32, 5);
    move |mode| bits(&model.network.maps(&images, mode).unwrap()[0])
}

/// The last map of a detector's transformer by mode.
fn detector(config: &ViTConfig, trained: Trained) -> impl Fn(Mode) -> Vec<u32> + use<> {
    let classes = pad_data::sets::detection::BoxClasses::scenes();
    let network = DetectorConfig {
        channels: 8,
        head_dim: 12,
        window: Some(2),
        relative_positions: false,
        relative_size: ImageSize::square(SIDE),
        ..DetectorConfig::on_backbone(*config, classes.len())
    };
    let model = DetectionModel::new(&network, classes, Some(weights(config)), &start(trained));
    let model = model.unwrap();
    let images = numbers(&[2, 3, SIDE, SIDE], DType::F32, 5);
    move |mode| bits(&model.network.features(&images, mode).unwrap())
}

/// Whether training draws something at random in a network.
fn is_random(maps: impl Fn(Mode) -> Vec<u32>) -> bool {
    let [first, second] = [1, 2].map(|seed| maps(Mode::Train(Key::new(seed))));
    assert_eq!(first, maps(Mode::Train(Key::new(1))), "the key decides");
    let plain = maps(Mode::Eval);
    assert_eq!(first == second, first == plain, "either noise, or evaluation");
    first != second
}

#[test]
fn only_what_trains_is_dropped_at_random() {
    for noise in NOISES {
        for (trained, adapted, expected) in [
            (Trained::Everything, true, true),
            (Trained::AdaptersAndHeads, true, true),
            (Trained::Heads, true, false),
            (Trained::Heads, false, false),
            // Without adapters only the heads are left.
            (Trained::AdaptersAndHeads, false, false),
            (Trained::Everything, false, noise == "drop path"),
        ] {
            let config = vit(noise, adapted);
            let what = format!("{noise}, {trained}, adapters: {adapted}");
            assert_eq!(is_random(segmentor(&config, trained)), expected, "segmentor: {what}");
            assert_eq!(is_random(detector(&config, trained)), expected, "detector: {what}");
        }
    }
}

/// The switch of a network that was built without a model.
#[test]
fn a_network_of_ones_own_is_told() {
    let config = vit("drop path", false);
    let head = HeadKind::Linear;
    let network = SegmentorConfig::on_backbone(config, BackboneForm::Plain, head, 2);
    let images = numbers(&[2, 3, SIDE, SIDE], DType::F32, 5);
    for frozen in [false, true] {
        let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
        let segmentor = store
            .build(|vb| pad_heads::segmentation::Segmentor::new(&network, vb))
            .unwrap()
            .with_frozen_backbone(frozen);
        let maps = |mode| bits(&segmentor.maps(&images, mode).unwrap()[0]);
        assert_eq!(is_random(maps), !frozen);
    }
}
