//! Low-rank adapters against peft: in, out, trained, merged.

use std::path::PathBuf;

use candle_core::{D, Tensor};
use pad_adapter::{
    Error, LoraConfig, LoraSize, LoraTarget,
    checkpoint::{AdapterFile, Backbone, BackboneOptions, Checkpoint, PeftAdapter, save_adapter},
    params::{ParamStore, Role},
    vit::{ViT, ViTConfig},
};
use pad_ops::{ImageSize, MatmulPrecision, Mode, rng::Key};
use pad_testkit::{close, relative_difference};

use super::{
    all_read,
    entry::{CPU, Entry, TOLERANCE, folder},
};

/// The backbone that the entries adapt.
fn base(entry: &Entry) -> Checkpoint {
    let overrides = &entry.facts["timm"]["overrides"];
    let number = |key: &str| overrides[key].as_u64().unwrap() as usize;
    let sides = overrides["img_size"].as_array().unwrap();
    let side = |i: usize| sides[i].as_u64().unwrap() as usize;
    let plain = ViTConfig::new(
        number("patch_size"),
        number("embed_dim"),
        number("depth"),
        number("num_heads"),
    );
    let model = ViTConfig {
        image_size: ImageSize::new(side(0), side(1)),
        in_channels: number("in_chans"),
        mlp_ratio: overrides["mlp_ratio"].as_f64().unwrap(),
        ..plain
    };
    let path = folder().join(entry.facts["base"].as_str().unwrap());
    let options = BackboneOptions::default().with_model(Some(model));
    Backbone::open(path.to_str().unwrap(), &options).unwrap().into_checkpoint()
}

fn build(file: Checkpoint, trained: fn(Role) -> bool) -> (ViT, ParamStore) {
    let config = file.vit_config().unwrap();
    let store = ParamStore::from_checkpoint(file, &CPU, Key::new(0)).with_trained(trained);
    (store.build(|vb| ViT::new(&config, vb)).unwrap(), store)
}

/// peft's name of one of our parameters, by the block and the end of a module's name.
fn find<'a>(entry: &'a Entry, name: &str) -> (String, &'a str) {
    let segments: Vec<&str> = name.split('.').collect();
    let (block, path) = (segments[1], segments[2..4].join("."));
    let end = match segments[4] {
        "lora_magnitude" => "lora_magnitude_vector".to_string(),
        "lora_bias" => "base_layer.bias".to_string(),
        _ => segments[4..].join("."),
    };
    let target = LoraTarget::ALL.into_iter().find(|target| target.path() == path).unwrap();
    let modules: &[&str] = match target {
        LoraTarget::Query => &["attention.attention.query"],
        LoraTarget::Key => &["attention.attention.key"],
        LoraTarget::Value => &["attention.attention.value"],
        other => &[other.path()],
    };
    let fits = |key: &&str| {
        let ends = |module: &&str| key.ends_with(&format!(".{block}.{module}.{end}"));
        key.starts_with("grad.") && modules.iter().any(ends)
    };
    let key = entry.keys().find(fits).unwrap_or_else(|| panic!("{}: {name}", entry.name));
    (format!("blocks.{block}.{}", target.layer()), key)
}

fn adapter_folder(entry: &Entry) -> PathBuf {
    folder().join(&entry.name)
}

