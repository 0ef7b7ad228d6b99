//! Models from settings and weights, and the files a run leaves.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use candle_core::Device;
use pad::{
    Keep, MatmulPrecision,
    checkpoint::{AdapterFile, Checkpoint, FloatType, save, save_adapter},
    params::{ParamStore, Role},
    rng::Key,
    ssl::{Mae, MaeConfig, Paradigm},
    vit::{ViT, ViTConfig},
};

use super::{
    Result,
    objective::{self, Network, Taught, holds_decoder},
    settings::Settings,
};

/// A small ViT that was pre-trained on RGB photographs; how: docs/asset.md.
const ASSET: &[u8] = include_bytes!("../../../../assets/vit_pico_rgb.safetensors");

pub const ADAPTER: &str = "adapter.safetensors";
pub const DECODER: &str = "decoder.safetensors";
pub const MODEL: &str = "model.safetensors";

/// The weights that settings name, under our names whatever program wrote them; none for `none`.
pub fn weights(settings: &Settings) -> Result<Option<Checkpoint>> {
    match settings.weights.as_str() {
        "none" => Ok(None),
        path => ours(open_weights(path)?).map(Some),
    }
}

/// The weights in a file, by the names it has, or those of this repository.
pub fn open_weights(path: &str) -> Result<Checkpoint> {
    Ok(match path {
        "asset" => Checkpoint::from_safetensors(ASSET, "asset")?,
        path => Checkpoint::open(path)?,
    })
}

/// A checkpoint of any format that the library knows, under our names.
pub fn ours(mut checkpoint: Checkpoint) -> Result<Checkpoint> {
    let path = checkpoint.path().display().to_string();
    if let Some(json) = checkpoint.metadata().get("mae") {
        let config: MaeConfig = serde_json::from_str(json)
            .map_err(|error| format!("{path}: metadata `mae`: {error}"))?;
        checkpoint.describe(&config.encoder)?;
    }
    let (checkpoint, report) = checkpoint.to_ours(None)?;
    let [_, renamed, joined, dropped, _] = report.counts();
    if renamed + joined + dropped > 0 {
        tracing::info!("{path}: {}", report.summary());
    }
    Ok(checkpoint)
}

/// What a file, or its names and shapes, say of the autoencoder it holds.
pub fn stored_config(checkpoint: &Checkpoint) -> Result<Option<MaeConfig>> {
    let Some(json) = checkpoint.metadata().get("mae") else { return told_config(checkpoint) };
    let config = serde_json::from_str(json)
        .map_err(|error| format!("{}: metadata `mae`: {error}", checkpoint.path().display()))?;
    Ok(Some(config))
}

/// The autoencoder of a file that names its encoder only: the decoder from its tensors, or the usual one.
fn told_config(checkpoint: &Checkpoint) -> Result<Option<MaeConfig>> {
    if !checkpoint.metadata().contains_key("vit") {
        return Ok(None);
    }
    let config = MaeConfig { encoder: checkpoint.vit_config()?, ..Default::default() };
    let Some(embed) = checkpoint.get("decoder_embed.weight") else { return Ok(Some(config)) };
    let dim = embed.dim(0)?;
    let block = |i: usize| format!("decoder_blocks.{i}.norm1.weight");
    let heads = checkpoint.metadata().get("decoder_num_heads").and_then(|text| text.parse().ok());
    Ok(Some(MaeConfig {
        decoder_embed_dim: dim,
        decoder_depth: (0..).take_while(|&i| checkpoint.get(&block(i)).is_some()).count(),
        // MAE's decoders have 32 values a head.
        decoder_num_heads: heads.unwrap_or((dim / 32).max(1)),
        ..config
    }))
}

/// A built model and what it was built from.
pub struct Model {
    pub network: Network,
    pub taught: Option<Taught>,
    pub store: ParamStore,
    pub config: MaeConfig,
    pub paradigm: Paradigm,
}

impl Model {
    /// The autoencoder, for reconstructions.
    pub fn mae(&self) -> Result<&Mae> {
        match &self.network {
            Network::Mae(mae) => Ok(mae),
            _ => Err("no reconstruction: only objective mae has one".into()),
        }
    }
}

