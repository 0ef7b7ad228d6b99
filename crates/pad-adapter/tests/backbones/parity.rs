//! Outputs at both image sizes and gradients of every entry, under every naming scheme.

use std::{collections::BTreeMap, path::Path};

use candle_core::{Tensor, Var};
use pad_adapter::{
    checkpoint::{Backbone, BackboneOptions, Checkpoint, Format},
    params::ParamStore,
    vit::{
        Embedding, FirstPositions, PatchEmbed, PatchGrid, PoolHead, PoolKind, Positions,
        RelativeBias, RelativeResize, TableResize, ViT, ViTConfig,
    },
};
use pad_ops::{MatmulPrecision, Mode, RopeCoordinates, rng::Key};
use pad_testkit::{close, relative_difference};

use super::{
    all_read,
    entry::{CPU, Entry, TOLERANCE, spread},
    export,
};

/// The model under a naming scheme, for what its file does not tell.
fn hint(entry: &Entry, scheme: &str) -> ViTConfig {
    let timm = entry.config();
    if scheme == "timm" {
        return timm;
    }
    // The authors' code: PE leaves places whole and resizes bilinearly, BEiT by a cubic spline,
    // CLIP and EVA bicubically.
    let rope = timm.rope.map(|mut rope| {
        if let (RopeCoordinates::Index { reference, .. }, "pe") =
            (&mut rope.coordinates, entry.family())
        {
            *reference = None;
        }
        rope
    });
    let pos_resize = match entry.family() {
        "pe" => TableResize::Bilinear,
        "dinov2_reg" | "vit" => TableResize::BicubicAntialias,
        _ => TableResize::Bicubic,
    };
    ViTConfig { rope, pos_resize, relative_resize: RelativeResize::Cubic, ..timm }
}

/// Opens a file with no more help than it needs.
fn open(entry: &Entry, scheme: &str, path: &Path) -> Backbone {
    let source = path.to_str().unwrap();
    let plain = Backbone::open(source, &BackboneOptions::default())
        .unwrap_or_else(|error| panic!("{} {scheme}: {error}", entry.name));
    if plain.config().is_ok() {
        return plain;
    }
    // A width that was never published, or a rectangular table: an error, no guess.
    let text = plain.config().unwrap_err().to_string();
    assert!(text.contains("cannot be inferred"), "{} {scheme}: {text}", entry.name);
    assert_ne!(scheme, "hf", "{}: config.json tells everything: {text}", entry.name);
    let options = BackboneOptions::default().with_model(Some(hint(entry, scheme)));
    Backbone::open(source, &options).unwrap()
}

/// The pooling of an entry, from the tensors of its timm file.
fn pool(entry: &Entry, config: &ViTConfig, raw: &Checkpoint) -> (Option<PoolHead>, ParamStore) {
    let facts = &entry.facts["model"]["pool"];
    let kind = match (facts["kind"].as_str(), facts["norm"].as_bool()) {
        (None, _) => None,
        (Some("class"), _) => Some(PoolKind::Class),
        (Some("mean"), Some(true)) => Some(PoolKind::NormedMean),
        (Some("mean"), _) => Some(PoolKind::Mean),
        (Some("map"), _) => Some(PoolKind::Attention {
            heads: facts["heads"].as_u64().unwrap() as usize,
            hidden: raw.get("attn_pool.mlp.fc1.weight").unwrap().dim(0).unwrap(),
        }),
        other => panic!("{other:?}"),
    };
    let wanted = |name: &str| name.starts_with("attn_pool.") || name.starts_with("fc_norm.");
    let tensors: BTreeMap<String, Tensor> = raw
        .tensors()
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, tensor)| (name.clone(), tensor.clone()))
        .collect();
    let file = Checkpoint::from_tensors("pooling", tensors);
    let store = ParamStore::from_checkpoint(file, &CPU, Key::new(0)).with_trained(|_| true);
    let head = kind.map(|kind| store.build(|vb| PoolHead::new(kind, config, vb)).unwrap());
    (head, store)
}

/// Outputs by their names in the file.
type Outputs = BTreeMap<String, Tensor>;

