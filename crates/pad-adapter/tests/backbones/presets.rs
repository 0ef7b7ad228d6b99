//! Published models: what the library knows of them is timm's, and names and shapes tell them.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use pad_adapter::{
    checkpoint::{Backbone, BackboneOptions, Checkpoint, FloatType, Format, save},
    params::ParamStore,
    vit::{Activation, Positions, QkvBias, RelativeBias, ViT, ViTConfig},
};
use pad_ops::{RopeCoordinates, RopePairs, rng::Key};
use pad_testkit::index;
use serde_json::Value;

fn models() -> Vec<(String, Value)> {
    let all = index("backbones/presets");
    let models = all["models"].as_object().unwrap().clone();
    models.into_iter().collect()
}

#[test]
fn what_timm_registers() {
    let mut found = 0;
    for (name, facts) in models() {
        let args = &facts["args"];
        let number = |key: &str| args[key].as_u64().map(|value| value as usize);
        let flag = |key: &str| args[key].as_bool() == Some(true);
        let Some(config) = ViTConfig::timm(&name) else {
            // Norms behind the branches, not in front of them.
            assert!(flag("use_post_norm"), "{name}");
            continue;
        };
        found += 1;
        config.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
        let tagged = format!("{name}.{}", facts["tags"][0].as_str().unwrap_or("tag"));
        assert_eq!(ViTConfig::timm(&tagged), Some(config), "{tagged}");
        assert_eq!(Some(config.embed_dim), number("embed_dim"), "{name}");
        assert_eq!(Some(config.depth), number("depth"), "{name}");
        assert_eq!(Some(config.num_heads), number("num_heads"), "{name}");
        assert_eq!(config.patch_size, number("patch_size").unwrap_or(16), "{name}");
        let side = facts["input_size"][1].as_u64().unwrap() as usize;
        let grid = config.pos_table_grid().unwrap();
        assert_eq!((grid.height, grid.width), (side / config.patch_size, side / config.patch_size));
        assert_eq!(config.class_token, args["class_token"].as_bool().unwrap_or(true), "{name}");
        let registers = number("reg_tokens").or(number("num_reg_tokens")).unwrap_or(0);
        assert_eq!(config.register_tokens, registers, "{name}");
        assert_eq!(config.layer_scale, args["init_values"].as_f64(), "{name}");
        let eps = args["norm_layer"]["eps"].as_f64().unwrap_or(1e-6);
        assert_eq!(config.norm_eps, eps, "{name}");
        let pre_norm = flag("pre_norm") || flag("use_pre_transformer_norm");
        assert_eq!((config.pre_norm, config.patch_bias), (pre_norm, !pre_norm), "{name}");
        assert_eq!(config.mlp_norm, flag("scale_mlp"), "{name}");
        assert_eq!(config.attention_norm, flag("scale_attn_inner"), "{name}");
        assert_eq!(config.relative_bias == RelativeBias::PerBlock, flag("use_rel_pos_bias"));
        let tables = args["use_abs_pos_emb"].as_bool().unwrap_or(true);
        assert_eq!(config.positions != Positions::None, tables, "{name}");
        let folded = flag("no_embed_class") || !config.class_token;
        assert!(!tables || (config.positions == Positions::Patches) == folded, "{name}");
        let glu = args["mlp_layer"]["class"] == "GluMlp";
        let gated = flag("swiglu_mlp") || glu;
        let activation = match args["act_layer"].as_str() {
            _ if gated => Activation::SwiGlu,
            Some("gelu_tanh") => Activation::GeluTanh,
            Some("quick_gelu") => Activation::QuickGelu,
            _ => Activation::Gelu,
        };
        assert_eq!(config.activation, activation, "{name}");
        let ratio = args["mlp_ratio"].as_f64().unwrap_or(4.0);
        let hidden = (config.embed_dim as f64 * ratio) as usize / if glu { 2 } else { 1 };
        let step = number("swiglu_align_to").unwrap_or(1);
        assert_eq!(config.hidden_dim(), hidden.div_ceil(step) * step, "{name}");
        let rope = flag("use_rot_pos_emb");
        assert_eq!(config.rope.is_some(), rope, "{name}");
        if let Some(rope) = config.rope {
            let halves = flag("rope_rotate_half");
            assert_eq!(rope.pairs == RopePairs::Halves, halves, "{name}");
            assert_eq!(rope.base, args["rope_temperature"].as_f64().unwrap_or(10_000.0), "{name}");
            if let RopeCoordinates::Index { offset, reference } = rope.coordinates {
                let side = |i: usize| args["ref_feat_shape"][i].as_u64().unwrap() as usize;
                assert_eq!(reference, Some([side(0), side(1)]), "{name}");
                assert_eq!(offset, args["rope_grid_offset"].as_f64().unwrap_or(0.0), "{name}");
            }
        }
        if facts["module"] == "eva" && !pre_norm {
            let bias = match args["qkv_bias"].as_bool() {
                Some(false) => QkvBias::None,
                _ => QkvBias::QueryValue,
            };
            assert_eq!(config.qkv_bias, bias, "{name}");
        }
    }
    pad_testkit::expect_cases(found, 100..);
    assert_eq!(ViTConfig::timm("vit_of_tomorrow"), None);
}

