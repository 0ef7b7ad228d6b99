//! Weights as people have them, `tests/golden/cases/C`: each gives the weights that it holds.

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use pad_adapter::{
    checkpoint::{Backbone, BackboneOptions, Change, Checkpoint, Format},
    params::ParamStore,
    vit::{ViT, ViTConfig},
};
use pad_ops::{ImageSize, rng::Key};
use pad_testkit::golden_folder;

fn at(name: &str) -> PathBuf {
    golden_folder().join("cases/C").join(name)
}

/// The weights that all the files hold, under our names.
fn weights() -> Checkpoint {
    let (file, report) = Checkpoint::open(at("weights.th")).unwrap().to_ours(None).unwrap();
    assert_eq!(report.counts(), [30, 0, 0, 0, 0]);
    file
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn open(name: &str) -> Backbone {
    let path = at(name);
    Backbone::open(path.to_str().unwrap(), &BackboneOptions::default())
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The weights of a file load strictly, and are the ones that all files hold, bit for bit.
fn has_the_weights(name: &str) -> Backbone {
    let (found, want) = (open(name), weights());
    let names: Vec<&str> = found.checkpoint().names().collect();
    assert_eq!(names, want.names().collect::<Vec<_>>(), "{name}");
    for (tensor, values) in want.tensors() {
        let got = found.checkpoint().get(tensor).unwrap();
        assert_eq!(got.dims(), values.dims(), "{name}: {tensor}");
        assert_eq!(bits(got), bits(values), "{name}: {tensor}");
    }
    let config = found.config().unwrap();
    let image_size = ImageSize::square(32);
    let pos_resize = config.pos_resize; // timm's names tell it, others do not
    let plain = ViTConfig::new(8, 64, 2, 1);
    let want = ViTConfig { image_size, mlp_ratio: 1.0, pos_resize, ..plain };
    assert_eq!(config, want, "{name}");
    ParamStore::from_checkpoint(found.checkpoint().clone(), &Device::Cpu, Key::new(0))
        .build(|vb| ViT::new(&config, vb))
        .unwrap();
    found
}

/// Wrappers (C02), extensions (C03), prefixes (C04), keys (C05), odd arguments beside (C07).
#[test]
fn wrappers_extensions_prefixes_and_keys() {
    for name in [
        "module_orig.pth",
        "orig_module.pth",
        "model_best.pth.tar",
        "lightning.ckpt",
        "weights.th",
        "weights.pkl",
        "lightning_model.pth",
        "lightning_net.pth",
        "encoder.pth",
        "lightning_compiled.pth",
        "key_model_state_dict.pth",
        "nested_ema.pth",
        "odd_values.pth",
    ] {
        let report = has_the_weights(name).report().clone();
        assert_eq!(report.unknown(), [""; 0], "{name}");
        let [kept, renamed, joined, dropped, _] = report.counts();
        assert_eq!((kept + renamed, joined, dropped), (30, 0, 0), "{name}");
        assert!(report.title.starts_with("timm -> "), "{}", report.title);
    }
}

/// A tensor of a type that is not read, or that is no weight, beside the weights (C06).
#[test]
fn odd_tensors_are_listed() {
    for (name, why) in [
        ("st_i8.safetensors", "of the type I8"),
        ("st_u64.safetensors", "of the type U64"),
        ("with_int8.pth", "of the type Char"),
    ] {
        let found = has_the_weights(name);
        assert_eq!(found.checkpoint().unread()["q"], why, "{name}");
        let unread = Change::Unread { name: "q".into(), why: why.into() };
        assert!(found.report().changes.contains(&unread), "{name}");
        assert!(found.report().summary().ends_with(", 1 unread"), "{}", found.report().summary());
        assert!(found.report().to_string().contains(&format!("unread   q  ({why})")), "{name}");
    }
    for name in ["st_bool.safetensors", "with_bool.pth"] {
        let file = Checkpoint::open(at(name)).unwrap();
        let values = file.get("q").unwrap().to_vec1::<u8>().unwrap();
        assert_eq!(values, [0; 3], "{name}");
        let why = "whole numbers of a name that is not known";
        let dropped = Change::Dropped { name: "q".into(), why };
        assert!(has_the_weights(name).report().changes.contains(&dropped), "{name}");
    }
    // An expanded view is read; this one is a head's, which is left out.
    let file = Checkpoint::open(at("with_expanded.pth")).unwrap();
    let bias = file.get("head.bias").unwrap().to_vec1::<f32>().unwrap();
    assert_eq!((bias.len(), bias[0].to_bits()), (5, bias[4].to_bits()));
    assert_eq!(has_the_weights("with_expanded.pth").report().counts()[3], 1);
}

/// DINOv2's training (C08): blocks in chunks, heads of its losses.
#[test]
fn checkpoints_of_dinov2_s_training() {
    for (name, heads) in [("dinov2_chunked.pth", 4), ("dinov2_teacher.pth", 8)] {
        let report = has_the_weights(name).report().clone();
        assert_eq!(report.counts(), [0, 30, 0, heads, 0], "{name}");
        let head = Change::Dropped {
            name: "dino_head.mlp.0.weight".into(),
            why: "head of DINO's training",
        };
        assert!(report.changes.contains(&head), "{name}");
    }
}

/// NaN in one norm (C14).
#[test]
fn weights_that_are_no_numbers_are_refused() {
    let path = at("nan.pth");
    let refusal = |text: String| text.replace(path.to_str().unwrap(), "FILE");
    let opened = Backbone::open(path.to_str().unwrap(), &BackboneOptions::default());
    let text = refusal(opened.map(|_| ()).unwrap_err().to_string());
    assert!(text.starts_with("FILE: tensor `"), "{text}");
    assert!(text.contains(" is NaN, expected finite numbers ("), "{text}");
    // The library's strict loading as well.
    let (file, _) = Checkpoint::open(&path).unwrap().to_ours(None).unwrap();
    let config = file.vit_config().unwrap();
    let store = ParamStore::from_checkpoint(file.clone(), &Device::Cpu, Key::new(0));
    let built = store.build(|vb| ViT::new(&config, vb)).map(|_| ());
    assert_eq!(refusal(built.unwrap_err().to_string()), text);
    // Infinite ones too, of every type of floats.
    for (value, dtype) in [
        (f32::INFINITY, candle_core::DType::F32),
        (f32::NEG_INFINITY, candle_core::DType::F16),
        (f32::NAN, candle_core::DType::BF16),
        (f32::NAN, candle_core::DType::F64),
    ] {
        let mut file = weights();
        let mut values = file.get("norm.bias").unwrap().to_vec1::<f32>().unwrap();
        values[7] = value;
        let tensor = Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        file.insert("norm.bias", tensor);
        let store = ParamStore::from_checkpoint(file, &Device::Cpu, Key::new(0));
        let text = store.build(|vb| ViT::new(&config, vb)).map(|_| ()).unwrap_err().to_string();
        let want = format!(
            "tensor `norm.bias`: value 7 of 64 is {value}, expected finite numbers (1 are not)"
        );
        assert!(text.ends_with(&want), "{text}");
    }
}

/// A value of 64 bits that 32 cannot hold, and one of 32 that 16 cannot.
#[test]
fn values_beyond_the_type_they_are_used_in_are_refused() {
    let (file, _) = weights().to_ours(None).unwrap();
    let config = file.vit_config().unwrap();
    let mut wide = file.clone();
    let bias = file.get("norm.bias").unwrap().to_dtype(candle_core::DType::F64).unwrap();
    wide.insert("norm.bias", ((bias + 1.0).unwrap() * 1e300).unwrap());
    let store = ParamStore::from_checkpoint(wide, &Device::Cpu, Key::new(0));
    let text = store.build(|vb| ViT::new(&config, vb)).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("tensor `norm.bias`: value 0 of 64 is inf, expected finite"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.safetensors");
    let tensors = [("a.b".to_string(), Tensor::new(&[1_f32, 1e6], &Device::Cpu).unwrap())];
    let saved = pad_adapter::checkpoint::save(
        &path,
        &tensors.into(),
        &Default::default(),
        pad_adapter::checkpoint::FloatType::F16,
    );
    let text = saved.unwrap_err().to_string();
    assert!(
        text.ends_with("`a.b`: value 1000000 at 1, expected at most 65504 for 16-bit floats"),
        "{text}"
    );
    assert!(!path.exists());
}

/// Tensors of losses, heads, queues and counters beside the network, and what may be a part of it.
#[test]
fn tensors_beside_the_network_are_reported_and_left_out() {
    let plain = Checkpoint::open(at("weights.th")).unwrap();
    let one = Tensor::ones(4, candle_core::DType::F32, &Device::Cpu).unwrap();
    let opened = |names: &[&str]| {
        let mut file = plain.clone();
        for name in names {
            file.insert(*name, one.clone());
        }
        file.to_ours(None)
    };
    let beside = [
        "criterion.weight",
        "logit_scale",
        "queue",
        "fc.weight",
        "fc.bias",
        "bn.running_mean",
        "pixel_mean",
        "pixel_std",
        "decode_head.conv_seg.weight",
        "blocks.0.attn.total_ops",
        "blocks.0.total_params",
        "total_ops",
    ];
    let (file, report) = opened(&beside).unwrap();
    for name in beside {
        assert!(file.get(name).is_none(), "{name}");
        let dropped = Change::Dropped { name: name.into(), why: "beside the network" };
        let known = |change: &Change| matches!(change, Change::Dropped { name: found, .. } if found == name);
        assert!(report.changes.contains(&dropped) || report.changes.iter().any(known), "{name}");
    }
    assert!(report.unknown().is_empty(), "{:?}", report.unknown());
    // Under the network's own names, or of the name of one of its parts: it may be needed.
    for name in ["blocks.0.extra.weight", "extra_tokens", "pre_norm.weight", "rope.periods"] {
        let (file, report) = opened(&[name]).unwrap();
        assert!(file.get(name).is_some(), "{name}");
        assert_eq!(report.unknown(), [name]);
    }
}

/// The formats by name give the same as when they are detected, prefixes found or given.
#[test]
fn formats_and_prefixes_by_name() {
    let want = weights();
    for (name, prefix) in [
        ("encoder.pth", Some("encoder")),
        ("encoder.pth", Some("encoder.")),
        ("lightning_compiled.pth", Some("model")),
        ("lightning_compiled.pth", Some("model._orig_mod.")),
        ("weights.th", None),
        ("lightning_net.pth", None),
    ] {
        for format in [None, Some(Format::Timm)] {
            let file = Checkpoint::open(at(name)).unwrap();
            let file = prefix.map_or(Ok(file.clone()), |prefix| file.under_prefix(prefix)).unwrap();
            let (file, _) = file.to_ours(format).unwrap();
            assert_eq!(
                file.names().collect::<Vec<_>>(),
                want.names().collect::<Vec<_>>(),
                "{name} {prefix:?} {format:?}"
            );
        }
    }
    let file = Checkpoint::open(at("encoder.pth")).unwrap();
    let text = file.under_prefix("net.").unwrap_err().to_string();
    assert!(
        text.ends_with(": no name begins with the prefix `net.`; they begin with encoder."),
        "{text}"
    );
}