/// Everything that is compared for one image size.
fn outputs(vit: &ViT, embedding: &Embedding, images: &Tensor) -> Outputs {
    let mut out = Outputs::new();
    let (tokens, grid) = embedding.patches(images, None).unwrap();
    let places = vit.places(grid, None).unwrap();
    let first = embedding.with_prefix(&tokens).unwrap();
    out.insert("embed".into(), first);
    let mut blocks = Vec::new();
    vit.run_blocks_at(&tokens, &places, Mode::Eval, |_, x| {
        blocks.push(x.clone());
        Ok(())
    })
    .unwrap();
    for (i, block) in blocks.into_iter().enumerate() {
        out.insert(format!("block{i}"), block);
    }
    let tokens = vit.encode_at(&tokens, &places, Mode::Eval).unwrap();
    close("forward", &vit.forward(images, Mode::Eval).unwrap(), &tokens, 0.0);
    out.insert("tokens".into(), tokens);
    out
}

/// The tables of a size, against the library's.
fn compare_tables(
    entry: &Entry,
    config: &ViTConfig,
    file: &Checkpoint,
    key: &dyn Fn(&str) -> Option<String>,
    grid: PatchGrid,
) {
    if let Some(rope) = config.rope {
        let head = config.embed_dim / config.num_heads;
        let tables = rope.tables([grid.height, grid.width], head, &CPU).unwrap();
        for (name, table) in [("rope_sin", &tables.sin), ("rope_cos", &tables.cos)] {
            if let Some(key) = key(name) {
                entry.compare(&key, &spread(table, tables.pairs));
            }
        }
    }
    let from = config.pos_table_grid().unwrap();
    if let (Some(table), Some(key)) = (file.get("pos_embed"), key("pos_embed")) {
        let prefix = config.table_prefix();
        entry.compare(&key, &config.pos_resize.table(table, prefix, from, grid).unwrap());
    }
    for (name, table) in file.tensors() {
        if name.ends_with("relative_position_bias_table")
            && let Some(key) = key(name)
        {
            entry.compare(&key, &config.relative_resize.table(table, from, grid).unwrap());
        }
    }
}

fn head(raw: &Checkpoint) -> Option<(Tensor, Tensor)> {
    Some((raw.get("head.weight")?.clone(), raw.get("head.bias")?.clone()))
}

