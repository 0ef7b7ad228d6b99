//! MILAN: masked image pre-training on language-assisted representation (Hou et al., 2022), with
//! adapters in the encoder: a CLIP teacher gives the importance of each patch and the target of
//! each token.

mod clip;
mod decoder;

use std::{any::Any, sync::Arc};

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_adapter::vit::{
    ViT, ViTConfig,
    layers::{LayerNorm, Linear, xavier_uniform},
    sin_cos_table,
};
use pad_ops::{MatmulPrecision, Mode, rng::Key};
use pad_train::Losses;
use serde::{Deserialize, Serialize};

pub use clip::{ClipConfig, ClipTeacher};
use decoder::{PromptedBlock, in_grid_order};

use crate::{
    Error, Mask, Masking, Objective, Result, Teacher, TeacherTokens,
    cosine::cosine_distance,
    student::{Spec, Student, missing_teacher},
};

/// MILAN in the table of objectives.
pub(crate) const SPEC: Spec = Spec {
    name: "milan",
    mask_ratio: 0.75,
    masking: Masking::Attention,
    needs_teacher: true,
    decoder_tensor: Some("decoder_blocks.0.attn.q.weight"),
    build: |config, teacher, vb| {
        let teacher = teacher.ok_or_else(|| missing_teacher(SPEC.name))?;
        let milan = MilanConfig {
            encoder: config.mae.encoder,
            decoder_embed_dim: config.mae.decoder_embed_dim,
            decoder_depth: config.mae.decoder_depth,
            decoder_num_heads: config.mae.decoder_num_heads,
            mask_ratio: config.mae.mask_ratio,
            target_dim: teacher.target_dim,
        };
        let milan = Milan::new(&milan, Arc::clone(&teacher.teacher), vb)?
            .with_masking(config.masking.unwrap_or(SPEC.masking))
            .with_checkpointing(config.checkpointing)
            .with_matmul_precision(config.matmul_precision);
        Ok(Box::new(milan))
    },
};

