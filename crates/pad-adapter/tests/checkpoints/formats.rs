//! Foreign checkpoints: each format by name, features equal to its own framework's, the way back,
//! and bad files.
//!
//! The fixtures and where they come from: `tests/golden/README.md`.

use std::{collections::BTreeMap, path::PathBuf};

use candle_core::{DType, Device, Tensor};
use pad_adapter::{
    AdapterConfig,
    checkpoint::{Checkpoint, ConversionReport, FloatType, Format, save},
    params::{ParamStore, Role},
    vit::{Activation, ViT, ViTConfig},
};
use pad_ops::{ImageSize, Mode, rng::Key};
use pad_testkit::{close, golden, golden_folder, numbers};

/// Forward tolerance, relative to the tensor's largest value.
const FORWARD: f64 = 1e-4;
const CPU: Device = Device::Cpu;

fn at(name: &str) -> PathBuf {
    golden_folder().join("vit").join(name)
}

fn read(name: &str) -> Checkpoint {
    Checkpoint::open(at(name)).unwrap()
}

/// The file under our names; its format told from the names.
fn ours(name: &str, format: Format) -> (Checkpoint, ConversionReport) {
    let file = read(name);
    assert_eq!(Format::detect(&file).unwrap(), format, "{name}");
    let (file, report) = file.to_ours(None).unwrap();
    assert_eq!(report.unknown(), [""; 0], "{name}");
    (file, report)
}

/// Loads strictly: every tensor of the file is one of the model's, and the reverse.
fn vit(file: &Checkpoint, config: &ViTConfig) -> ViT {
    let store = ParamStore::from_checkpoint(file.clone(), &CPU, Key::new(0));
    store.build(|vb| ViT::new(config, vb)).unwrap()
}

fn same_tensors(got: &Checkpoint, want: &Checkpoint) {
    assert_eq!(got.names().collect::<Vec<_>>(), want.names().collect::<Vec<_>>());
    for (name, tensor) in got.tensors() {
        let want = want.get(name).unwrap();
        assert_eq!(tensor.dims(), want.dims(), "{name}");
        assert_eq!(tensor.dtype(), want.dtype(), "{name}");
        let bytes = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(
            bytes(tensor).iter().map(|v| v.to_bits()).eq(bytes(want).iter().map(|v| v.to_bits())),
            "{name}"
        );
    }
}

#[test]
fn models_of_transformers() {
    for (name, format) in
        [("vit", Format::Vit), ("dinov2", Format::Dinov2), ("dinov2_swiglu", Format::Dinov2)]
    {
        let (file, _) = ours(name, format);
        let config = file.vit_config().unwrap();
        let want = golden(&format!("vit/{name}"));
        let vit = vit(&file, &config);
        for (input, images) in want.iter().filter(|(name, _)| name.starts_with("input.")) {
            let size = input.trim_start_matches("input.pixel_values");
            let tokens = vit.forward(images, Mode::Eval).unwrap();
            let last = &want[&format!("out.last_hidden_state{size}")];
            close(&format!("{name}{size}"), &tokens, last, FORWARD);
        }
        close(
            &format!("{name}: after a block"),
            &after_first(&vit, &want),
            &want["out.hidden_state1"],
            FORWARD,
        );
        let swiglu = name == "dinov2_swiglu";
        assert_eq!(config.activation, if swiglu { Activation::SwiGlu } else { Activation::Gelu });
        assert_eq!(config.hidden_dim(), if swiglu { 64 } else { 96 }, "{name}");
        assert_eq!(config.norm_eps, if name == "vit" { 1e-12 } else { 1e-6 });
        assert_eq!(config.layer_scale.is_some(), name != "vit");
    }
}

fn after_first(vit: &ViT, want: &BTreeMap<String, Tensor>) -> Tensor {
    let (tokens, _) = vit.embed(&want["input.pixel_values"], None).unwrap();
    let mut first = None;
    vit.run_blocks(&tokens, Mode::Eval, |i, x| {
        if i == 0 {
            first = Some(x.clone());
        }
        Ok(())
    })
    .unwrap();
    first.unwrap()
}