/// The model at the start of a run.
pub fn at_start(settings: &Settings, device: &Device) -> Result<Model> {
    let mut checkpoint = if settings.paradigm == "scratch" { None } else { weights(settings)? };
    if checkpoint.is_none() && settings.paradigm != "scratch" {
        return Err(format!(
            "paradigm {} needs weights to start from, found --weights none",
            settings.paradigm
        )
        .into());
    }
    let stored = checkpoint.as_ref().map(stored_config).transpose()?.flatten();
    let config = settings.mae(stored.as_ref())?;
    config.validate()?;
    let has_decoder =
        checkpoint.as_ref().is_some_and(|file| holds_decoder(file, &settings.objective));
    let paradigm = settings.paradigm(has_decoder)?;
    if let Some(checkpoint) = &mut checkpoint {
        if !has_decoder {
            // Another objective's decoder is of no use.
            let names: Vec<String> = checkpoint.names().map(String::from).collect();
            for name in names.iter().filter(|name| Role::of(name).is_decoder()) {
                checkpoint.remove(name);
            }
        }
        for change in checkpoint.fit(&config.encoder)? {
            tracing::info!("{}: {change}", checkpoint.path().display());
        }
    }
    let key = Key::new(settings.seed);
    let mut store = match checkpoint {
        Some(checkpoint) => ParamStore::from_checkpoint(checkpoint, device, key)
            // Adapters are new; a decoder may be, all of it or none, but for its fixed table.
            .with_fresh(move |role| {
                role.is_adapter()
                    || role == Role::DecoderPosTable
                    || (role.is_decoder() && !has_decoder)
            }),
        None => ParamStore::scratch(device, key),
    };
    for (name, table) in Mae::tables(&config, device)? {
        store = store.with_value(name, table);
    }
    let store = store.with_trained(move |role| paradigm.trains(role));
    let keep = if settings.checkpoint_blocks { Keep::Nothing } else { Keep::Activations };
    let precision = precision(&settings.dtype)?;
    let taught = objective::teacher(settings, &config.encoder, device)?;
    let build = |vb| Network::new(settings, &config, taught.as_ref(), vb);
    let network = store.build(build)?.tuned(keep, precision);
    Ok(Model { network, taught, store, config, paradigm })
}

/// What `--dtype` asks for.
pub fn precision(dtype: &str) -> Result<MatmulPrecision> {
    match dtype {
        "f32" => Ok(MatmulPrecision::F32),
        "bf16" => Ok(MatmulPrecision::Bf16),
        found => Err(format!("`dtype` is {found}, expected f32 or bf16").into()),
    }
}

/// The encoder that `--weights` and `--model` describe, without adapters.
pub fn encoder(settings: &Settings, device: &Device) -> Result<ViT> {
    let mut checkpoint = weights(settings)?.ok_or("--weights none: expected a checkpoint")?;
    let stored = stored_config(&checkpoint)?;
    let config = ViTConfig { adapter: None, ..settings.mae(stored.as_ref())?.encoder };
    // CLIP's projection into the space of its texts is no part of the tower.
    checkpoint.remove("proj");
    for change in checkpoint.fit(&config)? {
        tracing::info!("{}: {change}", checkpoint.path().display());
    }
    let store = ParamStore::from_checkpoint(checkpoint, device, Key::new(settings.seed))
        .with_unused(Role::is_decoder);
    Ok(store.build(|vb| ViT::new(&config, vb))?)
}

/// Writes what a run has trained: adapters and decoder of PAD, the whole model of the other paradigms. Returns the
/// files.
pub fn save_run(
    folder: &Path,
    model: &Model,
    float_type: FloatType,
    notes: &BTreeMap<String, String>,
) -> Result<Vec<PathBuf>> {
    let mut metadata = notes.clone();
    metadata.insert("format".into(), "pad-mae/1".into());
    metadata.insert("mae".into(), serde_json::to_string(&model.config)?);
    if !model.paradigm.has_adapters() {
        let path = folder.join(MODEL);
        save(&path, &model.store.tensors(|_| true), &metadata, float_type)?;
        return Ok(vec![path]);
    }
    let (adapter, decoder) = (folder.join(ADAPTER), folder.join(DECODER));
    save_adapter(&adapter, &model.store, &model.config.encoder, notes)?;
    save(&decoder, &model.store.tensors(Role::is_decoder), &metadata, float_type)?;
    Ok(vec![adapter, decoder])
}

/// The model that a finished run left, ready for inference. `force` accepts adapters of another backbone.
pub fn of_run(folder: &Path, device: &Device, force: bool) -> Result<Model> {
    let settings = Settings::of_run(folder)?;
    let whole = folder.join(MODEL);
    let (mut checkpoint, has_adapter) = if whole.exists() {
        (Checkpoint::open(&whole)?, false)
    } else {
        let backbone = weights(&settings)?
            .ok_or_else(|| format!("{}: no {MODEL} and no weights named", folder.display()))?;
        let adapter = AdapterFile::open(folder.join(ADAPTER))?;
        let mut all = if force { adapter.onto_any(backbone)? } else { adapter.onto(backbone)? };
        all.merge(Checkpoint::open(folder.join(DECODER))?);
        (all, true)
    };
    let own = if has_adapter { DECODER } else { MODEL };
    let config = stored_config(&Checkpoint::open(folder.join(own))?)?
        .ok_or_else(|| format!("{}: no metadata `mae`", folder.join(own).display()))?;
    checkpoint.fit(&config.encoder)?;
    let paradigm = settings.paradigm(true)?;
    let mut store = ParamStore::from_checkpoint(checkpoint, device, Key::new(settings.seed));
    for (name, table) in Mae::tables(&config, device)? {
        store = store.with_value(name, table);
    }
    let store = store.with_fresh(|role| role == Role::DecoderPosTable);
    let store =
        if settings.objective == "mae" { store } else { store.with_unused(Role::is_decoder) };
    let network = store.build(|vb| match settings.objective.as_str() {
        "mae" => Mae::new(&config, vb).map(Network::Mae),
        _ => ViT::new(&config.encoder, vb).map(Network::Encoder).map_err(Into::into),
    })?;
    Ok(Model { network, taught: None, store, config, paradigm })
}