impl Student for Milan {
    fn encoder(&self) -> &ViT {
        &self.encoder
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// MILAN's hyperparameters; the default is the paper's, on a ViT-B/16 with CLIP's ViT-B/16 as
/// teacher.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MilanConfig {
    /// The encoder.
    pub encoder: ViTConfig,
    /// Decoder width, values per token. Default 512.
    pub decoder_embed_dim: usize,
    /// Blocks of the decoder. Default 8.
    pub decoder_depth: usize,
    /// Heads of the decoder. Default 16.
    pub decoder_num_heads: usize,
    /// Fraction of patches removed. Default 0.75.
    pub mask_ratio: f64,
    /// Width of the teacher's features. Default 512.
    pub target_dim: usize,
}

impl Default for MilanConfig {
    fn default() -> Self {
        Self {
            encoder: ViTConfig::base(16),
            decoder_embed_dim: 512,
            decoder_depth: 8,
            decoder_num_heads: 16,
            mask_ratio: 0.75,
            target_dim: 512,
        }
    }
}

impl MilanConfig {
    /// Checks the configuration and returns every fault at once.
    ///
    /// # Errors
    /// [`Error::Config`], or the encoder's own.
    pub fn validate(&self) -> Result<()> {
        self.encoder.validate()?;
        let (dim, heads) = (self.decoder_embed_dim, self.decoder_num_heads);
        let mut faults = Mask::ratio_faults(self.encoder.grid()?.len(), self.mask_ratio);
        if dim == 0 || !dim.is_multiple_of(4) || heads == 0 || !dim.is_multiple_of(heads) {
            faults.push(format!(
                "`decoder_embed_dim` is {dim} and `decoder_num_heads` {heads}, expected a multiple of 4 and a divisor \
                 of it"
            ));
        }
        for (name, count) in
            [("decoder_depth", self.decoder_depth), ("target_dim", self.target_dim)]
        {
            if count == 0 {
                faults.push(format!("`{name}` is 0, expected at least 1"));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Config { what: "milan", faults }) }
    }
}

/// The random decisions of MILAN about a batch, and the teacher's output.
#[derive(Clone, Debug)]
pub struct MilanDraw {
    /// Kept patches, drawn in proportion to the attention of the teacher's class token.
    pub mask: Mask,
    /// The teacher's features, (B, 1 + L, T), class token first.
    pub features: Tensor,
}

/// MILAN's student. Parameter names are the original's: MAE's, with
/// `decoder_blocks.{i}.attn.{q,kv,proj}`.
#[derive(Clone)]
pub struct Milan {
    config: MilanConfig,
    encoder: ViT,
    decoder_embed: Linear,
    mask_token: Tensor,
    decoder_pos_table: Tensor,
    decoder_blocks: Vec<PromptedBlock>,
    decoder_norm: LayerNorm,
    decoder_pred: Linear,
    teacher: Arc<dyn Teacher>,
    masking: Masking,
}

impl Milan {
    /// Builds the student from the tensors of `vb`; the teacher is not among its parameters.
    ///
    /// # Errors
    /// [`Error::Config`]; errors of `vb`, such as a tensor of another shape.
    pub fn new(config: &MilanConfig, teacher: Arc<dyn Teacher>, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let (dim, inner) = (config.encoder.embed_dim, config.decoder_embed_dim);
        let (grid, eps) = (config.encoder.grid()?, config.encoder.norm_eps);
        let encoder = ViT::new(&config.encoder, vb.clone())?;
        let class = usize::from(config.encoder.class_token);
        let decoder_pos_table = if vb.contains_tensor("decoder_pos_embed") {
            vb.get((1, class + grid.len(), inner), "decoder_pos_embed")?
        } else {
            let table = sin_cos_table(inner, grid, vb.device())?;
            table.narrow(1, 1 - class, class + grid.len())?.to_dtype(vb.dtype())?
        };
        let block = |i: usize| {
            let vb = vb.pp("decoder_blocks").pp(i);
            PromptedBlock::new(inner, config.decoder_num_heads, eps, vb)
        };
        let linear = |inputs, outputs, name: &str| {
            Linear::new(inputs, outputs, true, xavier_uniform(inputs, outputs), vb.pp(name))
        };
        let normal = Init::Randn { mean: 0.0, stdev: 0.02 };
        Ok(Self {
            config: *config,
            encoder,
            decoder_embed: linear(dim, inner, "decoder_embed")?,
            mask_token: vb.get_with_hints((1, 1, inner), "mask_token", normal)?,
            decoder_pos_table,
            decoder_blocks: (0..config.decoder_depth).map(block).collect::<Result<_>>()?,
            decoder_norm: LayerNorm::new(inner, eps, vb.pp("decoder_norm"))?,
            decoder_pred: linear(inner, config.target_dim, "decoder_pred")?,
            teacher,
            masking: Masking::Attention,
        })
    }

    /// Sets another masking strategy than the paper's semantic-aware one.
    #[must_use]
    pub fn with_masking(self, masking: Masking) -> Self {
        Self { masking, ..self }
    }

    /// Sets whether the encoder's blocks keep only their inputs for the backward and compute the
    /// rest again (activation checkpointing): less memory, more time, the same bits.
    #[must_use]
    pub fn with_checkpointing(self, checkpointing: bool) -> Self {
        Self { encoder: self.encoder.with_checkpointing(checkpointing), ..self }
    }

    /// Sets what the encoder's linear layers multiply in.
    #[must_use]
    pub fn with_matmul_precision(self, precision: MatmulPrecision) -> Self {
        Self { encoder: self.encoder.with_matmul_precision(precision), ..self }
    }

    /// Returns the configuration.
    pub fn config(&self) -> &MilanConfig {
        &self.config
    }

    /// Returns the encoder.
    pub fn encoder(&self) -> &ViT {
        &self.encoder
    }