#[test]
fn clip_of_transformers() {
    let (file, _) = ours("clip_vision", Format::ClipVision);
    let config = file.vit_config().unwrap();
    let size = ImageSize::square(32);
    assert_eq!(config, ViTConfig { image_size: size, ..ViTConfig::new(8, 24, 3, 4) }.clip());
    let vit = vit(&file, &config);
    let want = golden("vit/clip_vision");
    close("after a block", &after_first(&vit, &want), &want["out.hidden_state1"], FORWARD);
    // Only the class token of the pooled output is normed.
    let (tokens, _) = vit.embed(&want["input.pixel_values"], None).unwrap();
    let last = vit.run_blocks(&tokens, Mode::Eval, |_, _| Ok(())).unwrap();
    close("last tokens", &last, &want["out.last_hidden_state"], FORWARD);
    let pooled = vit.forward(&want["input.pixel_values"], Mode::Eval).unwrap();
    close(
        "pooled",
        &pooled.narrow(1, 0, 1).unwrap().squeeze(1).unwrap(),
        &want["out.pooler_output"],
        FORWARD,
    );
    // The settings come back from a file.
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<ViTConfig>(&json).unwrap(), config);
    assert!(!serde_json::to_string(&ViTConfig::base(16)).unwrap().contains("activation"));
}

/// OpenAI's names: features of every token through the tower's last norm and projection.
#[test]
fn clip_of_openai() {
    let fixture = golden("clip_visual_teacher");
    for prefix in ["", "visual."] {
        let mut tensors: BTreeMap<String, Tensor> = fixture
            .iter()
            .filter_map(|(name, tensor)| {
                Some((format!("{prefix}{}", name.strip_prefix("param.")?), tensor.clone()))
            })
            .collect();
        if !prefix.is_empty() {
            // What the whole model has beside its image tower.
            for name in [
                "positional_embedding",
                "ln_final.weight",
                "transformer.resblocks.0.ln_1.bias",
                "logit_scale",
            ] {
                tensors.insert(name.into(), numbers(&[4], DType::F32, 1));
            }
        }
        let file = Checkpoint::from_tensors("clip", tensors);
        assert_eq!(Format::detect(&file).unwrap(), Format::Clip);
        let (mut file, report) = file.to_ours(None).unwrap();
        assert_eq!(report.unknown(), [""; 0]);
        assert_eq!(report.counts()[3], if prefix.is_empty() { 0 } else { 4 });
        let projection = file.remove("proj").unwrap();
        // One head of 64 values is told from the width alone.
        let config = ViTConfig { num_heads: 4, ..file.vit_config().unwrap() };
        let vit = vit(&file, &config);
        let tokens = vit.forward(&fixture["input.images"], Mode::Eval).unwrap();
        let features = tokens.broadcast_matmul(&projection).unwrap();
        close("features", &features, &fixture["out.features"], FORWARD);
    }
}

/// A file of the original: adapters, decoder.
fn original() -> Checkpoint {
    let fixture = golden("patchwise_concat");
    let tensors = fixture.iter().filter_map(|(name, tensor)| {
        Some((name.strip_prefix("param.")?.to_string(), tensor.clone()))
    });
    Checkpoint::from_tensors("original", tensors.collect())
}

fn stored(checkpoint: &Checkpoint) -> Checkpoint {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.safetensors");
    save(&path, checkpoint.tensors(), checkpoint.metadata(), FloatType::AsIs).unwrap();
    Checkpoint::open(&path).unwrap()
}

#[test]
fn to_the_original_and_back_bit_for_bit() {
    // Layer scale has another name there.
    let mut file = original();
    for block in 0..3 {
        for scale in ["ls1", "ls2"] {
            let gamma = numbers(&[48], DType::F32, block);
            file.insert(format!("blocks.{block}.{scale}.gamma"), gamma);
        }
    }
    let config = ViTConfig::new(8, 48, 3, 4);
    file.set_metadata("vit", serde_json::to_string(&config).unwrap());
    let (there, report) = file.clone().to_original("").unwrap();
    assert_eq!(report.unknown(), [""; 0]);
    for name in ["blocks.2.gamma_1", "blocks.0.adaptmlp.down_proj.weight", "decoder_pred.bias"] {
        assert!(there.get(name).is_some(), "{name}");
    }
    assert!(there.get("blocks.2.ls1.gamma").is_none());
    let there = stored(&there);
    assert_eq!(Format::detect(&there).unwrap(), Format::Original);
    let (back, _) = there.to_ours(None).unwrap();
    same_tensors(&back, &file);
    assert_eq!(back.vit_config().unwrap(), config);
    assert_eq!(back.metadata(), file.metadata());

    // Downstream: a prefix, and no decoder.
    for prefix in ["backbone.", "backbone.net."] {
        let (there, report) = file.clone().to_original(prefix).unwrap();
        assert!(there.names().all(|name| name.starts_with(prefix)), "{prefix}");
        assert_eq!(report.title, format!("ours -> original {prefix}"));
        let decoder = file.names().filter(|name| Role::of(name).is_decoder()).count();
        assert_eq!(report.counts()[3], decoder);
        let mut there = stored(&there);
        there.remove_metadata("names"); // as a file of the original itself
        there.remove_metadata("vit");
        assert_eq!(Format::detect(&there).unwrap(), Format::Original);
        let (back, report) = there.to_ours(None).unwrap();
        assert_eq!(report.unknown(), [""; 0]);
        let mut encoder = file.clone();
        for name in file.names().filter(|name| Role::of(name).is_decoder()) {
            encoder.remove(name);
        }
        same_tensors(&back, &encoder);
    }
}