#[test]
fn presets_have_names_that_flags_take() {
    for name in ["dinov3-small", "dinov3-7b", "dinov2-reg-giant", "eva02-base", "pe-core-large"] {
        assert!(ViTConfig::PRESETS.contains(&name), "{name}");
    }
    let dinov3 = ViTConfig::preset("dinov3-small", 16).unwrap();
    let want = ViTConfig::timm("vit_small_patch16_dinov3_qkvb").unwrap();
    assert_eq!(dinov3, want);
    let text = serde_json::to_string(&dinov3).unwrap();
    assert_eq!(serde_json::from_str::<ViTConfig>(&text).unwrap(), dinov3);
}

/// One value, read as any shape: the weights of the largest models fit.
fn blank(shape: &[usize]) -> Tensor {
    Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap().broadcast_as(shape).unwrap()
}

/// The first block and what surrounds it, under timm's names.
fn blank_file(config: &ViTConfig) -> Checkpoint {
    let (d, h) = (config.embed_dim, config.hidden_dim());
    let mut all: Vec<(String, Vec<usize>)> = Vec::new();
    let mut put = |name: &str, shape: &[usize]| all.push((name.into(), shape.to_vec()));
    let p = config.patch_size;
    put("patch_embed.proj.weight", &[d, 3, p, p]);
    if config.patch_bias {
        put("patch_embed.proj.bias", &[d]);
    }
    if config.class_token {
        put("cls_token", &[1, 1, d]);
    }
    if config.register_tokens > 0 {
        put("reg_token", &[1, config.register_tokens, d]);
    }
    let grid = config.pos_table_grid().unwrap();
    if config.positions != Positions::None {
        put("pos_embed", &[1, config.table_prefix() + grid.len(), d]);
    }
    for (is_there, name) in [(config.pre_norm, "norm_pre"), (config.final_norm, "norm")] {
        if is_there {
            put(&format!("{name}.weight"), &[d]);
            put(&format!("{name}.bias"), &[d]);
        }
    }
    let eva = config.rope.is_some() || config.relative_bias != RelativeBias::None;
    let halves = config.rope.is_some_and(|rope| rope.pairs == RopePairs::Halves);
    let gated = config.activation == Activation::SwiGlu;
    let mut block = |name: &str, shape: &[usize]| put(&format!("blocks.0.{name}"), shape);
    for norm in ["norm1", "norm2"] {
        block(&format!("{norm}.weight"), &[d]);
        block(&format!("{norm}.bias"), &[d]);
    }
    if config.mlp_norm && config.qkv_bias == QkvBias::QueryValue {
        for part in ["q_proj", "k_proj", "v_proj"] {
            block(&format!("attn.{part}.weight"), &[d, d]);
        }
        block("attn.q_proj.bias", &[d]);
        block("attn.v_proj.bias", &[d]);
    } else {
        block("attn.qkv.weight", &[3 * d, d]);
        match config.qkv_bias {
            QkvBias::All => block("attn.qkv.bias", &[3 * d]),
            QkvBias::QueryValue => {
                block("attn.q_bias", &[d]);
                block("attn.v_bias", &[d]);
            }
            _ => {}
        }
    }
    block("attn.proj.weight", &[d, d]);
    block("attn.proj.bias", &[d]);
    if gated && (config.mlp_norm || halves) {
        for part in ["fc1_g", "fc1_x"] {
            block(&format!("mlp.{part}.weight"), &[h, d]);
            block(&format!("mlp.{part}.bias"), &[h]);
        }
    } else {
        let wide = config.activation.fc1_outputs(h);
        block("mlp.fc1.weight", &[wide, d]);
        block("mlp.fc1.bias", &[wide]);
    }
    block("mlp.fc2.weight", &[d, h]);
    block("mlp.fc2.bias", &[d]);
    for (is_there, name, width) in
        [(config.mlp_norm, "mlp.norm", h), (config.attention_norm, "attn.norm", d)]
    {
        if is_there {
            block(&format!("{name}.weight"), &[width]);
            block(&format!("{name}.bias"), &[width]);
        }
    }
    if config.layer_scale.is_some() {
        for (plain, gamma) in [("ls1.gamma", "gamma_1"), ("ls2.gamma", "gamma_2")] {
            block(if eva { gamma } else { plain }, &[d]);
        }
    }
    if config.relative_bias == RelativeBias::PerBlock {
        let rows = (2 * grid.height - 1) * (2 * grid.width - 1) + 3;
        block("attn.relative_position_bias_table", &[rows, config.num_heads]);
    }
    let tensors: BTreeMap<String, Tensor> =
        all.into_iter().map(|(name, shape)| (name, blank(&shape))).collect();
    Checkpoint::from_tensors("published", tensors)
}