    /// Draws the kept patches, by default in proportion to the attention of the teacher's class
    /// token.
    fn mask(&self, images: &Tensor, teacher: &TeacherTokens, keys: &[Key]) -> Result<Mask> {
        let (grid, importance) = (self.encoder.grid_of(images)?, teacher.importance()?);
        self.masking.draw(images, grid, self.config.mask_ratio, importance.as_ref(), keys)
    }

    /// Encodes the kept patches: (B, C, H, W) -> (B, 1 + K, D).
    fn encode(&self, images: &Tensor, mask: &Mask, mode: Mode) -> Result<Tensor> {
        mask.expect_patches(self.encoder.grid_of(images)?.len())?;
        let keep = Some(&mask.ids_keep);
        let (tokens, grid) = self.encoder.embed(images, keep)?;
        Ok(self.encoder.encode_at(&tokens, &self.encoder.places(grid, keep)?, mode)?)
    }

    /// Predicts the teacher's features of every token by the prompting decoder: (B, 1 + K, D) ->
    /// (B, 1 + L, T).
    fn decode(&self, latent: &Tensor, mask: &Mask) -> Result<Tensor> {
        let prefix = self.config.encoder.prefix();
        let x = self.decoder_embed.forward(&prefix.without_registers(latent)?)?;
        let class = usize::from(prefix.class);
        let (b, tokens, dim) = x.dims3()?;
        let removed = (mask.patches() + class).saturating_sub(tokens);
        let fill = self.mask_token.broadcast_as((b, removed, dim))?;
        let table = self.decoder_pos_table.broadcast_as((b, class + mask.patches(), dim))?;
        let positions = |ids: &Tensor| -> Result<Tensor> {
            Ok(pad_ops::gather_tokens(&table.contiguous()?, &(ids + class as f64)?)?)
        };
        let kept = match prefix.class {
            true => Tensor::cat(&[&table.narrow(1, 0, 1)?, &positions(&mask.ids_keep)?], 1)?,
            false => positions(&mask.ids_keep)?,
        };
        let prompts = (x + kept)?;
        let mut masked = (fill.contiguous()? + positions(&mask.ids_removed)?)?;
        for block in &self.decoder_blocks {
            masked = block.forward(&masked, &prompts)?;
        }
        let x = in_grid_order(&prompts, &masked, mask, prefix.class)?;
        Ok(self.decoder_pred.forward(&self.decoder_norm.forward(&x)?)?)
    }

    /// Predicts the teacher's features of every token, class token first if the encoder has one.
    ///
    /// # Shapes
    /// `images` (B, C, H, W) -> (B, 1 + L, T) or (B, L, T).
    ///
    /// # Errors
    /// Images or a mask that do not fit the model.
    pub fn predict(&self, images: &Tensor, mask: &Mask, mode: Mode) -> Result<Tensor> {
        self.decode(&self.encode(images, mask, mode)?, mask)
    }
}

impl Objective for Milan {
    type Draw = MilanDraw;

    fn draw(&self, images: &Tensor, keys: &[Key]) -> Result<MilanDraw> {
        let tokens = self.teacher.tokens(images)?;
        let grid = self.encoder.grid_of(images)?;
        let features = if self.config.encoder.class_token {
            tokens.expect_grid(grid)?;
            tokens.features.detach()
        } else {
            tokens.patches(grid)?.detach()
        };
        let mask = self.mask(images, &tokens, keys)?;
        Ok(MilanDraw { mask, features })
    }

    fn loss(&self, images: &Tensor, draw: &MilanDraw, mode: Mode) -> Result<Losses> {
        let pred = self.predict(images, &draw.mask, mode)?;
        if pred.dims() != draw.features.dims() {
            return Err(Error::TeacherFeatures {
                expected: pred.dims().to_vec(),
                found: draw.features.dims().to_vec(),
            });
        }
        Ok(Losses::new(cosine_distance(&pred, &draw.features)?.mean_all()?))
    }
}
