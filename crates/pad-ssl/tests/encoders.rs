//! Objectives on encoders of every kind: with registers, without class token, with rotary or
//! relative positions.

use candle_core::{DType, Device, Tensor};
use pad_adapter::{
    AdapterConfig, LoraConfig, LoraTarget,
    params::{ParamStore, Role},
    vit::{Activation, PatchGrid, Positions, QkvBias, RelativeBias, ViT, ViTConfig},
};
use pad_ops::{AxialRope, ImageSize, Mode, rng::Key};
use pad_ssl::{
    FeatureTarget, FeatureTargetConfig, Mae, MaeConfig, Mask, Milan, MilanConfig, Objective, Pool,
    SimMim, SimMimConfig, Teacher, TeacherFn,
};
use pad_testkit::{close, largest, numbers};
use std::sync::Arc;

/// Tiny encoders, each of a family.
fn encoders() -> Vec<(&'static str, ViTConfig)> {
    let plain = ViTConfig {
        image_size: ImageSize::square(32),
        in_channels: 1,
        mlp_ratio: 2.0,
        adapter: Some(AdapterConfig { bottleneck: 4, ..AdapterConfig::default() }),
        ..ViTConfig::new(8, 16, 2, 2)
    };
    let swiglu = Activation::SwiGlu;
    let query_value = QkvBias::QueryValue;
    vec![
        ("plain", plain),
        (
            "dinov3",
            ViTConfig {
                register_tokens: 4,
                positions: Positions::None,
                rope: Some(AxialRope::dinov3()),
                layer_scale: Some(0.5),
                qkv_bias: query_value,
                ..plain
            },
        ),
        (
            "dinov2 with registers",
            ViTConfig {
                register_tokens: 2,
                pos_grid: Some(PatchGrid::new(3, 3)),
                activation: swiglu,
                layer_scale: Some(0.5),
                ..plain
            },
        ),
        ("siglip", ViTConfig { class_token: false, activation: Activation::GeluTanh, ..plain }),
        (
            "eva02",
            ViTConfig {
                rope: Some(AxialRope::eva02([3, 3])),
                activation: swiglu,
                mlp_norm: true,
                attention_norm: true,
                qkv_bias: query_value,
                final_norm: false,
                ..plain
            },
        ),
        (
            "pe without class token",
            ViTConfig {
                class_token: false,
                rope: Some(AxialRope::pe(false, Some([4, 4]))),
                pre_norm: true,
                patch_bias: false,
                ..plain
            },
        ),
    ]
}

fn images(batch: usize) -> Tensor {
    numbers(&[batch, 1, 32, 32], DType::F32, 5)
}

fn keys(count: usize) -> Vec<Key> {
    (0..count).map(|i| Key::new(7).sample(i as u64)).collect()
}

/// Gradients reach every adapter and the decoder's weights, and nothing that is frozen.
fn trains(name: &str, store: &ParamStore, loss: &Tensor) {
    let value = loss.to_scalar::<f32>().unwrap();
    assert!(value.is_finite() && value > 0.0, "{name}: {value}");
    let grads = pad_ops::backward(loss).unwrap();
    for param in store.params() {
        match &param.var {
            Some(var) => {
                let grad = grads.get(var.as_tensor());
                let grad = grad.unwrap_or_else(|| panic!("{name}: {} has none", param.name));
                // At first `up` is zero: what lies below it gets zeros.
                if param.name.contains("up_proj") || param.name.contains("decoder_pred") {
                    assert!(largest(grad) > 0.0, "{name}: {}", param.name);
                }
            }
            None => assert!(grads.get(&param.tensor).is_none(), "{name}: {}", param.name),
        }
    }
}

fn store() -> ParamStore {
    let store = ParamStore::scratch(&Device::Cpu, Key::new(2));
    store.with_trained(|role| role.is_adapter() || matches!(role, Role::Decoder | Role::MaskToken))
}

