//! Backbones from files, folders, runs and adapter files, and the digest that ties an adapter to
//! its backbone.

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device};
use pad_adapter::{
    AdapterConfig, Fusion, Result, Scale,
    checkpoint::{
        AdapterFile, BACKBONE, Backbone, BackboneOptions, Checkpoint, FloatType, InputStats, save,
        save_adapter,
    },
    params::{ParamStore, Role},
    vit::{TableResize, ViT, ViTConfig},
};
use pad_ops::{ImageSize, rng::Key};
use pad_testkit::{golden_folder, numbers};
use sha2::{Digest, Sha256};

const CPU: Device = Device::Cpu;
const ASSET: &[u8] = include_bytes!("../../../../assets/vit_pico_rgb.safetensors");

fn config() -> ViTConfig {
    let adapter = Some(AdapterConfig { bottleneck: 4, ..Default::default() });
    let image_size = ImageSize::square(32);
    ViTConfig { image_size, adapter, ..ViTConfig::new(8, 64, 2, 1) }
}

fn plain() -> ViTConfig {
    ViTConfig { adapter: None, ..config() }
}

/// A backbone, with a learnt position table.
fn backbone(seed: u64) -> Checkpoint {
    let table = numbers(&[1, 17, 64], DType::F32, seed);
    let store = ParamStore::scratch(&CPU, Key::new(seed)).with_value("pos_embed", table);
    store.build(|vb| ViT::new(&plain(), vb)).unwrap();
    Checkpoint::from_tensors("backbone", store.tensors(|_| true))
}

fn write(path: &Path, checkpoint: &Checkpoint) {
    save(path, checkpoint.tensors(), checkpoint.metadata(), FloatType::AsIs).unwrap();
}

/// Adapters on `backbone`, at `path`, that name `source`.
fn write_adapter(path: &Path, backbone: Checkpoint, source: Option<&str>) {
    let store =
        ParamStore::from_checkpoint(backbone, &CPU, Key::new(1)).with_fresh(Role::is_adapter);
    store.build(|vb| ViT::new(&config(), vb)).unwrap();
    let notes = source.map(|source| (BACKBONE.to_string(), source.to_string()));
    save_adapter(path, &store, config(), &notes.into_iter().collect()).unwrap();
}

fn open(source: &Path) -> Result<Backbone> {
    Backbone::open(source.to_str().unwrap(), &BackboneOptions::default())
}

fn refusal(source: &Path) -> String {
    open(source).map(|_| ()).unwrap_err().to_string().replace(source.to_str().unwrap(), "FILE")
}

