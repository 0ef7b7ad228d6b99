//! The windowed ViT and the simple pyramid.

use candle_core::{DType, Device, Tensor, Var};
use pad_adapter::{AdapterConfig, Scale, vit::ViTConfig};
use pad_heads::backbone::{FeatureExtractor, SimplePyramid, WindowedConfig, WindowedViT};
use pad_ops::{ImageSize, Mode};
use pad_testkit::{close, largest, numbers};

use crate::recorded::Recorded;

fn config(scale: Option<Scale>) -> WindowedConfig {
    let adapter =
        |scale| AdapterConfig { bottleneck: 6, dropout: 0.0, scale, ..AdapterConfig::default() };
    WindowedConfig {
        vit: ViTConfig {
            image_size: ImageSize::square(40),
            adapter: scale.map(adapter),
            ..ViTConfig::new(8, 24, 3, 3)
        },
        window: Some(3),
        global_blocks: vec![1],
        relative_positions: true,
        relative_size: ImageSize::square(64),
    }
}

fn equals_the_original(file: &str, scale: Option<Scale>) {
    let recorded = Recorded::detection(file);
    let config = config(scale);
    let vit = recorded.store.build(|vb| WindowedViT::new(&config, vb)).unwrap();
    let map = vit.maps(recorded.get("input.images"), &[2], Mode::Eval).unwrap().remove(0);
    close(file, &map, recorded.get("out.last_feat"), 1e-4);
    let loss = (map * recorded.get("input.loss_weight")).unwrap().sum_all().unwrap();
    recorded.gradients_equal(&loss);
}

#[test]
fn patchwise_scales() {
    equals_the_original("vit_adapt_patchwise", Some(Scale::default()));
}

#[test]
fn images_that_are_not_square() {
    equals_the_original("vit_adapt_rect", Some(Scale::default()));
}

#[test]
fn fixed_scale() {
    equals_the_original("vit_adapt_fixed", Some(Scale::Fixed(0.5)));
}

#[test]
fn without_adapters() {
    equals_the_original("vit_plain", None);
}

fn pyramid_equals_the_original(file: &str) {
    let recorded = Recorded::detection(file);
    let pyramid = recorded.store.build(|vb| SimplePyramid::new(20, 10, vb)).unwrap();
    let map = Var::from_tensor(recorded.get("input.feature")).unwrap();
    let maps = pyramid.forward(&map).unwrap();
    let mut loss = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
    for (i, map) in maps.iter().enumerate() {
        let level = i + 2;
        close(&format!("{file} p{level}"), map, recorded.get(&format!("out.p{level}")), 1e-4);
        let weight = recorded.get(&format!("input.loss_weight_p{level}"));
        loss = (loss + (map * weight).unwrap().sum_all().unwrap()).unwrap();
    }
    recorded.gradients_equal(&loss);
    let grads = loss.backward().unwrap();
    close(
        "gradient of the map",
        grads.get(&map).unwrap(),
        recorded.get("grad.input.feature"),
        1e-3,
    );
}

#[test]
fn pyramid() {
    pyramid_equals_the_original("sfp");
}

#[test]
fn pyramid_of_odd_sides() {
    pyramid_equals_the_original("sfp_odd");
}

#[test]
fn any_size_and_any_attention() {
    let recorded = Recorded::detection("vit_plain");
    let vit = recorded.store.build(|vb| WindowedViT::new(&config(None), vb)).unwrap();
    for (height, width) in [(8, 8), (16, 40), (24, 8), (104, 72)] {
        let images = numbers(&[1, 3, height, width], DType::F32, 3);
        let map = vit.maps(&images, &[2, 0], Mode::Eval).unwrap();
        assert_eq!(map[0].dims(), [1, 24, height / 8, width / 8]);
        assert!(largest(&map[0]).is_finite() && map.len() == 2);
    }
    // A grid of one window attends like a global block, tables apart: no window is a global block.
    let store = pad_adapter::params::ParamStore::scratch(&Device::Cpu, pad_ops::rng::Key::new(1));
    let plain = WindowedConfig { relative_positions: false, ..config(None) };
    let windowed = store.build(|vb| WindowedViT::new(&plain, vb)).unwrap();
    let store = pad_adapter::params::ParamStore::scratch(&Device::Cpu, pad_ops::rng::Key::new(1));
    let global = WindowedConfig { window: None, global_blocks: vec![], ..plain };
    let global = store.build(|vb| WindowedViT::new(&global, vb)).unwrap();
    let images = numbers(&[2, 3, 24, 24], DType::F32, 3);
    let map = |vit: &WindowedViT| vit.maps(&images, &[2], Mode::Eval).unwrap().remove(0);
    close("one window", &map(&windowed), &map(&global), 1e-5);
}

#[test]
fn refusals() {
    let recorded = Recorded::detection("vit_plain");
    let vit = recorded.store.build(|vb| WindowedViT::new(&config(None), vb)).unwrap();
    let images = numbers(&[1, 3, 20, 24], DType::F32, 3);
    assert_eq!(
        vit.maps(&images, &[0], Mode::Eval).unwrap_err().to_string(),
        "image of shape [1, 3, 20, 24], expected (B, 3, H, W) with sides divisible by 8"
    );
    let images = numbers(&[1, 3, 24, 24], DType::F32, 3);
    assert_eq!(
        vit.maps(&images, &[3], Mode::Eval).unwrap_err().to_string(),
        "block 3, expected an index below 3"
    );
    let wrong = WindowedConfig {
        vit: ViTConfig { num_heads: 5, ..config(None).vit },
        global_blocks: vec![1, 7],
        relative_size: ImageSize::new(64, 0),
        ..config(None)
    };
    assert_eq!(
        wrong.validate().unwrap_err().to_string(),
        "vit: `num_heads` is 5, expected a divisor of `embed_dim` 96"
    );
    let wrong = WindowedConfig { vit: ViTConfig { num_heads: 3, ..wrong.vit }, ..wrong };
    assert_eq!(
        wrong.validate().unwrap_err().to_string(),
        "windowed vit: `global_blocks` has 7, expected indices below 3; `relative_size` is 64x0, expected at least a \
         patch of 8"
    );
}