pub(super) fn check(entry: &Entry) {
    let files = entry.files();
    assert!(files.iter().any(|(scheme, _)| *scheme == "timm"), "{}", entry.name);
    for (scheme, path) in &files {
        let opened = open(entry, scheme, path);
        let config = opened.config().unwrap();
        let unknown = opened.report().unknown();
        assert!(unknown.is_empty(), "{} {scheme}: {unknown:?}", entry.name);
        check_description(entry, scheme, &config);
        let file = opened.checkpoint().clone();
        let store = ParamStore::from_checkpoint(file.clone(), &CPU, Key::new(0));
        let store = match config.class_token || config.register_tokens > 0 {
            // CLIP's projection stands beside the tower.
            _ if file.get("proj").is_some() => store.with_unused(|_| true),
            _ => store,
        };
        let vit = store
            .build(|vb| ViT::new(&config, vb))
            .unwrap_or_else(|error| panic!("{} {scheme}: {error}", entry.name));
        let parts = ParamStore::from_checkpoint(file.clone(), &CPU, Key::new(0));
        let parts = parts.with_unused(|_| true);
        let (embedding, patch_embed) = parts
            .build(|vb| -> pad_adapter::Result<_> {
                let embedding = Embedding::new(&config, FirstPositions::SinCos, vb.clone())?;
                Ok((embedding, PatchEmbed::new(&config, vb.pp("patch_embed"))?))
            })
            .unwrap();
        let raw = Checkpoint::open(path).unwrap();
        let (pool_head, _) = if *scheme == "timm" {
            pool(entry, &config, &raw)
        } else {
            (None, ParamStore::scratch(&CPU, Key::new(0)))
        };
        for (place, size) in entry.facts["sizes"].as_array().unwrap().iter().enumerate() {
            let side = |i: usize| size[i].as_u64().unwrap();
            let suffix =
                if place == 0 { String::new() } else { format!("_{}x{}", side(0), side(1)) };
            let images = entry.get(&format!("input.images{suffix}")).clone();
            let own = |name: &str| format!("out.{name}{suffix}.{scheme}");
            let has_own = ["tokens", "block1"].iter().any(|name| entry.has(&own(name)));
            if place > 0 && *scheme == "original" && !has_own {
                // Their authors' code refuses another size, or there is none to compare with.
                let name = format!("tokens_{}x{}", side(0), side(1));
                if entry.facts["against_timm"]["original"][&name].as_f64().is_none() {
                    continue;
                }
            }
            let key = |name: &str| -> Option<String> {
                let own = own(name);
                if entry.has(&own) {
                    return Some(own);
                }
                let common = format!("out.{name}{suffix}");
                let is_same = !has_own || name.starts_with("rope_") && *scheme == "timm";
                (is_same && entry.has(&common)).then_some(common)
            };
            let mut found = outputs(&vit, &embedding, &images);
            if let Some(pool_head) = &pool_head {
                let pooled = pool_head.forward(&found["tokens"]).unwrap();
                if let Some((weight, bias)) = head(&raw) {
                    let projected = pad_ops::linear(&pooled, &weight, Some(&bias)).unwrap();
                    found.insert("projected".into(), projected);
                }
                found.insert("pooled".into(), pooled);
            }
            // The file's own layers, under any names.
            if let (0, "siglip", Some(key)) = (place, entry.family(), key("pooled")) {
                let head = opened.pool_head(&CPU).unwrap().unwrap();
                entry.compare(&key, &head.forward(&found["tokens"]).unwrap());
            }
            if place == 0 {
                found.insert("patch_embed".into(), patch_embed.forward(&images).unwrap().0);
            }
            let grid = vit.grid_of(&images).unwrap();
            let positions = config.positions;
            for (name, got) in &found {
                // A class row in the table or in the token: the sum is the same, not the parts.
                let Some(key) = key(name) else { continue };
                entry.compare(&key, got);
            }
            if *scheme == "timm" || positions == entry.config().positions {
                compare_tables(entry, &config, &file, &key, grid);
            } else {
                // The table with its class row, where the file stores that.
                let only_own = |name: &str| Some(own(name)).filter(|key| entry.has(key));
                compare_tables(entry, &config, &file, &only_own, grid);
            }
        }
        export::check(entry, scheme, (&config, &file), &raw, opened.report());
        if *scheme == "timm" {
            gradients(entry, &config, &file, &raw);
            fast_paths(entry, &vit);
            there_and_back(entry, &config, &file, &raw);
        } else {
            as_timm(entry, scheme, &config, file);
        }
    }
    // What the same files give with the periods of rotary positions rounded to bf16: not ours.
    for suffix in entry
        .keys()
        .filter(|key| key.contains("with_bf16_periods"))
        .map(str::to_string)
        .collect::<Vec<_>>()
    {
        entry.get(&suffix);
    }
    // Values of other libraries that this project reads in the way of the file's own family.
    for key in entry.keys().map(str::to_string).collect::<Vec<_>>() {
        if key.starts_with("out.pooled") && key.ends_with(".hf")
            || key.starts_with("out.projected")
                && (key.ends_with(".hf") || key.ends_with(".original"))
        {
            entry.get(&key);
        }
    }
    all_read(entry);
}

/// What names and shapes tell is what the index says.
fn check_description(entry: &Entry, scheme: &str, config: &ViTConfig) {
    let want = entry.config();
    let name = format!("{} {scheme}", entry.name);
    assert_eq!(config.class_token, want.class_token, "{name}");
    assert_eq!(config.register_tokens, want.register_tokens, "{name}");
    assert_eq!(config.activation, want.activation, "{name}");
    assert_eq!(config.num_heads, want.num_heads, "{name}");
    assert_eq!(config.hidden_dim(), want.hidden_dim(), "{name}");
    assert_eq!(config.mlp_norm, want.mlp_norm, "{name}");
    assert_eq!(config.attention_norm, want.attention_norm, "{name}");
    assert_eq!(config.final_norm, want.final_norm, "{name}");
    assert_eq!(config.pre_norm, want.pre_norm, "{name}");
    assert_eq!(config.relative_bias, want.relative_bias, "{name}");
    assert_eq!(config.rope.is_some(), want.rope.is_some(), "{name}");
    assert_eq!(config.layer_scale.is_some(), want.layer_scale.is_some(), "{name}");
    assert_eq!(config.positions == Positions::None, want.positions == Positions::None, "{name}");
    if scheme == "timm" {
        assert_eq!(config.pos_resize, want.pos_resize, "{name}");
        assert_eq!(config.rope, want.rope, "{name}");
        assert_eq!(config.positions, want.positions, "{name}");
        assert_eq!(config.norm_eps, want.norm_eps, "{name}");
        assert_eq!(config.qkv_bias, want.qkv_bias, "{name}");
    }
    if want.relative_bias != RelativeBias::None {
        let own = match scheme {
            "timm" => RelativeResize::Linear,
            "hf" => RelativeResize::Bilinear,
            _ => RelativeResize::Cubic,
        };
        assert_eq!(config.relative_resize, own, "{name}");
    }
}

