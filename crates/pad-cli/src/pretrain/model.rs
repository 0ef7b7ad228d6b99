//! The model at the start of a run of pre-training.

use candle_core::Device;
use pad::{
    checkpoint::{Backbone, Checkpoint},
    data::transform::Normalize,
    params::Role,
    ssl::{MaeConfig, NetworkConfig, ParadigmKind, PretrainingConfig, PretrainingModel, StoredMae},
    vit::ViTConfig,
};

use super::{settings::Pretrain, teacher};
use crate::{
    run::{
        Result,
        adapters::{Adapted, Place, adapt},
        backbone,
    },
    settings::{Given, Settings, names::Adapters, values::Auto},
};

/// What a run begins with, beside its settings.
pub struct Files {
    /// Its weights; `None` from scratch.
    pub weights: Option<Backbone>,
    /// Its teacher.
    pub teacher: Option<Checkpoint>,
}

/// Opens the weights of a run; `None` from scratch.
pub fn weights(settings: &Settings<Pretrain>) -> Result<Option<Backbone>> {
    let Settings { run, own } = settings;
    let scratch = own.paradigm.0 == ParadigmKind::Scratch;
    // From scratch, weights at most say what the model is.
    if scratch && run.model != Auto::Auto {
        return Ok(None);
    }
    let weights = backbone::open(run)?;
    if weights.is_none() && !scratch {
        return Err(format!(
            "paradigm {} needs weights to start from, found --weights none",
            own.paradigm
        )
        .into());
    }
    let has_place = matches!(own.paradigm.0, ParadigmKind::Pad | ParadigmKind::Scratch);
    let leaves_out = run.adapters == Some(Adapters::None);
    if !has_place && !leaves_out && weights.as_ref().is_some_and(Backbone::has_adapters) {
        return Err(format!(
            "paradigm {} has no adapters, found some in {}: use --paradigm pad, or leave them out with --adapters \
             none",
            own.paradigm, run.weights
        )
        .into());
    }
    Ok(weights)
}

/// Encoder and decoder that settings and weights describe, and whether adapters of the weights are
/// left out.
fn mae_config(
    settings: &Settings<Pretrain>,
    given: &Given,
    weights: Option<&Backbone>,
) -> Result<(MaeConfig, bool)> {
    let Settings { run, own } = settings;
    let base = match (&run.model, weights) {
        (Auto::Auto, Some(weights)) => {
            let stored = StoredMae::of(weights.checkpoint(), backbone::vit(run, Some(weights))?)?;
            if let Some(assumption) = stored.assumption() {
                tracing::warn!("{}: {assumption}", run.weights);
            }
            stored.config
        }
        (Auto::Given(name), weights) if name == "pico" => MaeConfig {
            encoder: backbone::vit(run, weights)?,
            decoder_embed_dim: 128,
            decoder_depth: 2,
            decoder_num_heads: 4,
            ..Default::default()
        },
        (_, weights) => MaeConfig { encoder: backbone::vit(run, weights)?, ..Default::default() },
    };
    let place = match own.paradigm.0 {
        ParadigmKind::Pad => Place::Always,
        _ => Place::Never,
    };
    let Adapted { vit, leaves_out } = adapt(run, given, place, base.encoder)?;
    let encoder = ViTConfig {
        image_size: own.image_size.0,
        in_channels: run.in_channels,
        drop_path: 0.0, // that of a detector or a segmentor is of its training
        ..vit
    };
    let config = MaeConfig {
        encoder,
        decoder_embed_dim: own.decoder_dim.unwrap_or(base.decoder_embed_dim),
        decoder_depth: own.decoder_depth.unwrap_or(base.decoder_depth),
        decoder_num_heads: own.decoder_heads.unwrap_or(base.decoder_num_heads),
        mask_ratio: own.mask_ratio(),
        norm_pix_loss: own.norm_pix_loss,
    };
    Ok((config, leaves_out))
}

/// Builds the model at the start of a run of `epochs`. `given` are the settings that the user
/// chose.
pub fn start(
    settings: &Settings<Pretrain>,
    given: &Given,
    files: Files,
    normalize: &Normalize,
    epochs: usize,
    device: &Device,
) -> Result<PretrainingModel> {
    let Settings { run, own } = settings;
    let (mae, leaves_out) = mae_config(settings, given, files.weights.as_ref())?;
    let scratch = own.paradigm.0 == ParadigmKind::Scratch;
    let mut checkpoint = files.weights.map(Backbone::into_checkpoint).filter(|_| !scratch);
    if let Some(checkpoint) = checkpoint.as_mut().filter(|_| leaves_out) {
        let dropped = checkpoint.names().filter(|name| Role::of(name).is_adapter()).count();
        checkpoint.retain(|name| !Role::of(name).is_adapter());
        backbone::log_changes(run, &[format!("{dropped} tensors of adapters dropped")]);
    }
    let has_decoder =
        checkpoint.as_ref().is_some_and(|checkpoint| own.objective.has_decoder(checkpoint));
    let network = NetworkConfig {
        masking: own.masking.given().copied(),
        checkpointing: run.checkpoint_blocks,
        matmul_precision: run.dtype.0,
        feature_loss: own.feature_loss.0,
        all_patches: own.all_patches,
        ..NetworkConfig::new(mae)
    };
    let config = PretrainingConfig {
        objective: own.objective.0,
        paradigm: own.paradigm(run, has_decoder),
        network,
        epochs,
        seed: run.seed,
    };
    let build = |file| teacher::build(file, settings, &mae.encoder, normalize, device);
    let teacher = files.teacher.map(build).transpose()?;
    let model = PretrainingModel::start(config, checkpoint, teacher.as_ref(), device)?;
    backbone::log_changes(run, model.notes());
    for line in model.store.summary().to_string().lines() {
        tracing::info!("{line}");
    }
    Ok(model)
}