pub(super) fn check(entry: &Entry) {
    let images = entry.get("input.images").clone();
    let peft = PeftAdapter::open(adapter_folder(entry)).unwrap();
    let plain = base(entry);
    let (vit, _) = build(plain.clone(), |_| false);
    if entry.has("out.tokens_base") {
        entry.compare("out.tokens_base", &vit.forward(&images, Mode::Eval).unwrap());
    }
    let adapted = peft.onto(plain.clone()).unwrap();
    // Frozen: the lengths of rows are computed once.
    let (vit, _) = build(adapted.clone(), |_| false);
    for _ in 0..2 {
        entry.compare("out.tokens", &vit.forward(&images, Mode::Eval).unwrap());
    }
    let bf16 = vit.clone().with_matmul_precision(MatmulPrecision::Bf16);
    let bf16 = bf16.forward(&images, Mode::Eval).unwrap();
    assert!(relative_difference(&bf16, entry.get("out.tokens")) < 0.1, "{}", entry.name);

    // Trained: the adapters alone.
    let (vit, store) = build(adapted.clone(), Role::is_adapter);
    for checkpointing in [false, true] {
        let vit = vit.clone().with_checkpointing(checkpointing);
        let tokens = vit.forward(&images, Mode::Train(Key::new(1))).unwrap();
        entry.compare("out.tokens", &tokens);
        let loss = (tokens * entry.get("input.loss_tokens")).unwrap().sum_all().unwrap();
        entry.compare("out.loss", &loss.reshape(1).unwrap());
        let grads = loss.backward().unwrap();
        let mut count = 0;
        for param in store.params() {
            let Some(var) = &param.var else {
                assert!(grads.get(&param.tensor).is_none(), "{}: frozen", param.name);
                continue;
            };
            count += 1;
            let got = grads.get(var.as_tensor()).unwrap();
            let (layer, key) = find(entry, &param.name);
            let got = if param.name.ends_with("lora_magnitude") {
                // Ours is the length in units of the frozen row's.
                let weight = plain.get(&format!("{layer}.weight")).unwrap();
                let lengths = weight.sqr().unwrap().sum(D::Minus1).unwrap().sqrt().unwrap();
                (got / lengths).unwrap()
            } else {
                got.clone()
            };
            entry.compare(key, &got);
        }
        assert_eq!(count, entry.keys().filter(|key| key.starts_with("grad.")).count());
    }

    // Merged.
    let merged = adapted.clone().merge_lora().unwrap();
    assert!(merged.names().all(|name| !name.contains("lora_")));
    let changed =
        Checkpoint::open(adapter_folder(entry).join("merged_changed.safetensors")).unwrap();
    for (name, want) in changed.tensors() {
        close(name, merged.get(name).unwrap(), want, TOLERANCE);
    }
    for (name, tensor) in merged.tensors() {
        if changed.get(name).is_none() {
            close(name, tensor, plain.get(name).unwrap(), 0.0);
        }
    }
    let (vit, _) = build(merged, |_| false);
    entry.compare("out.tokens_merged", &vit.forward(&images, Mode::Eval).unwrap());

    // Out again, and in.
    let home = tempfile::tempdir().unwrap();
    adapted.save_peft(home.path(), Some("base")).unwrap();
    let again = PeftAdapter::open(home.path()).unwrap();
    assert_eq!((again.config(), again.base()), (peft.config(), Some("base")));
    let file =
        |folder: PathBuf| Checkpoint::open(folder.join("adapter_model.safetensors")).unwrap();
    let (got, want) = (file(home.path().into()), file(adapter_folder(entry)));
    assert_eq!(got.names().collect::<Vec<_>>(), want.names().collect::<Vec<_>>());
    for (name, want) in want.tensors() {
        close(name, got.get(name).unwrap(), want, 1e-6);
    }

    // An adapter file of ours knows its backbone.
    let path = home.path().join("adapter.safetensors");
    let config = adapted.vit_config().unwrap();
    save_adapter(&path, &store, config, &Default::default()).unwrap();
    let adapter = AdapterFile::open(&path).unwrap();
    assert_eq!(adapter.config().unwrap().lora, Some(*peft.config()));
    let (vit, _) = build(adapter.onto(plain.clone()).unwrap(), |_| false);
    entry.compare("out.tokens", &vit.forward(&images, Mode::Eval).unwrap());
    let mut other = plain;
    let weight = other.get("blocks.0.attn.proj.weight").unwrap().clone();
    other.insert("blocks.0.attn.proj.weight", (weight + 1.0).unwrap());
    assert!(matches!(adapter.onto(other), Err(Error::OtherBackbone { .. })));
    all_read(entry);
}

