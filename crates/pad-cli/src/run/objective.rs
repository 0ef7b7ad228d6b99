//! Objectives that `--objective`, `--masking` and `--teacher` choose.

use std::sync::Arc;

use candle_core::Device;
use candle_nn::VarBuilder;
use pad::{
    ImageSize, Keep, MatmulPrecision,
    checkpoint::Checkpoint,
    params::{ParamStore, Role},
    rng::Key,
    ssl::{
        AnyObjective, ClipTeacher, FeatureTarget, FeatureTargetConfig, Mae, MaeConfig, MaskedBy,
        Masking, Milan, MilanConfig, SimMim, SimMimConfig, Teacher,
    },
    vit::{ViT, ViTConfig},
};

use super::{Result, model, settings::Settings};

/// What is trained, or what a run of it left.
pub enum Network {
    Mae(Mae),
    Milan(Milan),
    SimMim(SimMim),
    Features(FeatureTarget),
    /// The encoder of a run whose decoder and teacher are of no use any more.
    Encoder(ViT),
}

/// A teacher and the width of its features.
pub struct Taught {
    pub teacher: Arc<dyn Teacher>,
    pub target_dim: usize,
}

impl Network {
    /// Builds what `settings.objective` names.
    pub fn new(
        settings: &Settings,
        config: &MaeConfig,
        taught: Option<&Taught>,
        vb: VarBuilder,
    ) -> Result<Self> {
        let patch_size = config.encoder.patch_size;
        let masking = settings.masking(patch_size)?;
        if masking == Some(Masking::Attention) && taught.is_none() {
            return Err("masking attention needs a teacher, expected --teacher FILE of CLIP".into());
        }
        let need_teacher =
            || format!("objective {} needs a teacher, expected --teacher FILE", settings.objective);
        let mask_ratio = config.mask_ratio;
        Ok(match settings.objective.as_str() {
            "mae" => Self::Mae(Mae::new(config, vb)?),
            "milan" => {
                let taught = taught.ok_or_else(need_teacher)?;
                let config = MilanConfig {
                    encoder: config.encoder,
                    decoder_embed_dim: config.decoder_embed_dim,
                    decoder_depth: config.decoder_depth,
                    decoder_num_heads: config.decoder_num_heads,
                    mask_ratio,
                    target_dim: taught.target_dim,
                };
                let milan = Milan::new(&config, Arc::clone(&taught.teacher), vb)?;
                Self::Milan(milan.masked_by(masking.unwrap_or(Masking::Attention)))
            }
            "simmim" => {
                let masking = masking.unwrap_or(Masking::Cells((32 / patch_size).max(1)));
                let config = SimMimConfig { encoder: config.encoder, masking, mask_ratio };
                Self::SimMim(SimMim::new(&config, vb)?)
            }
            "features" => {
                let taught = taught.ok_or_else(need_teacher)?;
                let config = FeatureTargetConfig {
                    encoder: config.encoder,
                    target_dim: taught.target_dim,
                    masking: masking.unwrap_or(Masking::Block),
                    mask_ratio,
                    ..Default::default()
                };
                Self::Features(FeatureTarget::new(&config, Arc::clone(&taught.teacher), vb)?)
            }
            other => {
                return Err(format!(
                    "`objective` is {other}, expected mae, milan, simmim or features"
                )
                .into());
            }
        })
    }

    /// The same for training: what is kept for the backward, what is multiplied in.
    pub fn tuned(self, keep: Keep, precision: MatmulPrecision) -> Self {
        match self {
            Self::Mae(network) => Self::Mae(network.keeping(keep).multiplying(precision)),
            Self::Milan(network) => Self::Milan(network.keeping(keep).multiplying(precision)),
            Self::SimMim(network) => Self::SimMim(network.keeping(keep).multiplying(precision)),
            Self::Features(network) => Self::Features(network.keeping(keep).multiplying(precision)),
            Self::Encoder(vit) => {
                let vit = vit.with_checkpointing(keep == Keep::Nothing);
                Self::Encoder(vit.with_matmul_precision(precision))
            }
        }
    }

