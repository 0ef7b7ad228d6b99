//! Files: strict loading with a full report, adapter files and their backbone, checkpoints fitted
//! to a model.

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Tensor};
use pad_adapter::{
    AdapterConfig, Scale,
    checkpoint::{AdapterFile, Checkpoint, FloatType, save, save_adapter},
    params::{ParamStore, Role},
    vit::{ViT, ViTConfig},
};
use pad_ops::{ImageSize, Mode, rng::Key};
use pad_testkit::{close, numbers};

const CPU: Device = Device::Cpu;

fn config() -> ViTConfig {
    let adapter = AdapterConfig { bottleneck: 4, ..Default::default() };
    ViTConfig {
        image_size: ImageSize::square(32),
        adapter: Some(adapter),
        ..ViTConfig::new(8, 16, 2, 2)
    }
}

fn plain() -> ViTConfig {
    ViTConfig { adapter: None, ..config() }
}

/// All weights of a fresh model, none of them zero.
fn weights(config: &ViTConfig, salt: u64) -> Checkpoint {
    let store = ParamStore::scratch(&CPU, Key::new(salt))
        .with_value("pos_embed", numbers(&[1, 17, 16], DType::F32, salt));
    store.build(|vb| ViT::new(config, vb)).unwrap();
    let tensors = store.tensors(|_| true).into_iter().map(|(name, tensor)| {
        let noise = numbers(tensor.dims(), DType::F32, salt + name.len() as u64);
        (name, (tensor + (noise * 0.2).unwrap()).unwrap())
    });
    Checkpoint::from_tensors("weights", tensors.collect())
}

fn build(config: &ViTConfig, checkpoint: Checkpoint) -> pad_adapter::Result<(ViT, ParamStore)> {
    let store = ParamStore::from_checkpoint(checkpoint, &CPU, Key::new(1));
    Ok((store.build(|vb| ViT::new(config, vb))?, store))
}

fn refusal(config: &ViTConfig, checkpoint: Checkpoint) -> String {
    build(config, checkpoint).map(|_| ()).unwrap_err().to_string()
}

fn images() -> Tensor {
    numbers(&[2, 3, 32, 32], DType::F32, 5)
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let mut file = weights(&plain(), 1);
    file.remove("blocks.1.mlp.fc1.bias");
    file.remove("norm.weight");
    file.insert("head.weight", numbers(&[2, 2], DType::F32, 1));
    file.insert("blocks.0.attn.qkv.weight", numbers(&[48, 8], DType::F32, 1));
    assert_eq!(
        refusal(&plain(), file),
        "weights: the checkpoint is not this model's; missing 2: blocks.1.mlp.fc1.bias, norm.weight; unexpected 1: \
         head.weight; wrong shape 1: blocks.0.attn.qkv.weight (expected [48, 16], found [48, 8])"
    );
    // Adapters that are not in the file are missing, unless the plan says that they are new.
    assert!(refusal(&config(), weights(&plain(), 1)).contains("missing 14: blocks.0.adaptmlp"));
}

#[test]
fn an_adapter_file_brings_its_adapters_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.safetensors");
    let all = weights(&config(), 3);
    let (vit, store) = build(&config(), all.clone()).unwrap();
    let notes = BTreeMap::from([("run".to_string(), "test".to_string())]);
    save_adapter(&path, &store, config(), &notes).unwrap();

    let mut backbone = all;
    for name in store.tensors(Role::is_adapter).keys() {
        backbone.remove(name);
    }
    let file = AdapterFile::open(&path).unwrap();
    assert_eq!(file.config(), Some(&config()));
    let with = ViTConfig { adapter: file.adapter(), ..plain() };
    let (again, _) = build(&with, file.onto(backbone.clone()).unwrap()).unwrap();
    let want = vit.forward(&images(), Mode::Eval).unwrap();
    close("loaded", &again.forward(&images(), Mode::Eval).unwrap(), &want, 0.0);

    // One bit of another backbone is another backbone.
    let bias = backbone.get("blocks.1.attn.proj.bias").unwrap();
    backbone.insert("blocks.1.attn.proj.bias", (bias + 1e-3).unwrap());
    let text = file.onto(backbone.clone()).unwrap_err().to_string();
    let start = format!(
        "{}: this adapter belongs to the backbone {}",
        path.display(),
        &file.backbone_digest()[..12]
    );
    assert!(text.starts_with(&start) && text.contains("`any_backbone`"), "{text}");
    build(&with, file.onto_any(backbone).unwrap()).unwrap();
}

