//! Configurations from files, with any values: an error or a small network, never a panic.

use pad_adapter::{
    AdapterConfig, Scale,
    checkpoint::Checkpoint,
    params::ParamStore,
    vit::{PatchGrid, ViT, ViTConfig},
};
use pad_ops::{ImageSize, rng::Key};
use pad_testkit::numbers;
use proptest::prelude::*;

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just(0),
        1_usize..40,
        Just(64),
        Just(102_400),
        Just(1 << 32),
        Just(1 << 62),
        Just(usize::MAX),
        any::<usize>(),
    ]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(4.0),
        Just(1e308),
        Just(-1.0),
        Just(f64::MIN_POSITIVE),
        0.0..10.0_f64,
        any::<f64>(),
    ]
}

prop_compose! {
    fn config()(
        sizes in proptest::array::uniform8(size()),
        numbers in proptest::array::uniform5(number()),
        grid in proptest::option::of((size(), size())),
        adapter in proptest::option::of((size(), number(), number())),
        pre_norm in any::<bool>(),
        has_scale in any::<bool>(),
    ) -> ViTConfig {
        let [height, width, patch_size, in_channels, embed_dim, depth, num_heads, _] = sizes;
        ViTConfig {
            image_size: ImageSize { height, width },
            pos_grid: grid.map(|(height, width)| PatchGrid::new(height, width)),
            patch_size,
            in_channels,
            embed_dim,
            depth,
            num_heads,
            mlp_ratio: numbers[0],
            pre_norm,
            layer_scale: has_scale.then_some(numbers[1]),
            drop_path: numbers[2],
            norm_eps: numbers[3],
            adapter: adapter.map(|(bottleneck, dropout, scale)| AdapterConfig {
                bottleneck,
                dropout,
                scale: Scale::Learnable { init: scale },
                ..Default::default()
            }),
            ..ViTConfig::base(16)
        }
    }
}

/// A file that claims to be of `config`.
fn claiming(config: &ViTConfig) -> Checkpoint {
    let tensors = [
        ("norm.bias".to_string(), numbers(&[64], candle_core::DType::F32, 1)),
        ("pos_embed".to_string(), numbers(&[1, 5, 64], candle_core::DType::F32, 2)),
        (
            "patch_embed.proj.weight".to_string(),
            numbers(&[64, 3, 4, 4], candle_core::DType::F32, 3),
        ),
    ];
    let mut file = Checkpoint::from_tensors("FILE", tensors.into());
    file.set_metadata("vit", serde_json::to_string(config).unwrap());
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    /// Every use of a configuration that comes from a file: all of them end, with an error of one
    /// line, and no more memory than the file's own tensors take is needed for it.
    #[test]
    fn nonsense_is_an_error(config in config()) {
        let valid = config.validate();
        // The JSON of a number that is not finite is null, another error.
        let stored = claiming(&config).vit_config();
        prop_assert!(valid.is_ok() || stored.is_err());
        let _ = (config.hidden_dim(), config.patch_values(), config.grid(), config.pos_table_grid());
        let mut file = claiming(&config);
        let fitted = file.fit(&config);
        prop_assert!(valid.is_ok() || fitted.is_err());
        let store = ParamStore::from_checkpoint(file, &candle_core::Device::Cpu, Key::new(0));
        let built = store.build(|vb| ViT::new(&config, vb)).map(|_| ());
        if let Err(error) = built {
            let text = error.to_string();
            prop_assert!(text.len() < 8000 && !text.contains('\n'), "{}", text);
        }
    }
}