/// Sizes that differ from layer to layer come back, whatever names end in others.
#[test]
fn sizes_of_layers_survive_peft_s_patterns() {
    let size = |rank, alpha| LoraSize { rank, alpha };
    for sizes in [
        [
            (LoraTarget::Query, size(4, 8.0)),
            (LoraTarget::Proj, size(4, 8.0)),
            (LoraTarget::Fc2, size(2, 4.0)),
        ],
        [
            (LoraTarget::Query, size(4, 8.0)),
            (LoraTarget::Proj, size(2, 8.0)),
            (LoraTarget::Fc2, size(2, 1.0)),
        ],
        [
            (LoraTarget::Qkv, size(4, 8.0)),
            (LoraTarget::Proj, size(2, 4.0)),
            (LoraTarget::Fc2, size(4, 1.0)),
        ],
    ] {
        let mut lora = LoraConfig::new(1, 1.0, &[]);
        for (target, size) in sizes {
            lora.targets.set(target, size);
        }
        let config = ViTConfig { lora: Some(lora), ..ViTConfig::new(8, 32, 2, 2) };
        let store = ParamStore::scratch(&CPU, Key::new(0));
        store.build(|vb| ViT::new(&config, vb)).unwrap();
        let mut adapted = Checkpoint::from_tensors("mine", store.tensors(|_| true));
        adapted.describe(&config).unwrap();
        let home = tempfile::tempdir().unwrap();
        adapted.save_peft(home.path(), None).unwrap();
        assert_eq!(PeftAdapter::open(home.path()).unwrap().config(), &lora);
    }
}

#[test]
fn what_peft_can_do_and_we_cannot_is_named() {
    let home = tempfile::tempdir().unwrap();
    let facts = |change: (&str, serde_json::Value)| {
        let mut facts = serde_json::json!({
            "peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none",
        });
        facts[change.0] = change.1;
        std::fs::write(home.path().join("adapter_config.json"), facts.to_string()).unwrap();
    };
    let tensors = |names: &[(&str, [usize; 2])]| {
        let tensors = names.iter().map(|(name, shape)| {
            let name = format!("base_model.model.{name}");
            (name, Tensor::ones(shape, candle_core::DType::F32, &CPU).unwrap())
        });
        let path = home.path().join("adapter_model.safetensors");
        let tensors = tensors.collect();
        pad_adapter::checkpoint::save(path, &tensors, &Default::default(), Default::default())
            .unwrap();
    };
    let refusal = || PeftAdapter::open(home.path()).unwrap_err().to_string();
    let good =
        [("blocks.0.attn.qkv.lora_A.weight", [2, 8]), ("blocks.0.attn.qkv.lora_B.weight", [24, 2])];
    tensors(&good);
    facts(("r", 2.into()));
    PeftAdapter::open(home.path()).unwrap();
    for (change, text) in [
        (("peft_type", "IA3".into()), "`peft_type` is \"IA3\", expected LORA"),
        (("bias", "all".into()), "`bias` is all, expected none or lora_only"),
        (("fan_in_fan_out", true.into()), "`fan_in_fan_out` is true, expected false"),
        (("modules_to_save", serde_json::json!(["head"])), "`modules_to_save` is [\"head\"]"),
        (
            ("rank_pattern", serde_json::json!({"blocks\\.[0-3]": 4})),
            "is a regular expression, expected the end of a name",
        ),
    ] {
        facts(change);
        assert!(refusal().contains(text), "{} {text}", refusal());
    }
    facts(("r", 2.into()));
    tensors(&[("patch_embed.proj.lora_A.weight", [2, 8])]);
    assert!(refusal().contains("`patch_embed.proj` has an adapter"), "{}", refusal());
    tensors(&[("blocks.0.attn.qkv.weight", [2, 8])]);
    assert!(refusal().contains("is not a LoRA adapter's"), "{}", refusal());
    tensors(&[good[0], good[1], ("blocks.1.attn.qkv.lora_A.weight", [3, 8])]);
    assert!(refusal().contains("expected 2 and 4 as in other blocks"), "{}", refusal());
    tensors(&[good[0], good[1], ("blocks.1.mlp.fc1.lora_A.weight", [2, 8])]);
    assert!(refusal().contains("1 of 2 blocks have an adapter"), "{}", refusal());
    // Two encoders in one file: blocks and layers have the same names.
    tensors(&[
        ("text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight", [2, 8]),
        ("vision_model.encoder.layers.0.self_attn.q_proj.lora_A.weight", [2, 8]),
    ]);
    assert!(refusal().contains("`text_model.encoder.layers.0.self_attn.q_proj` has an adapter"));
    tensors(&[
        ("left.blocks.0.attn.qkv.lora_A.weight", [2, 8]),
        ("right.blocks.0.attn.qkv.lora_A.weight", [2, 8]),
    ]);
    assert!(refusal().contains("is a second module for block 0"), "{}", refusal());
}