/// The loss of the entry and its gradients, by our names.
fn gradients(entry: &Entry, config: &ViTConfig, file: &Checkpoint, raw: &Checkpoint) {
    if !entry.has("out.loss") {
        return;
    }
    let store = ParamStore::from_checkpoint(file.clone(), &CPU, Key::new(0)).with_trained(|_| true);
    let vit = store.build(|vb| ViT::new(config, vb)).unwrap();
    let (pool_head, pool_store) = pool(entry, config, raw);
    let images = Var::from_tensor(entry.get("input.images")).unwrap();
    for checkpointing in [false, true] {
        let vit = vit.clone().with_checkpointing(checkpointing);
        let tokens = vit.forward(images.as_tensor(), Mode::Eval).unwrap();
        let mut loss = (&tokens * entry.get("input.loss_tokens")).unwrap().sum_all().unwrap();
        let projection =
            head(raw).map(|(w, b)| (Var::from_tensor(&w).unwrap(), Var::from_tensor(&b).unwrap()));
        if let Some(weights) = entry.find("input.loss_pooled") {
            let pooled = pool_head.as_ref().unwrap().forward(&tokens).unwrap();
            let y = match &projection {
                Some((weight, bias)) => {
                    pad_ops::linear(&pooled, weight.as_tensor(), Some(bias.as_tensor())).unwrap()
                }
                None => pooled,
            };
            loss = (loss + (y * weights).unwrap().sum_all().unwrap()).unwrap();
        }
        entry.compare("out.loss", &loss.reshape(1).unwrap());
        let grads = loss.backward().unwrap();
        let mut wanted = BTreeMap::new();
        for key in entry.keys() {
            if let Some(name) = key.strip_prefix("grad.") {
                wanted.insert(name.to_string(), key.to_string());
            }
        }
        if let Some(key) = wanted.remove("input.images") {
            entry.compare(&key, grads.get(images.as_tensor()).unwrap());
        }
        // Those of pooling and projection have timm's names here, too.
        let mut encoder = BTreeMap::new();
        for (name, key) in wanted {
            let own = pool_store.params().into_iter().find(|param| param.name == name);
            if let Some(param) = own {
                entry.compare(&key, grads.get(&param.tensor).unwrap());
            } else if let Some((weight, bias)) =
                projection.as_ref().filter(|_| name.starts_with("head."))
            {
                let var = if name == "head.weight" { weight } else { bias };
                entry.compare(&key, grads.get(var.as_tensor()).unwrap());
            } else {
                encoder.insert(name, entry.get(&key).clone());
            }
        }
        if encoder.is_empty() {
            continue;
        }
        let encoder = Checkpoint::from_tensors("gradients", encoder);
        let (encoder, report) =
            encoder.to_ours_known(Some(Format::Timm), None, Some(*config)).unwrap();
        assert!(report.unknown().is_empty(), "{}: {:?}", entry.name, report.unknown());
        for (name, want) in encoder.tensors() {
            let param = store.params().into_iter().find(|param| param.name == *name);
            let param = param.unwrap_or_else(|| panic!("{}: no parameter `{name}`", entry.name));
            let got = grads.get(&param.tensor).unwrap_or_else(|| panic!("{} {name}", entry.name));
            close(&format!("{} grad.{name}", entry.name), got, want, TOLERANCE);
        }
    }
}

/// The same tokens, roughly, with products in bf16: every backbone runs fused.
fn fast_paths(entry: &Entry, vit: &ViT) {
    let images = entry.get("input.images");
    let exact = vit.forward(images, Mode::Eval).unwrap();
    let bf16 = vit.clone().with_matmul_precision(MatmulPrecision::Bf16);
    let bf16 = bf16.forward(images, Mode::Eval).unwrap();
    let off = relative_difference(&bf16, &exact);
    assert!(off > 0.0 && off < 0.1, "{}: bf16 is off by {off}", entry.name);
}

/// timm's names out of ours are the file's.
fn there_and_back(entry: &Entry, config: &ViTConfig, file: &Checkpoint, raw: &Checkpoint) {
    let mut file = file.clone();
    file.describe(config).unwrap();
    let (timm, report) = file.to_timm().unwrap();
    assert!(report.unknown().is_empty(), "{}: {:?}", entry.name, report.unknown());
    let is_encoder = |name: &str| {
        !["head.", "attn_pool.", "fc_norm."].iter().any(|prefix| name.starts_with(prefix))
    };
    let want: BTreeMap<_, _> = raw.tensors().iter().filter(|(name, _)| is_encoder(name)).collect();
    let names: Vec<&str> = timm.names().collect();
    assert_eq!(names, want.keys().map(|name| name.as_str()).collect::<Vec<_>>(), "{}", entry.name);
    for (name, want) in want {
        close(&format!("{} {name}", entry.name), timm.get(name).unwrap(), want, 0.0);
    }
}