/// The digest as the first adapter files have it: of every tensor of class token, blocks and final
/// norm.
fn first_digest(checkpoint: &Checkpoint) -> String {
    let mut hash = Sha256::new();
    for (name, tensor) in checkpoint.tensors() {
        if !matches!(Role::of(name), Role::ClassToken | Role::Block(_) | Role::FinalNorm) {
            continue;
        }
        hash.update(name.as_bytes());
        hash.update([0]);
        tensor.dims().iter().for_each(|&side| hash.update((side as u64).to_le_bytes()));
        let values = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
        let values = values.to_vec1::<f32>().unwrap();
        values.iter().for_each(|value| hash.update(value.to_le_bytes()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_digest_is_that_of_the_first_files() {
    let asset = Checkpoint::from_safetensors(ASSET, "asset").unwrap();
    let known = "b50bcf6249f9911f1afc1396f79041847acadc2187a3e561af73e69d33b7b898";
    assert_eq!(asset.backbone_digest().unwrap(), known);
    assert_eq!(first_digest(&asset), known);
    let asset_config = ViTConfig::pico(16);
    let store = ParamStore::from_checkpoint(asset, &CPU, Key::new(0)).with_unused(Role::is_decoder);
    store.build(|vb| ViT::new(&asset_config, vb)).unwrap();
    assert_eq!(store.backbone_digest().unwrap(), known);

    let head = Checkpoint::from_tensors(
        "FILE",
        BTreeMap::from([("head.weight".to_string(), numbers(&[2, 2], DType::F32, 1))]),
    );
    assert_eq!(
        head.backbone_digest().unwrap_err().to_string(),
        "FILE: no tensor of a backbone: all are adapters', heads', decoders', patch embeddings or position tables"
    );
}

/// Trained on 32 x 32 pixels and one channel, used at 64 x 64 and three.
#[test]
fn other_input_sizes_are_the_same_backbone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.safetensors");
    // With relative position tables, which have the size of the grid and which the first digests
    // counted.
    let mut file = backbone(3);
    let table = "blocks.1.attn.relative_position_bias_table";
    file.insert(table, numbers(&[7 * 7 + 3, 1], DType::F32, 5));
    write_adapter(&path, backbone(3), None);
    let adapter = AdapterFile::open(&path).unwrap();
    for (size, channels) in [(32, 3), (64, 3), (64, 1), (96, 1)] {
        let mut fitted = file.clone();
        let image_size = ImageSize::square(size);
        let changes = fitted.fit(&ViTConfig { image_size, in_channels: channels, ..config() });
        assert_eq!(changes.unwrap().is_empty(), size == 32, "{size}");
        assert_eq!(fitted.backbone_digest().unwrap(), file.backbone_digest().unwrap(), "{size}");
        adapter.onto(fitted).unwrap();
    }
    let mut metadata = Checkpoint::open(&path).unwrap().metadata().clone();
    metadata.insert("backbone_sha256".into(), first_digest(&file));
    let tensors = Checkpoint::open(&path).unwrap().tensors().clone();
    save(&path, &tensors, &metadata, FloatType::AsIs).unwrap();
    AdapterFile::open(&path).unwrap().onto(file).unwrap();

    for digest in [Some(String::new()), None] {
        metadata.remove("backbone_sha256");
        metadata.extend(digest.map(|digest| ("backbone_sha256".to_string(), digest)));
        save(&path, &tensors, &metadata, FloatType::AsIs).unwrap();
        assert_eq!(
            refusal(&path),
            "FILE: metadata `backbone_sha256` is missing: the adapter's backbone is unknown"
        );
    }
}

#[test]
fn adapters_find_the_backbone_that_they_name() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let (weights, adapter) = (run.join("vit.safetensors"), run.join("adapter.safetensors"));
    write(&weights, &backbone(3));
    let absolute = weights.to_str().unwrap();
    for source in ["vit.safetensors", absolute] {
        write_adapter(&adapter, backbone(3), Some(source));
        for place in [&run, &adapter] {
            let found = open(place).unwrap();
            assert!(found.has_adapters());
            assert_eq!(found.config().unwrap(), config());
            assert_eq!(found.digest().unwrap(), backbone(3).backbone_digest().unwrap());
            assert_eq!(found.adapter_file().unwrap().backbone(), Some(source));
            let store = ParamStore::from_checkpoint(found.into_checkpoint(), &CPU, Key::new(0));
            store.build(|vb| ViT::new(&config(), vb)).unwrap();
        }
    }
    // Runs of the first versions name it in their settings.
    write_adapter(&adapter, backbone(3), None);
    let text = "FILE: it names no backbone: expected the option `backbone`";
    assert_eq!(refusal(&adapter), text);
    std::fs::write(run.join("config.toml"), format!("seed = 1\nweights = {absolute:?}\n")).unwrap();
    assert!(open(&run).unwrap().has_adapters());
    std::fs::write(run.join("config.toml"), "weights = \"none\"\n").unwrap();
    assert_eq!(refusal(&adapter), text);

    // Another backbone: one line, unless it is wanted.
    let other = folder.path().join("other.safetensors");
    write(&other, &backbone(4));
    let options = BackboneOptions::default().with_backbone(other.to_str().map(str::to_string));
    let error = Backbone::open(run.to_str().unwrap(), &options).unwrap_err().to_string();
    let short = |seed| backbone(seed).backbone_digest().unwrap()[..12].to_string();
    assert_eq!(
        error,
        format!(
            "{}: this adapter belongs to the backbone {}, found the backbone {} (the option `any_backbone` \
             uses it all the same)",
            adapter.display(),
            short(3),
            short(4)
        )
    );
    Backbone::open(run.to_str().unwrap(), &options.clone().with_any_backbone(true)).unwrap();
    // Adapters do not stand on adapters.
    let options = options.with_backbone(adapter.to_str().map(str::to_string));
    let error = Backbone::open(run.to_str().unwrap(), &options).unwrap_err().to_string();
    assert!(error.ends_with(": an adapter file, expected a whole backbone"), "{error}");
}

#[test]
fn folders_runs_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let text = refusal(folder.path());
    assert!(text.starts_with("FILE: expected a folder with one of model.safetensors, "), "{text}");
    std::fs::write(folder.path().join("config.toml"), "").unwrap();
    assert_eq!(
        refusal(folder.path()),
        "FILE: a run without final weights: it has not ended (continue it with --resume)"
    );
    write(&folder.path().join("detector.safetensors"), &backbone(3));
    let found = open(folder.path()).unwrap();
    // Names alone: timm's, whose tables are resized in its way.
    let timm = ViTConfig { pos_resize: TableResize::BicubicAntialias, ..plain() };
    assert_eq!(found.config().unwrap(), timm);
    assert!(found.report().is_unchanged());
    write(&folder.path().join("model.safetensors"), &backbone(4));
    let found = open(folder.path()).unwrap();
    assert_eq!(found.digest().unwrap(), backbone(4).backbone_digest().unwrap());

    // A reader knows the model of another crate's file, here the decoder's crate.
    fn reader(checkpoint: &mut Checkpoint) -> Result<Option<ViTConfig>> {
        let is_one = checkpoint.metadata().contains_key("mae");
        Ok(is_one.then(|| ViTConfig::pico(16)))
    }
    let options = BackboneOptions::default().with_named("asset", ASSET);
    let unknown = Backbone::open("asset", &options).unwrap().config().unwrap_err().to_string();
    assert_eq!(
        unknown,
        "asset: the model cannot be inferred: vit: a file of the format pad-mae/1 without metadata `vit`"
    );
    let options = options.with_reader(reader);
    let asset = Backbone::open("asset", &options).unwrap();
    assert_eq!(asset.config().unwrap(), ViTConfig::pico(16));
    assert!(asset.checkpoint().metadata().contains_key("mae"));
    let error = Backbone::open("aset", &options).unwrap_err().to_string();
    assert_eq!(error, "aset: no such file (did you mean `asset`?)");
}

#[test]
fn scales_that_tensors_do_not_tell_are_asked_for() {
    for (scale, reason) in [
        (Scale::Patchwise(Fusion::Side), "the gates of sum, side and gside have the same shape"),
        (Scale::Fixed(0.1), "a fixed one is not stored with the tensors"),
    ] {
        let adapter = Some(AdapterConfig { bottleneck: 4, scale, ..Default::default() });
        let config = ViTConfig { adapter, ..config() };
        let store = ParamStore::from_checkpoint(backbone(3), &CPU, Key::new(1));
        let store = store.with_fresh(Role::is_adapter);
        store.build(|vb| ViT::new(&config, vb)).unwrap();
        let file = Checkpoint::from_tensors("FILE", store.tensors(|_| true));
        let take = |options: &BackboneOptions| {
            Backbone::from_checkpoint("FILE", file.clone(), options).unwrap().config()
        };
        let options = BackboneOptions::default();
        let text = take(&options).unwrap_err().to_string();
        assert!(text.contains(reason) && text.contains("expected the option `scale`"), "{text}");
        let found = take(&options.with_scale(Some(scale))).unwrap();
        assert_eq!(found.adapter.unwrap().scale, scale);
    }
}

#[test]
fn input_statistics_follow_the_weights() {
    let at = |name: &str| golden_folder().join("vit").join(name);
    let stats = |source: &Path| open(source).unwrap().input_stats();
    for name in ["mae_fair.pth", "mae_mmselfsup.pth", "vit_mae", "dinov2"] {
        assert_eq!(stats(&at(name)), Some(InputStats::IMAGENET), "{name}");
    }
    assert_eq!(stats(&at("clip_vision")), Some(InputStats::CLIP));

    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("model.safetensors"), &backbone(3));
    assert_eq!(stats(folder.path()), None);
    let timm = r#"{"architecture": "vit", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}"#;
    std::fs::write(folder.path().join("config.json"), timm).unwrap();
    assert_eq!(stats(folder.path()), Some(InputStats::HALF));
    let clip = serde_json::json!({
        "image_mean": InputStats::CLIP.mean, "image_std": InputStats::CLIP.std
    });
    std::fs::write(folder.path().join("preprocessor_config.json"), clip.to_string()).unwrap();
    assert_eq!(stats(folder.path()), Some(InputStats::CLIP));

    // They stay with a converted file, and with adapters on it.
    let other = tempfile::tempdir().unwrap();
    let (weights, adapter) =
        (other.path().join("vit.safetensors"), other.path().join("adapter.safetensors"));
    write(&weights, open(folder.path()).unwrap().checkpoint());
    assert_eq!(stats(&weights), Some(InputStats::CLIP));
    write_adapter(&adapter, backbone(3), weights.to_str());
    assert_eq!(stats(&adapter), Some(InputStats::CLIP));
    let timm = Checkpoint::open(&weights).unwrap().to_timm().unwrap().0;
    assert_eq!(timm.input_stats().unwrap(), Some(InputStats::CLIP));
    let mut bad = backbone(3);
    bad.set_metadata("input_mean", "0,0,0");
    write(&weights, &bad);
    assert_eq!(refusal(&weights), "FILE: metadata `input_std` is missing");
}