#[test]
fn masked_autoencoding() {
    for (name, encoder) in encoders() {
        let config = MaeConfig {
            encoder,
            decoder_embed_dim: 12,
            decoder_depth: 2,
            decoder_num_heads: 2,
            ..MaeConfig::default()
        };
        let store = store();
        let mae = store.build(|vb| Mae::new(&config, vb)).unwrap();
        let images = images(2);
        let mask = mae.draw(&images, &keys(2)).unwrap();
        let loss = mae.loss(&images, &mask, Mode::Train(Key::new(1))).unwrap();
        trains(name, &store, &loss.total);
        let latent = mae.forward_encoder(&images, &mask, Mode::Eval).unwrap();
        let front = encoder.prefix().len();
        assert_eq!(latent.dims(), [2, front + 4, 16], "{name}");
        assert_eq!(mae.predict(&images, &mask).unwrap().dims(), [2, 16, 64], "{name}");
        let tables = Mae::tables(&config, &Device::Cpu).unwrap();
        let rows = |table: &str| {
            let found = tables.iter().find(|(name, _)| *name == table);
            found.map(|(_, table)| table.dim(1).unwrap())
        };
        let class = usize::from(encoder.class_token);
        assert_eq!(rows("decoder_pos_embed"), Some(class + 16), "{name}");
        assert_eq!(rows("pos_embed").is_some(), encoder.positions != Positions::None, "{name}");
        // Positions belong to places: the order in which patches are kept makes no difference.
        let ids = mask.ids_keep.to_vec2::<u32>().unwrap();
        let turned: Vec<u32> = ids.iter().flat_map(|row| row.iter().rev().copied()).collect();
        let turned = Tensor::from_vec(turned, mask.ids_keep.shape(), &Device::Cpu).unwrap();
        let encoded = |keep: &Tensor| {
            let vit = mae.encoder();
            let (tokens, grid) = vit.embed(&images, Some(keep)).unwrap();
            vit.encode_at(&tokens, &vit.places(grid, Some(keep)).unwrap(), Mode::Eval).unwrap()
        };
        let (straight, turned) = (encoded(&mask.ids_keep), encoded(&turned));
        for kept in 0..4 {
            let got = turned.narrow(1, front + 3 - kept, 1).unwrap();
            let want = straight.narrow(1, front + kept, 1).unwrap();
            close(name, &got, &want, 1e-5);
        }
    }
}

/// Objectives that see the whole grid, relative biases included.
#[test]
fn masked_encoders() {
    let teacher: Arc<dyn Teacher> = Arc::new(TeacherFn(|images: &Tensor| {
        images.avg_pool2d(8)?.flatten_from(2)?.transpose(1, 2)?.contiguous()
    }));
    let mut all = encoders();
    let beit = ViTConfig {
        positions: Positions::None,
        relative_bias: RelativeBias::PerBlock,
        qkv_bias: QkvBias::QueryValue,
        layer_scale: Some(0.5),
        ..all[0].1
    };
    all.push(("beit", beit));
    all.push(("beit, shared", ViTConfig { relative_bias: RelativeBias::Shared, ..beit }));
    for (name, encoder) in all {
        let images = images(2);
        let store_simmim = store();
        let config = SimMimConfig { encoder, ..SimMimConfig::default() };
        let simmim = store_simmim.build(|vb| SimMim::new(&config, vb)).unwrap();
        let mask = Mask::random(&keys(2), 16, 0.5, &Device::Cpu).unwrap();
        let loss = simmim.loss(&images, &mask, Mode::Train(Key::new(1))).unwrap();
        trains(name, &store_simmim, &loss.total);

        for all_patches in [false, true] {
            let store = store();
            let config = FeatureTargetConfig {
                encoder,
                target_dim: 1,
                all_patches,
                loss: pad_ssl::FeatureLoss::SmoothL1,
                ..FeatureTargetConfig::default()
            };
            let target =
                store.build(|vb| FeatureTarget::new(&config, teacher.clone(), vb)).unwrap();
            let draw = target.draw(&images, &keys(2)).unwrap();
            let loss = target.loss(&images, &draw, Mode::Train(Key::new(1))).unwrap();
            assert!(loss.total.to_scalar::<f32>().unwrap().is_finite(), "{name}");
        }
    }
}