#[test]
fn an_adapter_file_of_vit_base_takes_five_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.safetensors");
    let config = ViTConfig { adapter: Some(AdapterConfig::default()), ..ViTConfig::base(16) };
    let store = ParamStore::scratch(&CPU, Key::new(0));
    store.build(|vb| ViT::new(&config, vb)).unwrap();
    save_adapter(&path, &store, config, &BTreeMap::new()).unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len();
    assert!((4 * 1_226_496..4 * 1_226_496 + 20_000).contains(&bytes), "{bytes}");
}

#[test]
fn files_that_are_no_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = |path: &Path| Checkpoint::open(path).unwrap_err().to_string();
    let good = at("good.safetensors");
    save(&good, weights(&plain(), 1).tensors(), &BTreeMap::new(), FloatType::F32).unwrap();
    let bytes = std::fs::read(&good).unwrap();
    for keep in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        let path = at("cut.safetensors");
        std::fs::write(&path, &bytes[..keep]).unwrap();
        let said = text(&path);
        let start = format!("{}: not a safetensors file: ", path.display());
        assert!(said.starts_with(&start), "{keep} bytes: {said}");
    }
    let strange = at("weights.onnx");
    std::fs::write(&strange, b"x").unwrap();
    assert!(
        text(&strange)
            .ends_with("expected safetensors, a file of torch.save or an index of shards")
    );
    let pickle = at("weights.pth");
    std::fs::write(&pickle, b"not a zip file").unwrap();
    assert!(text(&pickle).contains("not a checkpoint: expected safetensors"));
    assert!(text(&at("absent.safetensors")).contains("No such file"));
    let plain_file = AdapterFile::open(&good).unwrap_err().to_string();
    assert!(plain_file.ends_with("not an adapter file: format none, expected pad-adapter/1"));
}

#[test]
fn half_floats_halve_the_file_and_stay_close() {
    let folder = tempfile::tempdir().unwrap();
    let (full, half) =
        (folder.path().join("full.safetensors"), folder.path().join("half.safetensors"));
    let file = weights(&plain(), 2);
    save(&full, file.tensors(), &BTreeMap::new(), FloatType::F32).unwrap();
    save(&half, file.tensors(), &BTreeMap::new(), FloatType::F16).unwrap();
    let size = |path: &Path| std::fs::metadata(path).unwrap().len() as f64;
    assert!(size(&half) < 0.6 * size(&full));
    let read = Checkpoint::open(&half).unwrap();
    for (name, tensor) in file.tensors() {
        close(name, &read.get(name).unwrap().to_dtype(DType::F32).unwrap(), tensor, 1e-3);
    }
}

#[test]
fn equal_contents_are_equal_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = weights(&plain(), 2);
    let notes: BTreeMap<String, String> =
        (0..20).map(|i| (format!("note {i}"), format!("{}", i * i))).collect();
    let write = |name: &str| {
        let path = folder.path().join(name);
        save(&path, file.tensors(), &notes, FloatType::F32).unwrap();
        std::fs::read(path).unwrap()
    };
    let first = write("a.safetensors");
    assert!((0..5).all(|_| write("b.safetensors") == first));
    let read = Checkpoint::open(folder.path().join("b.safetensors")).unwrap();
    assert_eq!(read.metadata(), &notes);
    for (name, tensor) in file.tensors() {
        close(name, read.get(name).unwrap(), tensor, 0.0);
    }
}

#[test]
fn rgb_weights_serve_one_channel() {
    let (rgb, _) = build(&plain(), weights(&plain(), 4)).unwrap();
    let one = ViTConfig { in_channels: 1, ..plain() };
    let mut file = weights(&plain(), 4);
    let changes = file.fit(&one).unwrap();
    assert_eq!(changes, ["patch_embed.proj.weight from 3 to 1 channels"]);
    let (gray, _) = build(&one, file).unwrap();
    let image = numbers(&[2, 1, 32, 32], DType::F32, 6);
    let repeated = Tensor::cat(&[&image, &image, &image], 1).unwrap();
    let want = rgb.forward(&repeated, Mode::Eval).unwrap();
    close("grey", &gray.forward(&image, Mode::Eval).unwrap(), &want, 1e-5);
}