#[test]
fn a_downstream_file_of_the_original() {
    let mut tensors = original().to_original("backbone.").unwrap().0.tensors().clone();
    for name in [
        "backbone.blocks.0.attn.relative_position_bias_table",
        "backbone.blocks.0.attn.relative_position_index",
        "backbone.fpn1.0.weight",
        "decode_head.conv_seg.bias",
        "decode_head.strange",
    ] {
        tensors.insert(name.into(), numbers(&[4], DType::F32, 1));
    }
    let file = Checkpoint::from_tensors("downstream", tensors);
    let (file, report) = file.to_ours(None).unwrap();
    let names = [
        "blocks.0.attn.relative_position_bias_table",
        "fpn1.0.weight",
        "decode_head.conv_seg.bias",
    ];
    for name in names {
        assert!(file.get(name).is_some(), "{name}");
    }
    assert_eq!(report.counts()[3], 1);
    let text = report.to_string();
    let line = text.lines().find(|line| line.starts_with("dropped")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let name = "backbone.blocks.0.attn.relative_position_index";
    assert_eq!(words, ["dropped", name, "(follows", "from", "the", "grid)"]);
}

#[test]
fn to_timm_and_back() {
    let mut file = original();
    let adapter = Some(AdapterConfig { bottleneck: 8, ..Default::default() });
    let config = ViTConfig { adapter, ..ViTConfig::new(8, 48, 3, 4) };
    file.set_metadata("vit", serde_json::to_string(&config).unwrap());
    let (timm, report) = file.clone().to_timm().unwrap();
    assert_eq!(report.unknown(), [""; 0]);
    let roles: Vec<Role> = timm.names().map(Role::of).collect();
    assert!(roles.iter().all(|role| role.is_backbone()));
    let encoder = file.names().filter(|name| Role::of(name).is_backbone()).count();
    assert_eq!(roles.len(), encoder);
    let timm = stored(&timm);
    assert_eq!(Format::detect(&timm).unwrap(), Format::Timm);
    let (back, _) = timm.to_ours(None).unwrap();
    assert_eq!(back.vit_config().unwrap(), ViTConfig { adapter: None, ..config });
    for (name, tensor) in back.tensors() {
        close(name, tensor, file.get(name).unwrap(), 0.0);
    }
}

#[test]
fn what_timm_files_hold_besides() {
    let plain = original().to_timm().unwrap().0;
    let mut tensors = plain.tensors().clone();
    let (wide, narrow) = (numbers(&[128, 48], DType::F32, 1), numbers(&[48, 64], DType::F32, 2));
    for block in 0..3 {
        for (old, new, value) in [("fc1", "w12", &wide), ("fc2", "w3", &narrow)] {
            let name = |layer: &str| format!("blocks.{block}.mlp.{layer}.weight");
            tensors.remove(&name(old));
            tensors.insert(name(new), value.clone());
        }
    }
    for name in ["head.weight", "head.bias", "fc_norm.weight", "mask_token"] {
        tensors.insert(name.into(), numbers(&[4], DType::F32, 1));
    }
    // Wrapped as by training on several devices.
    let tensors = tensors.into_iter().map(|(name, tensor)| (format!("module.{name}"), tensor));
    let file = Checkpoint::from_tensors("timm", tensors.collect());
    assert_eq!(Format::detect(&file).unwrap(), Format::Timm);
    let (file, report) = file.to_ours(None).unwrap();
    assert_eq!(report.unknown(), [""; 0]);
    assert_eq!(report.counts()[3], 4);
    close("w12", file.get("blocks.1.mlp.fc1.weight").unwrap(), &wide, 0.0);
    assert!(report.unresolved.is_some_and(|why| why.contains("`num_heads` cannot be inferred")));
}

#[test]
fn the_published_shapes_tell_their_model() {
    // Values do not matter; broadcast ones take no memory.
    let zeros = |shape: &[usize]| {
        Tensor::zeros(&[1; 1][..], DType::F32, &CPU).unwrap().broadcast_as(shape).unwrap()
    };
    let file = |patch: usize, dim: usize, depth: usize, rows: usize| {
        let mut tensors = BTreeMap::from([
            ("patch_embed.proj.weight".to_string(), zeros(&[dim, 3, patch, patch])),
            ("patch_embed.proj.bias".to_string(), zeros(&[dim])),
            ("cls_token".to_string(), zeros(&[1, 1, dim])),
            ("pos_embed".to_string(), zeros(&[1, rows, dim])),
            ("norm.weight".to_string(), zeros(&[dim])),
            ("blocks.0.attn.qkv.bias".to_string(), zeros(&[3 * dim])),
        ]);
        for block in 0..depth {
            let name = |part: &str| format!("blocks.{block}.{part}.weight");
            tensors.insert(name("norm1"), zeros(&[dim]));
            tensors.insert(name("mlp.fc1"), zeros(&[4 * dim, dim]));
            tensors.insert(name("mlp.fc2"), zeros(&[dim, 4 * dim]));
        }
        Checkpoint::from_tensors("shapes", tensors)
    };
    for (config, rows) in [
        (ViTConfig::tiny(16), 197),
        (ViTConfig::small(16), 197),
        (ViTConfig::base(16), 197),
        (ViTConfig::large(16), 197),
        (ViTConfig::huge(14), 257),
    ] {
        let inferred = file(config.patch_size, config.embed_dim, config.depth, rows).vit_config();
        assert_eq!(inferred.unwrap(), config);
    }
    let text = file(16, 768, 12, 200).vit_config().unwrap_err().to_string();
    assert_eq!(text, "vit: `image_size` cannot be inferred: 199 positions are not a square");
}

#[test]
fn tensors_as_pytorch_keeps_them() {
    let file = Checkpoint::open(golden_folder().join("pth/views.pth")).unwrap();
    let values = |name: &str| -> Vec<f64> {
        let tensor = file.get(name).unwrap_or_else(|| panic!("{name}")).to_dtype(DType::F64);
        tensor.unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let shape = |name: &str| file.get(name).unwrap().dims().to_vec();
    let count = |range: std::ops::Range<usize>| range.map(|i| i as f64).collect::<Vec<_>>();
    assert_eq!(values("part"), count(4..10));
    assert_eq!(
        (shape("transposed"), values("transposed")[..5].to_vec()),
        (vec![6, 4], vec![0.0, 6.0, 12.0, 18.0, 1.0])
    );
    assert_eq!(
        (shape("permuted"), values("permuted")[..4].to_vec()),
        (vec![3, 4, 2], vec![0.0, 12.0, 1.0, 13.0])
    );
    assert_eq!(
        (shape("strided"), values("strided")[..4].to_vec()),
        (vec![4, 3], vec![0.0, 2.0, 4.0, 6.0])
    );
    for name in ["half", "bfloat", "double"] {
        assert_eq!(values(name), count(0..24), "{name}");
    }
    assert_eq!(file.get("bfloat").unwrap().dtype(), DType::BF16);
    assert_eq!(file.get("long").unwrap().to_vec1::<i64>().unwrap(), [-1, 1 << 40]);
    assert_eq!(file.get("int").unwrap().to_vec1::<i32>().unwrap(), [-5, 7]);
    assert_eq!(file.get("bool").unwrap().to_vec1::<u8>().unwrap(), [1, 0]);
    assert_eq!((shape("scalar"), values("scalar")), (vec![], vec![2.5]));
    assert_eq!(shape("empty"), [0, 3]);
    assert_eq!(values("parameter"), count(0..3));
}

#[test]
fn shards_and_folders() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let whole = read("vit_mae");
    let mut map = serde_json::Map::new();
    let mut parts = [BTreeMap::new(), BTreeMap::new()];
    for (i, (name, tensor)) in whole.tensors().iter().enumerate() {
        let shard = format!("model-0000{}-of-00002.safetensors", i % 2 + 1);
        map.insert(name.clone(), shard.into());
        parts[i % 2].insert(name.clone(), tensor.clone());
    }
    for (i, part) in parts.iter().enumerate() {
        let name = format!("model-0000{}-of-00002.safetensors", i + 1);
        save(at(&name), part, &BTreeMap::new(), FloatType::AsIs).unwrap();
    }
    let index = at("model.safetensors.index.json");
    std::fs::write(&index, serde_json::json!({ "metadata": {}, "weight_map": map }).to_string())
        .unwrap();
    std::fs::copy(golden_folder().join("vit/vit_mae/config.json"), at("config.json")).unwrap();
    for path in [index.as_path(), folder.path()] {
        let file = Checkpoint::open(path).unwrap();
        same_tensors(&file, &whole);
        assert!(file.hub_config().is_some());
    }
    // Only PyTorch's file.
    let folder = tempfile::tempdir().unwrap();
    let text = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(text.ends_with(
        ": a folder without any of model.safetensors, model.safetensors.index.json, pytorch_model.bin, \
         pytorch_model.bin.index.json"
    ), "{text}");
    let bin = folder.path().join("pytorch_model.bin");
    std::fs::copy(golden_folder().join("vit/mae_fair.pth"), bin).unwrap();
    same_tensors(&Checkpoint::open(folder.path()).unwrap(), &read("mae_fair.pth"));
}

/// The error of reading `path` and finding our names in it, with `FILE` for the path.
fn refusal(path: &std::path::Path, format: Option<Format>) -> String {
    let read = Checkpoint::open(path).and_then(|file| file.to_ours(format));
    read.map(|_| ()).unwrap_err().to_string().replace(&path.display().to_string(), "FILE")
}

#[test]
fn files_that_are_refused() {
    let pth = |name: &str| refusal(&golden_folder().join("pth").join(name), None);
    assert_eq!(
        pth("malicious.pth"),
        "FILE: the pickle names `posix.system`, which no checkpoint needs: refused, and nothing in it was executed"
    );
    assert!(!std::path::Path::new("pad-malicious-file-ran").exists());
    assert_eq!(
        pth("complex.pth"),
        "FILE: the file holds no tensor that can be read: `a` (of the type ComplexFloat)"
    );

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let cut = |source: PathBuf, name: &str, keep: f64| {
        let bytes = std::fs::read(source).unwrap();
        std::fs::write(path(name), &bytes[..(bytes.len() as f64 * keep) as usize]).unwrap();
        refusal(&path(name), None)
    };
    let text = cut(at("vit/model.safetensors"), "cut.safetensors", 0.7);
    assert!(text.starts_with("FILE: not a safetensors file: "), "{text}");
    let text = cut(at("mae_fair.pth"), "cut.pth", 0.7);
    assert!(text.starts_with("FILE: not a PyTorch file: "), "{text}");

    let index = path("model.safetensors.index.json");
    let refuse_index = |json: &str| {
        std::fs::write(&index, json).unwrap();
        refusal(&index, None)
    };
    assert_eq!(
        refuse_index(r#"{"weight_map": {"a": "one.safetensors"}}"#),
        "FILE: it names the file `one.safetensors`, which is absent"
    );
    assert_eq!(
        refuse_index(r#"{"weight_map": {"a": "../one.safetensors"}}"#),
        "FILE: it names `../one.safetensors`, expected a file beside the index"
    );
    assert_eq!(
        refuse_index("{}"),
        "FILE: not an index of shards: missing field `weight_map` at line 1 column 2"
    );
    // An index that names itself under another name.
    let own = r#"{"weight_map": {"a": "one.safetensors"}}"#;
    std::fs::write(path("one.safetensors"), own).unwrap();
    let text = refuse_index(own);
    assert!(text.ends_with("one.safetensors: an index of shards inside another one"), "{text}");
    std::fs::copy(at("vit/model.safetensors"), path("one.safetensors")).unwrap();
    assert_eq!(
        refuse_index(r#"{"weight_map": {"a": "one.safetensors"}}"#),
        "FILE: tensor `a` is not in `one.safetensors`, where the index puts it"
    );
}

#[test]
fn every_cut_and_flip_of_a_pth_file_is_an_error_or_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.pth");
    let sound = std::fs::read(golden_folder().join("pth/views.pth")).unwrap();
    for end in (0..sound.len()).step_by(37) {
        std::fs::write(&path, &sound[..end]).unwrap();
        assert!(Checkpoint::open(&path).is_err(), "{end}");
    }
    for at in (0..sound.len()).step_by(5) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        drop(Checkpoint::open(&path)); // no panic
    }
}

#[test]
fn names_and_models_that_do_not_fit() {
    let named = |names: &[(&str, &[usize])]| {
        let tensors =
            names.iter().map(|&(name, shape)| (name.to_string(), numbers(shape, DType::F32, 1)));
        Checkpoint::from_tensors("FILE", tensors.collect())
    };
    let text = |file: Checkpoint, format| file.to_ours(format).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        text(
            named(&[("a.weight", &[2]), ("b", &[2]), ("c", &[2]), ("d", &[2]), ("e", &[2])]),
            None
        ),
        "FILE: the names are of no known format (a.weight, b, c, d, ..); name one of ours, original, mae, mmselfsup, \
         timm, dino, eva, beit-original, pe, vit, vit-mae, dinov2, dinov3, beit, siglip, clip-vision, clip"
    );
    let (query, key, value) = (
        "encoder.layer.0.attention.attention.query.weight",
        "encoder.layer.0.attention.attention.key.weight",
        "encoder.layer.0.attention.attention.value.weight",
    );
    assert_eq!(
        text(named(&[(query, &[4, 4]), (value, &[4, 4])]), Some(Format::Vit)),
        format!("FILE: `blocks.0.attn.qkv.weight` cannot be joined: {key} is missing")
    );
    assert_eq!(
        text(named(&[(query, &[4, 4]), (key, &[4, 4]), (value, &[4, 5])]), Some(Format::Vit)),
        "FILE: `blocks.0.attn.qkv.weight` cannot be joined: shapes [4, 4], [4, 4], [4, 5]"
    );
    assert_eq!(
        text(
            named(&[
                ("norm.weight", &[4]),
                ("backbone.norm.weight", &[4]),
                ("backbone.patch_embed.proj.weight", &[4])
            ]),
            None
        ),
        "FILE: `backbone.norm.weight` and `norm.weight` both get the name `norm.weight`"
    );

    // A model of another patch size, another depth; a tensor that no table knows.
    let (file, _) = ours("vit", Format::Vit);
    let config = file.vit_config().unwrap();
    let refuse = |file: Checkpoint, config: &ViTConfig| {
        let store = ParamStore::from_checkpoint(file, &CPU, Key::new(0));
        let path = at("vit/model.safetensors").display().to_string();
        store
            .build(|vb| ViT::new(config, vb))
            .map(|_| ())
            .unwrap_err()
            .to_string()
            .replace(&path, "FILE")
    };
    let start = "FILE: the checkpoint is not this model's; ";
    let other = ViTConfig { patch_size: 16, image_size: ImageSize::square(64), ..config };
    assert_eq!(
        refuse(file.clone(), &other),
        format!(
            "{start}wrong shape 1: patch_embed.proj.weight (expected [24, 3, 16, 16], found [24, 3, 8, 8])"
        )
    );
    let text = refuse(file.clone(), &ViTConfig { depth: 4, ..config });
    assert!(text.starts_with(&format!("{start}missing 12: blocks.3.attn.proj.bias, ")), "{text}");
    let text = refuse(file, &ViTConfig { depth: 2, ..config });
    assert!(
        text.starts_with(&format!("{start}unexpected 12: blocks.2.attn.proj.bias, ")),
        "{text}"
    );
    let mut foreign = read("vit");
    foreign.insert("encoder.layer.0.lora.weight", numbers(&[2], DType::F32, 1));
    let (foreign, report) = foreign.to_ours(None).unwrap();
    assert_eq!(report.unknown(), ["encoder.layer.0.lora.weight"]);
    assert_eq!(
        refuse(foreign, &config),
        format!("{start}unexpected 1: encoder.layer.0.lora.weight")
    );

    // Settings of config.json that our model does not have.
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "config.json"] {
        let text = std::fs::read(at("clip_vision").join(name)).unwrap();
        let text = match name {
            "config.json" => {
                String::from_utf8(text).unwrap().replace("quick_gelu", "relu").into_bytes()
            }
            _ => text,
        };
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let (_, report) = Checkpoint::open(folder.path()).unwrap().to_ours(None).unwrap();
    assert_eq!(
        report.unresolved.as_deref(),
        Some("vit: `hidden_act` is relu, expected gelu, gelu_pytorch_tanh or quick_gelu")
    );
}
