//! The downstream backbone against the original's maps, gradients and running statistics.

use crate::recorded::Recorded;
use candle_core::{Device, Tensor};
use pad_adapter::{AdapterConfig, Scale, vit::ViTConfig};
use pad_heads::{
    Result,
    backbone::{DownstreamConfig, DownstreamViT, FeatureExtractor, Pyramid},
};
use pad_ops::{ImageSize, Mode, rng::Key};
use pad_testkit::{close, largest, relative_difference};

const BLOCKS: [usize; 4] = [0, 2, 3, 4];

fn config(image_size: ImageSize, scale: Scale, layer_scale: Option<f64>) -> DownstreamConfig {
    let adapter = AdapterConfig { bottleneck: 5, dropout: 0.0, scale, ..AdapterConfig::default() };
    let vit = ViTConfig {
        image_size,
        layer_scale,
        adapter: Some(adapter),
        ..ViTConfig::new(16, 18, 5, 3)
    };
    DownstreamConfig { vit, relative_positions: true }
}

fn build(recorded: &Recorded, config: &DownstreamConfig) -> (DownstreamViT, Pyramid) {
    recorded
        .store
        .build(|vb| -> Result<_> {
            Ok((DownstreamViT::new(config, vb.clone())?, Pyramid::new(18, vb)?))
        })
        .unwrap()
}

/// The four maps of the file's images.
fn maps(recorded: &Recorded, config: &DownstreamConfig, mode: Mode) -> Vec<Tensor> {
    let (vit, pyramid) = build(recorded, config);
    let maps = vit.maps(recorded.get("input.images"), &BLOCKS, mode).unwrap();
    pyramid.forward(&maps, mode).unwrap()
}

fn loss(recorded: &Recorded, maps: &[Tensor]) -> Tensor {
    let mut loss = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu).unwrap();
    for (i, map) in maps.iter().enumerate() {
        let part = (map * recorded.get(&format!("input.loss_weight{i}"))).unwrap();
        loss = (loss + part.sum_all().unwrap()).unwrap();
    }
    loss
}

fn equals_the_original(file: &str, config: &DownstreamConfig, mode: Mode) {
    let recorded = Recorded::open(file);
    let maps = maps(&recorded, config, mode);
    for (i, map) in maps.iter().enumerate() {
        let want = recorded.get(&format!("out.feature{i}"));
        close(&format!("{file} map {i}"), map, want, 1e-4);
    }
    recorded.gradients_equal(&loss(&recorded, &maps));
    recorded.statistics_equal();
}

#[test]
fn patchwise_scales() {
    let config = config(ImageSize::square(64), Scale::default(), Some(1.0));
    equals_the_original("backbone_patchwise_concat_eval", &config, Mode::Eval);
}

#[test]
fn training_on_images_that_are_not_square() {
    let config = config(ImageSize::new(64, 96), Scale::default(), Some(1.0));
    equals_the_original("backbone_patchwise_concat_train", &config, Mode::Train(Key::new(0)));
}

#[test]
fn fixed_scale() {
    let config = config(ImageSize::square(64), Scale::Fixed(0.5), Some(1.0));
    equals_the_original("backbone_fixed_scale_eval", &config, Mode::Eval);
}

/// Without layer scale the original leaves attention out; ours attends. It equals the original
/// where attention adds nothing, and only there.
#[test]
fn without_layer_scale_attention_counts_all_the_same() {
    let config = config(ImageSize::square(64), Scale::default(), None);
    let silent = Recorded::open_with("backbone_no_gamma_eval", |name, value| {
        if name.contains("attn.proj") { value.zeros_like().unwrap() } else { value }
    });
    let got = maps(&silent, &config, Mode::Eval);
    for (i, map) in got.iter().enumerate() {
        close("silent attention", map, silent.get(&format!("out.feature{i}")), 1e-4);
    }
    silent.gradients_equal(&loss(&silent, &got));
    let attending = Recorded::open("backbone_no_gamma_eval");
    let got = maps(&attending, &config, Mode::Eval);
    let difference = relative_difference(&got[2], attending.get("out.feature2"));
    assert!(difference > 1e-2, "attention must count: {difference}");
}

#[test]
fn images_smaller_than_the_tables() {
    let recorded = Recorded::open("backbone_patchwise_concat_eval");
    let config = config(ImageSize::square(64), Scale::default(), Some(1.0));
    let (vit, _) = build(&recorded, &config);
    let small = recorded.get("input.images").narrow(2, 0, 32).unwrap();
    let maps = vit.maps(&small, &[4], Mode::Eval).unwrap();
    assert_eq!(maps[0].dims(), [2, 18, 2, 4]);
    assert!(largest(&maps[0]).is_finite());
    let large = Tensor::zeros((1, 3, 80, 64), candle_core::DType::F32, &Device::Cpu).unwrap();
    let refused = vit.maps(&large, &[4], Mode::Eval).unwrap_err().to_string();
    assert!(refused.starts_with("patch grid 5x4, expected at most 4x4"), "{refused}");
    let odd = Tensor::zeros((1, 3, 60, 64), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert_eq!(
        vit.maps(&odd, &[4], Mode::Eval).unwrap_err().to_string(),
        "image of shape [1, 3, 60, 64], expected (B, 3, H, W) with sides divisible by 16"
    );
    assert_eq!(
        vit.maps(&small, &[5], Mode::Eval).unwrap_err().to_string(),
        "block 5, expected an index below 5"
    );
}

#[test]
fn a_fixed_scale_must_be_the_files() {
    let recorded = Recorded::open("backbone_fixed_scale_eval");
    let config = config(ImageSize::square(64), Scale::Fixed(0.1), Some(1.0));
    let refused = recorded.store.build(|vb| DownstreamViT::new(&config, vb)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`blocks.0.adaptmlp.scale`: the configuration says 0.1, the checkpoint holds 0.5"
    );
}