/// Another scheme's file, exported under timm's names, is timm's.
fn as_timm(entry: &Entry, scheme: &str, config: &ViTConfig, file: Checkpoint) {
    let mut file = file;
    file.remove("proj");
    file.describe(config).unwrap();
    let (timm, report) = file.to_timm().unwrap();
    assert!(report.unknown().is_empty(), "{} {scheme}: {:?}", entry.name, report.unknown());
    let path = entry.files().into_iter().find(|(scheme, _)| *scheme == "timm").unwrap().1;
    let raw = Checkpoint::open(path).unwrap();
    for (name, got) in timm.tensors() {
        let is_bias = name.ends_with("q_bias") || name.ends_with("v_bias");
        match raw.get(name) {
            Some(want) => close(&format!("{} {scheme} {name}", entry.name), got, want, 1e-6),
            // timm's DINOv3 without `_qkvb` leaves biases out that are zero.
            None if is_bias => assert_eq!(pad_testkit::largest(got), 0.0, "{name}"),
            None => panic!("{} {scheme}: timm has no `{name}`", entry.name),
        }
    }
    for name in raw.names() {
        let is_head = ["head.", "attn_pool.", "fc_norm."].iter().any(|p| name.starts_with(p));
        assert!(is_head || timm.get(name).is_some(), "{} {scheme}: `{name}`", entry.name);
    }
}

/// SigLIP 2 NaFlex: lists of patches with padding.
pub(super) fn check_lists(entry: &Entry) {
    let values = entry.get("input.pixel_values").clone();
    let shapes = entry.get("input.spatial_shapes").to_dtype(candle_core::DType::U32).unwrap();
    let grids: Vec<PatchGrid> = shapes
        .to_vec2::<u32>()
        .unwrap()
        .iter()
        .map(|shape| PatchGrid::new(shape[0] as usize, shape[1] as usize))
        .collect();
    let counts: Vec<usize> = grids.iter().map(|grid| grid.len()).collect();
    let mask = entry.get("input.pixel_attention_mask").to_dtype(candle_core::DType::F32).unwrap();
    let given: Vec<f32> = mask.sum(1).unwrap().to_vec1().unwrap();
    assert_eq!(given, counts.iter().map(|&count| count as f32).collect::<Vec<_>>());
    for (scheme, path) in entry.files() {
        let opened = open(entry, scheme, &path);
        let config = opened.config().unwrap();
        assert_eq!(config.pos_resize, TableResize::BilinearAntialias, "{scheme}");
        let raw = Checkpoint::open(&path).unwrap();
        export::check(entry, scheme, (&config, opened.checkpoint()), &raw, opened.report());
        let store = ParamStore::from_checkpoint(opened.into_checkpoint(), &CPU, Key::new(0));
        let vit = store.build(|vb| ViT::new(&config, vb)).unwrap();
        let (tokens, places) = vit.embed_lists(&values, &grids).unwrap();
        let tokens = vit.encode_at(&tokens, &places, Mode::Eval).unwrap();
        // What stands at padding means nothing.
        let kept = tokens.broadcast_mul(&mask.unsqueeze(2).unwrap()).unwrap();
        entry.compare("out.tokens", &kept);
        if scheme == "timm" {
            let (pool_head, _) = pool(entry, &config, &raw);
            entry.compare(
                "out.pooled",
                &pool_head.unwrap().forward_lists(&tokens, &counts).unwrap(),
            );
        }
        // Each image by itself gives the same tokens.
        for (i, count) in counts.iter().enumerate() {
            let image = entry.get(&format!("input.image{i}"));
            let alone = vit.forward(image, Mode::Eval).unwrap();
            let own = tokens.narrow(0, i, 1).unwrap().narrow(1, 0, *count).unwrap();
            close(&format!("{scheme} image {i}"), &alone, &own.contiguous().unwrap(), TOLERANCE);
        }
        let error = vit.embed_lists(&values, &grids[1..]).unwrap_err().to_string();
        assert!(error.contains("a list for each of 2 grids"), "{error}");
    }
    all_read(entry);
}