/// MILAN's decoder has a class token where the student has one; a teacher's class token is left out
/// where it has none.
#[test]
fn milan() {
    for (name, encoder) in encoders() {
        let vit = ParamStore::scratch(&Device::Cpu, Key::new(9))
            .build(|vb| ViT::new(&ViTConfig { adapter: None, ..encoders()[0].1 }, vb))
            .unwrap();
        let config = MilanConfig {
            encoder,
            decoder_embed_dim: 12,
            decoder_depth: 1,
            decoder_num_heads: 2,
            target_dim: 16,
            ..MilanConfig::default()
        };
        let store = store();
        let milan = store.build(|vb| Milan::new(&config, Arc::new(vit.clone()), vb)).unwrap();
        let milan = milan.with_masking(pad_ssl::Masking::Random);
        let images = images(2);
        let draw = milan.draw(&images, &keys(2)).unwrap();
        let loss = milan.loss(&images, &draw, Mode::Train(Key::new(1))).unwrap();
        assert!(loss.total.to_scalar::<f32>().unwrap().is_finite(), "{name}");
    }
}

#[test]
fn an_encoder_with_registers_as_teacher_and_pooled() {
    for (name, encoder) in encoders() {
        let store = ParamStore::scratch(&Device::Cpu, Key::new(3));
        let vit = store.build(|vb| ViT::new(&encoder, vb)).unwrap();
        let images = images(2);
        let class = usize::from(encoder.class_token);
        assert_eq!(Teacher::features(&vit, &images).unwrap().dims(), [2, class + 16, 16], "{name}");
        let tokens = vit.forward(&images, Mode::Eval).unwrap();
        let prefix = encoder.prefix();
        assert_eq!(tokens.dims(), [2, prefix.len() + 16, 16], "{name}");
        let mean = Pool::Mean.apply(&tokens, prefix).unwrap();
        let want = tokens.narrow(1, prefix.len(), 16).unwrap().mean(1).unwrap();
        close(name, &mean, &want, 0.0);
        let pooled = Pool::Class.apply(&tokens, prefix);
        match encoder.class_token {
            true => assert_eq!(pooled.unwrap().dims(), [2, 16], "{name}"),
            false => {
                let text = pooled.unwrap_err().to_string();
                assert!(text.contains("no class token"), "{text}");
            }
        }
        let all = Pool::Tokens.apply(&tokens, prefix).unwrap();
        assert_eq!(all.dims(), [2, usize::from(encoder.class_token) + 16, 16], "{name}");
    }
}

/// Masked autoencoding needs parts of a grid, which relative biases do not take.
#[test]
fn relative_biases_and_parts_of_a_grid() {
    let encoder = ViTConfig {
        positions: Positions::None,
        relative_bias: RelativeBias::PerBlock,
        ..encoders()[0].1
    };
    let config = MaeConfig { encoder, ..MaeConfig::default() };
    let mae = store().build(|vb| Mae::new(&config, vb)).unwrap();
    let mask = mae.draw(&images(1), &keys(1)).unwrap();
    let text = mae.loss(&images(1), &mask, Mode::Eval).unwrap_err().to_string();
    assert!(text.contains("`relative_bias` takes all patches"), "{text}");
}

/// LoRA under the same roles as PAD's adapters.
#[test]
fn low_rank_adapters_train_under_the_same_roles() {
    let targets = [LoraTarget::Query, LoraTarget::Value, LoraTarget::Fc1];
    for (name, encoder) in encoders() {
        let lora = LoraConfig { dora: name == "dinov3", ..LoraConfig::new(2, 4.0, &targets) };
        let encoder = ViTConfig { adapter: None, lora: Some(lora), ..encoder };
        let config = SimMimConfig { encoder, ..SimMimConfig::default() };
        let store = store();
        let simmim = store.build(|vb| SimMim::new(&config, vb)).unwrap();
        let mask = Mask::random(&keys(2), 16, 0.5, &Device::Cpu).unwrap();
        let loss = simmim.loss(&images(2), &mask, Mode::Train(Key::new(1))).unwrap();
        let grads = pad_ops::backward(&loss.total).unwrap();
        let mut trained = 0;
        for param in store.params().into_iter().filter(|param| param.role.is_adapter()) {
            let var = param.var.unwrap();
            let grad = grads.get(var.as_tensor()).unwrap_or_else(|| panic!("{}", param.name));
            // B is zero at first: A gets zeros then, B does not.
            assert_eq!(largest(grad) > 0.0, !param.name.contains("lora_A"), "{}", param.name);
            trained += var.elem_count();
        }
        let (first, second) =
            (encoder.activation.fc1_outputs(encoder.hidden_dim()), encoder.hidden_dim());
        assert_eq!(trained, 2 * lora.parameter_count(16, first, second), "{name}");
    }
}