    /// The encoder.
    pub fn encoder(&self) -> &ViT {
        match self {
            Self::Mae(network) => network.encoder(),
            Self::Milan(network) => network.encoder(),
            Self::SimMim(network) => network.encoder(),
            Self::Features(network) => network.encoder(),
            Self::Encoder(vit) => vit,
        }
    }

    /// As an objective for the trainer.
    pub fn objective(
        &self,
        settings: &Settings,
        config: &MaeConfig,
        taught: Option<&Taught>,
    ) -> Result<AnyObjective<'_>> {
        Ok(match self {
            Self::Mae(mae) => match settings.masking(config.encoder.patch_size)? {
                None | Some(Masking::Random) => AnyObjective::new(mae),
                Some(masking) => {
                    let patch = config.encoder.patch_size;
                    let masked = MaskedBy::new(mae, masking, patch, config.mask_ratio);
                    match taught {
                        Some(taught) => {
                            AnyObjective::new(masked.with_teacher(Arc::clone(&taught.teacher)))
                        }
                        None => AnyObjective::new(masked),
                    }
                }
            },
            Self::Milan(milan) => AnyObjective::new(milan),
            Self::SimMim(simmim) => AnyObjective::new(simmim),
            Self::Features(features) => AnyObjective::new(features),
            Self::Encoder(_) => return Err("an encoder alone cannot train".into()),
        })
    }
}

/// The teacher that `--teacher` names: CLIP's image tower by its tensors' names, else a ViT of `--teacher-model`. CLIP
/// sees the images at the size that gives it the student's patch grid.
pub fn teacher(
    settings: &Settings,
    student: &ViTConfig,
    device: &Device,
) -> Result<Option<Taught>> {
    let Some(path) = &settings.teacher else { return Ok(None) };
    let checkpoint = model::open_weights(path)?;
    let precision = model::precision(&settings.dtype)?;
    let is_clip = |name: &str| {
        name.starts_with("visual.") || name.starts_with("vision_model.") || name == "conv1.weight"
    };
    if checkpoint.names().any(is_clip) {
        let clip = ClipTeacher::load(&checkpoint, device)?;
        let (grid, patch) = (student.grid()?, clip.config().patch_size);
        let size = ImageSize::new(grid.height * patch, grid.width * patch);
        let target_dim = clip.config().features();
        let clip = clip.seeing(settings.normalize()?).at(size).multiplying(precision);
        return Ok(Some(Taught { teacher: Arc::new(clip), target_dim }));
    }
    let mut checkpoint = model::ours(checkpoint)?;
    let stored = model::stored_config(&checkpoint)?;
    let base = match (settings.teacher_model.as_str(), stored) {
        ("auto", Some(stored)) => stored.encoder,
        ("auto", None) => {
            return Err(format!(
                "{path} does not say which model it is: name it with --teacher-model"
            )
            .into());
        }
        (name, _) => ViTConfig::preset(name, student.patch_size)?,
    };
    let config = ViTConfig { image_size: student.image_size, adapter: None, ..base };
    checkpoint.fit(&config)?;
    let store =
        ParamStore::from_checkpoint(checkpoint, device, Key::new(0)).with_unused(Role::is_decoder);
    let vit = store.build(|vb| ViT::new(&config, vb))?.with_matmul_precision(precision);
    Ok(Some(Taught { teacher: Arc::new(vit), target_dim: config.embed_dim }))
}

/// Whether a checkpoint holds the decoder that an objective goes on with.
pub fn holds_decoder(checkpoint: &Checkpoint, objective: &str) -> bool {
    let own = match objective {
        "mae" => "decoder_blocks.0.attn.qkv.weight",
        "milan" => "decoder_blocks.0.attn.q.weight",
        _ => return false,
    };
    checkpoint.get("decoder_embed.weight").is_some() && checkpoint.get(own).is_some()
}
