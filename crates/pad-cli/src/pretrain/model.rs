//! The model at the start of a run of pre-training.

use candle_core::Device;
use pad::{
    checkpoint::{Backbone, Checkpoint},
    data::transform::Normalize,
    ssl::{
        MaeConfig, NetworkConfig, ParadigmKind, PretrainingConfig, PretrainingModel, StoredMae,
        TeacherModel, TeacherOptions,
    },
    vit::ViTConfig,
};

use super::settings::Pretrain;
use crate::{
    run::{Result, backbone},
    settings::{Settings, values::Auto},
    tools::shipped,
};

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
    Ok(weights)
}

/// Encoder and decoder that settings and weights describe.
fn mae_config(settings: &Settings<Pretrain>, weights: Option<&Backbone>) -> Result<MaeConfig> {
    let Settings { run, own } = settings;
    let base = match (&run.model, weights) {
        (Auto::Auto, Some(weights)) => {
            let stored = StoredMae::of(weights.checkpoint(), backbone::vit(run, Some(weights))?)?;
            if let Some(assumption) = stored.assumption() {
                tracing::warn!("{}: {assumption}", run.weights);
            }
            stored.config
        }
        (Auto::Given(name), _) if name == "pico" => MaeConfig {
            encoder: ViTConfig::pico(run.patch_size),
            decoder_embed_dim: 128,
            decoder_depth: 2,
            decoder_num_heads: 4,
            ..Default::default()
        },
        (_, weights) => MaeConfig { encoder: backbone::vit(run, weights)?, ..Default::default() },
    };
    let adapted = match own.paradigm.0 {
        // Low-rank adapters of the weights train further.
        ParadigmKind::Pad if base.encoder.lora.is_some() => run.with_adapters(base.encoder),
        ParadigmKind::Pad => run.with_new_adapters(base.encoder),
        _ => ViTConfig { adapter: None, lora: None, ..base.encoder },
    };
    let encoder =
        ViTConfig { image_size: own.image_size.0, in_channels: run.in_channels, ..adapted };
    Ok(MaeConfig {
        encoder,
        decoder_embed_dim: own.decoder_dim.unwrap_or(base.decoder_embed_dim),
        decoder_depth: own.decoder_depth.unwrap_or(base.decoder_depth),
        decoder_num_heads: own.decoder_heads.unwrap_or(base.decoder_num_heads),
        mask_ratio: own.mask_ratio(),
        norm_pix_loss: own.norm_pix_loss,
    })
}

/// The teacher that the settings name.
fn teacher(
    settings: &Settings<Pretrain>,
    student: &ViTConfig,
    normalize: &Normalize,
    device: &Device,
) -> Result<Option<TeacherModel>> {
    let Settings { run, own } = settings;
    let Some(source) = &own.teacher else { return Ok(None) };
    let checkpoint = match shipped::find(source) {
        Some(shipped) => Checkpoint::from_safetensors(shipped.bytes, source)?,
        None => Checkpoint::open(source)?,
    };
    let config = match &own.teacher_model {
        Auto::Auto => None,
        Auto::Given(name) => Some(ViTConfig::preset(name, student.patch_size)?),
    };
    let options =
        TeacherOptions { config, input_stats: normalize.clone(), matmul_precision: run.dtype.0 };
    Ok(Some(TeacherModel::open(checkpoint, student, &options, device)?))
}

/// Builds the model at the start of a run of `epochs`.
pub fn start(
    settings: &Settings<Pretrain>,
    weights: Option<Backbone>,
    normalize: &Normalize,
    epochs: usize,
    device: &Device,
) -> Result<PretrainingModel> {
    let Settings { run, own } = settings;
    let mae = mae_config(settings, weights.as_ref())?;
    let scratch = own.paradigm.0 == ParadigmKind::Scratch;
    let checkpoint = weights.map(Backbone::into_checkpoint).filter(|_| !scratch);
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
    let teacher = teacher(settings, &mae.encoder, normalize, device)?;
    let model = PretrainingModel::start(config, checkpoint, teacher.as_ref(), device)?;
    backbone::log_changes(run, model.notes());
    for line in model.store.summary().to_string().lines() {
        tracing::info!("{line}");
    }
    Ok(model)
}