/// Without a `config.json`: heads and eps come from published widths, families from names.
#[test]
fn names_and_shapes_tell_published_models() {
    let mut found = 0;
    for (name, _) in models() {
        let Some(want) = ViTConfig::timm(&name) else { continue };
        // The largest would join matrices of a gigabyte.
        if want.embed_dim > 2048 {
            continue;
        }
        let mut file = blank_file(&want);
        if name.contains("pe_core") {
            file.insert("attn_pool.latent", blank(&[1, 1, want.embed_dim]));
        }
        assert_eq!(Format::detect(&file).unwrap(), Format::Timm, "{name}");
        let (ours, report) = file.to_ours(None).unwrap();
        assert!(report.unknown().is_empty(), "{name}: {:?}", report.unknown());
        if want.pre_norm && want.rope.is_none() {
            // CLIP: either GELU.
            let why = report.unresolved.unwrap();
            assert!(why.contains("`activation` cannot be inferred"), "{name}: {why}");
            continue;
        }
        let got = ours.vit_config().unwrap_or_else(|error| panic!("{name}: {error}"));
        // SigLIP's authors train with the approximation, whatever timm registers.
        let is_siglip = !want.class_token && want.rope.is_none();
        let activation = if is_siglip { Activation::GeluTanh } else { want.activation };
        assert_eq!(
            got.pos_table_grid().ok(),
            want.pos_table_grid()
                .ok()
                .filter(|_| {
                    want.positions != Positions::None || want.relative_bias != RelativeBias::None
                })
                .or(got.pos_table_grid().ok()),
            "{name}"
        );
        assert_eq!(got.hidden_dim(), want.hidden_dim(), "{name}");
        let expected = ViTConfig {
            depth: 1,
            activation,
            image_size: got.image_size,
            pos_grid: got.pos_grid,
            mlp_ratio: got.mlp_ratio,
            layer_scale: want.layer_scale.and(got.layer_scale),
            ..want
        };
        assert_eq!(got, expected, "{name}");
        found += 1;
    }
    pad_testkit::expect_cases(found, 80..);
}

/// timm's `config.json` names the architecture: CLIP's activation comes from it.
#[test]
fn the_architecture_beside_the_file() {
    let name = "vit_xsmall_patch16_clip_224";
    let config = ViTConfig::timm(name).unwrap();
    let store = ParamStore::scratch(&Device::Cpu, Key::new(1));
    // Its position table is learnt: a parameter.
    let rows = 1 + config.pos_table_grid().unwrap().len();
    let table = Tensor::zeros((1, rows, config.embed_dim), DType::F32, &Device::Cpu).unwrap();
    let store = store.with_value("pos_embed", table);
    store.build(|vb| ViT::new(&config, vb)).unwrap();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("model.safetensors");
    save(&path, &store.tensors(|_| true), &BTreeMap::new(), FloatType::F16).unwrap();
    let open = || Backbone::open(path.to_str().unwrap(), &BackboneOptions::default()).unwrap();
    let text = open().config().unwrap_err().to_string();
    assert!(text.contains("`activation` cannot be inferred"), "{text}");
    let facts = format!(r#"{{"architecture": "{name}", "num_classes": 0}}"#);
    std::fs::write(home.path().join("config.json"), facts).unwrap();
    assert_eq!(open().config().unwrap(), config);
}
