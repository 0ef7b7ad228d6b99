//! Maps, segmentation and detection on encoders of every kind: with registers, without class token,
//! with rotary positions.

use candle_core::{DType, Device, Tensor};
use pad_adapter::{
    AdapterConfig,
    params::ParamStore,
    vit::{Activation, PatchGrid, Positions, QkvBias, ViT, ViTConfig},
};
use pad_heads::backbone::{
    DownstreamConfig, DownstreamViT, FeatureExtractor, WindowedConfig, WindowedViT,
};
use pad_ops::{AxialRope, ImageSize, Mode, rng::Key};
use pad_testkit::{close, largest, numbers, relative_difference};

/// Tiny encoders, each of a family.
fn encoders() -> Vec<(&'static str, ViTConfig)> {
    let plain = ViTConfig {
        image_size: ImageSize::square(32),
        in_channels: 1,
        mlp_ratio: 2.0,
        adapter: Some(AdapterConfig { bottleneck: 4, ..AdapterConfig::default() }),
        ..ViTConfig::new(8, 16, 2, 2)
    };
    vec![
        ("plain", plain),
        (
            "dinov3",
            ViTConfig {
                register_tokens: 4,
                positions: Positions::None,
                rope: Some(AxialRope::dinov3()),
                qkv_bias: QkvBias::QueryValue,
                ..plain
            },
        ),
        (
            "dinov2 with registers",
            ViTConfig {
                register_tokens: 2,
                pos_grid: Some(PatchGrid::new(3, 3)),
                activation: Activation::SwiGlu,
                ..plain
            },
        ),
        ("siglip", ViTConfig { class_token: false, positions: Positions::Patches, ..plain }),
        (
            "pe",
            ViTConfig {
                rope: Some(AxialRope::pe(true, Some([4, 4]))),
                pre_norm: true,
                patch_bias: false,
                ..plain
            },
        ),
    ]
}

fn images(height: usize, width: usize) -> Tensor {
    numbers(&[2, 1, height, width], DType::F32, 5)
}

/// A store that gives equal names equal values, and `up` some: adapters act.
fn store() -> ParamStore {
    ParamStore::scratch(&Device::Cpu, Key::new(2)).with_trained(|_| true)
}

/// The original's downstream form without what it adds computes what the ViT computes.
#[test]
fn downstream_maps_are_the_encoder_s() {
    for (name, vit) in encoders() {
        // The table is learnt here, and the same in both.
        let rows = vit.table_prefix() + vit.pos_table_grid().unwrap().len();
        let table = numbers(&[1, rows, 16], DType::F32, 8);
        let plain = store().with_value("pos_embed", table.clone());
        let encoder = plain.build(|vb| ViT::new(&vit, vb)).unwrap();
        let config = DownstreamConfig { vit, relative_positions: false };
        let own = store().with_value("pos_embed", table);
        let downstream = own.build(|vb| DownstreamViT::new(&config, vb)).unwrap();
        for (height, width) in [(32, 32), (24, 48)] {
            let images = images(height, width);
            let want = encoder.features(&images, &[0, 1], Mode::Eval).unwrap();
            let got = downstream.maps(&images, &[0, 1], Mode::Eval).unwrap();
            for (got, want) in got.iter().zip(&want) {
                assert_eq!(got.dims(), [2, 16, height / 8, width / 8], "{name}");
                close(name, got, &want.data, 1e-6);
            }
        }
        let loss = downstream.maps(&images(32, 32), &[1], Mode::Train(Key::new(1))).unwrap();
        let grads = loss[0].sqr().unwrap().sum_all().unwrap().backward().unwrap();
        for param in own.params() {
            let var = param.var.unwrap();
            assert!(grads.get(var.as_tensor()).is_some(), "{name}: {}", param.name);
        }
        if let Some(registers) = own.params().into_iter().find(|param| param.name == "reg_token") {
            let grad = grads.get(registers.var.unwrap().as_tensor()).unwrap().clone();
            assert!(largest(&grad) > 0.0, "{name}: registers take part in attention");
        }
    }
}

#[test]
fn relative_positions_beside_registers_are_refused() {
    let (_, vit) = encoders().remove(1);
    let config = DownstreamConfig { vit, relative_positions: true };
    let text = config.validate().unwrap_err().to_string();
    assert!(text.contains("`relative_positions` is true, expected false"), "{text}");
}

/// A window as large as the grid attends as no window does: its places are the grid's.
#[test]
fn windows_keep_the_grid_s_places() {
    for (name, vit) in encoders() {
        let config = |window| WindowedConfig {
            vit,
            window,
            global_blocks: Vec::new(),
            relative_positions: false,
            relative_size: ImageSize::square(32),
        };
        let of = |window| {
            let config = config(window);
            store().build(|vb| WindowedViT::new(&config, vb)).unwrap()
        };
        let (globally, whole, small) = (of(None), of(Some(4)), of(Some(3)));
        let images = images(32, 32);
        let maps = |vit: &WindowedViT| vit.maps(&images, &[1], Mode::Eval).unwrap().remove(0);
        let want = maps(&globally);
        assert_eq!(want.dims(), [2, 16, 4, 4], "{name}");
        close(name, &maps(&whole), &want, 1e-5);
        // Windows that do not fill the grid are padded.
        let cut = maps(&small);
        assert!(relative_difference(&cut, &want) > 1e-3, "{name}: windows cut attention");
        assert!(cut.sum_all().unwrap().to_scalar::<f32>().unwrap().is_finite(), "{name}");
        // Prefix tokens are no part of it.
        let names: Vec<String> = {
            let store = store();
            store.build(|vb| WindowedViT::new(&config(None), vb)).unwrap();
            store.params().into_iter().map(|param| param.name).collect()
        };
        assert!(!names.iter().any(|name| name == "cls_token" || name == "reg_token"), "{names:?}");
    }
}

/// Each window by itself, its tokens turned by their own rows and columns of the whole grid.
#[test]
fn rotary_positions_in_windows_by_hand() {
    let (_, vit) = encoders().remove(1);
    let vit = ViTConfig { depth: 1, adapter: None, ..vit };
    let config = WindowedConfig {
        vit,
        window: Some(2),
        global_blocks: Vec::new(),
        relative_positions: false,
        relative_size: ImageSize::square(32),
    };
    let store = store();
    let windowed = store.build(|vb| WindowedViT::new(&config, vb)).unwrap();
    let images = images(32, 32);
    let got = windowed.maps(&images, &[0], Mode::Eval).unwrap().remove(0);
    // The same block on the four tokens of a window, at the places that a kept subset has.
    let bare = ViTConfig { class_token: false, register_tokens: 0, final_norm: false, ..vit };
    let encoder = self::store().build(|vb| ViT::new(&bare, vb)).unwrap();
    for (row, column) in [(0, 0), (0, 2), (2, 0), (2, 2)] {
        let places = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let ids = places.map(|(y, x)| ((row + y) * 4 + column + x) as u32);
        let keep = Tensor::new(&[ids, ids], &Device::Cpu).unwrap();
        let (tokens, grid) = encoder.embed(&images, Some(&keep)).unwrap();
        let at = encoder.places(grid, Some(&keep)).unwrap();
        let want = encoder.encode_at(&tokens, &at, Mode::Eval).unwrap();
        let own = got.narrow(2, row, 2).unwrap().narrow(3, column, 2).unwrap();
        let own = own.flatten_from(2).unwrap().transpose(1, 2).unwrap().contiguous().unwrap();
        close(&format!("window at {row}, {column}"), &own, &want, 1e-5);
    }
}