#[test]
fn any_image_size_that_the_patch_divides() {
    let (vit, _) = build(&plain(), weights(&plain(), 4)).unwrap();
    let wide = numbers(&[1, 3, 24, 40], DType::F32, 6);
    assert_eq!(vit.forward(&wide, Mode::Eval).unwrap().dims(), [1, 1 + 15, 16]);
    let maps = vit.features(&wide, &[1, 0], Mode::Eval).unwrap();
    assert_eq!(maps.len(), 2);
    assert!(maps.iter().all(|map| map.data.dims() == [1, 16, 3, 5] && map.stride == 8));
    // The first patch of the last block's map is the second token without the final norm.
    let (tokens, _) = vit.embed(&wide, None).unwrap();
    let last = vit.run_blocks(&tokens, Mode::Eval, |_, _| Ok(())).unwrap();
    let patch = maps[0].data.narrow(2, 0, 1).unwrap().narrow(3, 0, 1).unwrap();
    let token = last.narrow(1, 1, 1).unwrap().reshape((1, 16, 1, 1)).unwrap();
    close("place", &patch, &token, 0.0);

    let text = |shape: &[usize]| {
        vit.forward(&numbers(shape, DType::F32, 1), Mode::Eval).unwrap_err().to_string()
    };
    assert_eq!(
        text(&[1, 3, 24, 41]),
        "image of shape [1, 3, 24, 41], expected (B, 3, H, W) with sides divisible by 8"
    );
    assert!(text(&[1, 1, 24, 40]).starts_with("image of shape [1, 1, 24, 40]"));
    let deep = vit.features(&wide, &[2], Mode::Eval).unwrap_err().to_string();
    assert_eq!(deep, "block 2, expected an index below 2");
    // A table of another grid is interpolated when the file is fitted.
    let large = ViTConfig { image_size: ImageSize::square(64), ..plain() };
    let mut file = weights(&plain(), 4);
    assert_eq!(file.fit(&large).unwrap(), ["pos_embed interpolated from 4x4 to 8x8"]);
    build(&large, file).unwrap();
}

#[test]
fn a_fixed_scale_must_be_the_file_s() {
    let adapter = AdapterConfig { bottleneck: 4, scale: Scale::Fixed(0.5), ..Default::default() };
    let fixed = ViTConfig { adapter: Some(adapter), ..config() };
    let mut file = weights(&fixed, 1);
    file.insert("blocks.1.adaptmlp.scale", Tensor::new(&[0.1_f32], &CPU).unwrap());
    assert_eq!(
        refusal(&fixed, file),
        "`blocks.1.adaptmlp.scale`: the configuration says 0.5, the checkpoint holds 0.10000000149011612"
    );
}

#[test]
fn configurations_that_cannot_be() {
    let broken = ViTConfig {
        patch_size: 7,
        in_channels: 2,
        num_heads: 5,
        drop_path: 1.0,
        adapter: Some(AdapterConfig { bottleneck: 0, ..Default::default() }),
        ..config()
    };
    assert_eq!(
        broken.validate().unwrap_err().to_string(),
        "vit: `image_size` is 32x32, expected sides divisible by 7; `in_channels` is 2, expected 1 or 3 to 64; `num_heads` \
         is 5, expected a divisor of `embed_dim` 16; `drop_path` is 1, expected 0 <= drop_path < 1; adapter: \
         `bottleneck` is 0, expected at least 1"
    );
}

#[test]
fn first_values_depend_on_names_alone() {
    let small = ParamStore::scratch(&CPU, Key::new(9));
    small.build(|vb| ViT::new(&ViTConfig { depth: 1, ..config() }, vb)).unwrap();
    let large = ParamStore::scratch(&CPU, Key::new(9));
    large.build(|vb| ViT::new(&config(), vb)).unwrap();
    let (small, large) = (small.tensors(|_| true), large.tensors(|_| true));
    for (name, tensor) in &small {
        assert_eq!(
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            large[name].flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            "{name}"
        );
    }
}
