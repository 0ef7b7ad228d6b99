//! Masked autoencoding (He et al., 2021): encode the kept patches, decode all, compare the removed
//! ones.

use std::any::Any;

use candle_core::{D, Tensor};
use candle_nn::{Init, VarBuilder};
use pad_adapter::vit::{
    Block, PatchGrid, Positions, ViT,
    layers::{LayerNorm, Linear, xavier_uniform},
    patchify, sin_cos_table, unpatchify,
};
use pad_ops::{MatmulPrecision, Mode, rng::Key};
use pad_train::Losses;

use crate::{
    Error, MaeConfig, Mask, MaskedBy, Masking, Objective, Result,
    student::{Spec, Student},
};

/// MAE in the table of objectives.
pub(crate) const SPEC: Spec = Spec {
    name: "mae",
    mask_ratio: 0.75,
    masking: Masking::Random,
    needs_teacher: false,
    decoder_tensor: Some("decoder_blocks.0.attn.qkv.weight"),
    build: |config, teacher, vb| {
        let mae = Mae::new(&config.mae, vb)?
            .with_checkpointing(config.checkpointing)
            .with_matmul_precision(config.matmul_precision);
        let masking = match config.masking {
            None | Some(Masking::Random) => return Ok(Box::new(mae)),
            Some(masking) => masking,
        };
        let patch_size = config.mae.encoder.patch_size;
        let masked = MaskedBy::new(mae, masking, patch_size, config.mae.mask_ratio);
        Ok(match teacher {
            Some(model) => Box::new(masked.with_teacher(model.teacher.clone())),
            None => Box::new(masked),
        })
    },
};

impl Student for Mae {
    fn encoder(&self) -> &ViT {
        &self.encoder
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A masked autoencoder. Parameter names are MAE's: the encoder's at the top, `decoder_embed`,
/// `mask_token`, `decoder_pos_embed`, `decoder_blocks.{i}`, `decoder_norm`, `decoder_pred`.
#[derive(Clone, Debug)]
pub struct Mae {
    config: MaeConfig,
    encoder: ViT,
    decoder_embed: Linear,
    mask_token: Tensor,
    decoder_pos_table: Tensor,
    decoder_blocks: Vec<Block>,
    decoder_norm: LayerNorm,
    decoder_pred: Linear,
}

impl Mae {
    /// Builds the network from the tensors of `vb`. Missing position tables become sine-cosine
    /// ones.
    ///
    /// # Errors
    /// [`Error::Config`]; errors of `vb`, such as a tensor of another shape.
    pub fn new(config: &MaeConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let (dim, inner) = (config.encoder.embed_dim, config.decoder_embed_dim);
        let grid = config.encoder.grid()?;
        let pixels = config.encoder.patch_values();
        let encoder = ViT::new(&config.encoder, vb.clone())?;
        let normal = Init::Randn { mean: 0.0, stdev: 0.02 };
        let class = usize::from(config.encoder.class_token);
        let decoder_pos_table = if vb.contains_tensor("decoder_pos_embed") {
            vb.get((1, class + grid.len(), inner), "decoder_pos_embed")?
        } else {
            let table = sin_cos_table(inner, grid, vb.device())?;
            table.narrow(1, 1 - class, class + grid.len())?.to_dtype(vb.dtype())?
        };
        let decoder = config.decoder();
        let decoder_blocks = (0..config.decoder_depth)
            .map(|i| Block::new(&decoder, i, vb.pp("decoder_blocks").pp(i)))
            .collect::<Result<_, _>>()?;
        let linear = |inputs, outputs, name: &str| {
            Linear::new(inputs, outputs, true, xavier_uniform(inputs, outputs), vb.pp(name))
        };
        Ok(Self {
            config: *config,
            encoder,
            decoder_embed: linear(dim, inner, "decoder_embed")?,
            mask_token: vb.get_with_hints((1, 1, inner), "mask_token", normal)?,
            decoder_pos_table,
            decoder_blocks,
            decoder_norm: LayerNorm::new(inner, decoder.norm_eps, vb.pp("decoder_norm"))?,
            decoder_pred: linear(inner, pixels, "decoder_pred")?,
        })
    }

    /// Returns the fixed position tables of a new model, for
    /// [`ParamStore::with_value`](pad_adapter::params::ParamStore::with_value): with them the
    /// tables are parameters and so in every file that is written. An encoder without a position
    /// table has none here.
    ///
    /// # Errors
    /// An invalid configuration.
    pub fn tables(
        config: &MaeConfig,
        device: &candle_core::Device,
    ) -> Result<Vec<(&'static str, Tensor)>> {
        let (encoder, grid) = (&config.encoder, config.encoder.grid()?);
        let class = usize::from(encoder.class_token);
        let table = |dim: usize, grid: PatchGrid, rows: usize| -> Result<Tensor> {
            let table = sin_cos_table(dim, grid, device)?;
            Ok(table.narrow(1, 1 - rows, rows + grid.len())?.contiguous()?)
        };
        let decoder_table = table(config.decoder_embed_dim, grid, class)?;
        let mut tables = vec![("decoder_pos_embed", decoder_table)];
        if encoder.positions != Positions::None {
            let (grid, rows) = (encoder.pos_table_grid()?, encoder.table_prefix());
            tables.push(("pos_embed", table(encoder.embed_dim, grid, rows)?));
        }
        Ok(tables)
    }

    /// Sets whether the blocks keep only their inputs for the backward and compute the rest again
    /// (activation checkpointing): less memory, more time, the same bits.
    #[must_use]
    pub fn with_checkpointing(self, checkpointing: bool) -> Self {
        let blocks = self.decoder_blocks.into_iter();
        let blocks = blocks.map(|block| block.with_checkpointing(checkpointing));
        let encoder = self.encoder.with_checkpointing(checkpointing);
        Self { decoder_blocks: blocks.collect(), encoder, ..self }
    }

    /// Sets what the blocks' linear layers multiply in.
    #[must_use]
    pub fn with_matmul_precision(self, precision: MatmulPrecision) -> Self {
        let blocks = self.decoder_blocks.into_iter();
        let blocks = blocks.map(|block| block.with_matmul_precision(precision));
        let encoder = self.encoder.with_matmul_precision(precision);
        Self { decoder_blocks: blocks.collect(), encoder, ..self }
    }

    /// Returns the configuration.
    pub fn config(&self) -> &MaeConfig {
        &self.config
    }

    /// Returns the device of the weights.
    pub fn device(&self) -> &candle_core::Device {
        self.mask_token.device()
    }

    /// Returns the encoder.
    pub fn encoder(&self) -> &ViT {
        &self.encoder
    }

    /// Encodes the kept patches.
    ///
    /// # Shapes
    /// `images` (B, C, H, W); result (B, P + K, D), `P` the tokens of
    /// [`ViTConfig::prefix`](pad_adapter::vit::ViTConfig::prefix).
    ///
    /// # Errors
    /// Images or a mask that do not fit the model.
    pub fn forward_encoder(&self, images: &Tensor, mask: &Mask, mode: Mode) -> Result<Tensor> {
        let expected = self.encoder.grid_of(images)?.len();
        if mask.patches() != expected {
            return Err(Error::Mask { expected, found: mask.patches() });
        }
        let keep = Some(&mask.ids_keep);
        let (tokens, grid) = self.encoder.embed(images, keep)?;
        Ok(self.encoder.encode_at(&tokens, &self.encoder.places(grid, keep)?, mode)?)
    }

    /// Predicts every patch.
    ///
    /// # Shapes
    /// `latent` (B, P + K, D) from [`Mae::forward_encoder`]; result (B, L, p p C), pixel major,
    /// channel last. Registers are left out; there is a class token where the encoder has one.
    ///
    /// # Errors
    /// A latent or a mask that do not fit the model.
    pub fn forward_decoder(&self, latent: &Tensor, mask: &Mask, mode: Mode) -> Result<Tensor> {
        self.decode(latent, mask, None, mode)
    }

    /// Predicts every patch, or only the patches `only` (B, M): after the last attention the tokens
    /// are independent.
    fn decode(
        &self,
        latent: &Tensor,
        mask: &Mask,
        only: Option<&Tensor>,
        mode: Mode,
    ) -> Result<Tensor> {
        let prefix = self.config.encoder.prefix();
        let x = self.decoder_embed.forward(&prefix.without_registers(latent)?)?;
        let class = usize::from(prefix.class);
        let (batch, tokens, dim) = x.dims3()?;
        let (kept, patches) = (tokens.saturating_sub(class), mask.patches());
        let removed = patches.saturating_sub(kept);
        let fill = self.mask_token.broadcast_as((batch, removed, dim))?.contiguous()?;
        let shuffled = Tensor::cat(&[&x.narrow(1, class, kept)?, &fill], 1)?;
        let restored = pad_ops::gather_tokens(&shuffled, &mask.ids_restore)?;
        let x = match prefix.class {
            true => Tensor::cat(&[&x.narrow(1, 0, 1)?, &restored], 1)?,
            false => restored,
        };
        let mut x = x.broadcast_add(&self.decoder_pos_table)?;
        let (last, blocks) = match self.decoder_blocks.split_last() {
            Some((last, blocks)) => (Some(last), blocks),
            None => (None, &[][..]),
        };
        for block in blocks {
            x = block.forward(&x, mode)?;
        }
        if let Some(last) = last {
            x = last.attend(&x, mode)?;
        }
        x = match only {
            None => x.narrow(1, class, patches)?.contiguous()?,
            Some(ids) => pad_ops::gather_tokens(&x, &(ids + class as f64)?)?,
        };
        if let Some(last) = last {
            x = last.tail(&x, mode)?;
        }
        Ok(self.decoder_pred.forward(&self.decoder_norm.forward(&x)?)?)
    }

    /// Returns the targets of the predictions: the patches of `images`, each normalised under
    /// `norm_pix_loss`.
    ///
    /// # Shapes
    /// `images` (B, C, H, W) -> (B, L, p p C).
    ///
    /// # Errors
    /// Images that do not fit the model.
    pub fn target(&self, images: &Tensor) -> Result<Tensor> {
        self.encoder.grid_of(images)?;
        let patches = patchify(&images.detach(), self.config.encoder.patch_size)?;
        if !self.config.norm_pix_loss {
            return Ok(patches);
        }
        Ok(pad_ops::normalize_patches(&patches)?)
    }

    /// Predicts every patch: pixels, or under `norm_pix_loss` pixels of patches normalised one by
    /// one.
    ///
    /// # Shapes
    /// `images` (B, C, H, W) -> (B, L, p p C).
    ///
    /// # Errors
    /// Images or a mask that do not fit the model.
    pub fn predict(&self, images: &Tensor, mask: &Mask) -> Result<Tensor> {
        let latent = self.forward_encoder(images, mask, Mode::Eval)?;
        Ok(self.forward_decoder(&latent, mask, Mode::Eval)?.detach())
    }

    /// Returns the prediction of every patch, kept ones too, as images. Under `norm_pix_loss` each
    /// patch gets its true mean and variance back, as in the reference's pictures.
    ///
    /// # Shapes
    /// `images` (B, C, H, W) -> the same.
    ///
    /// # Errors
    /// Images or a mask that do not fit the model.
    pub fn reconstruct(&self, images: &Tensor, mask: &Mask) -> Result<Tensor> {
        let mut pred = self.predict(images, mask)?;
        let patch_size = self.config.encoder.patch_size;
        if self.config.norm_pix_loss {
            let (mean, std) = patch_statistics(&patchify(images, patch_size)?)?;
            pred = pred.broadcast_mul(&std)?.broadcast_add(&mean)?;
        }
        Ok(unpatchify(&pred, self.encoder.grid_of(images)?, patch_size)?)
    }
}

impl Objective for Mae {
    type Draw = Mask;

    fn draw(&self, images: &Tensor, keys: &[Key]) -> Result<Mask> {
        let patches = self.encoder.grid_of(images)?.len();
        Mask::random(keys, patches, self.config.mask_ratio, images.device())
    }

    fn loss(&self, images: &Tensor, mask: &Mask, mode: Mode) -> Result<Losses> {
        let latent = self.forward_encoder(images, mask, mode)?;
        let pred = self.decode(&latent, mask, Some(&mask.ids_removed), mode)?;
        let patches = patchify(&images.detach(), self.config.encoder.patch_size)?;
        let mut target = pad_ops::gather_tokens(&patches, &mask.ids_removed)?;
        if self.config.norm_pix_loss {
            target = pad_ops::normalize_patches(&target)?;
        }
        let all = Tensor::ones(mask.ids_removed.shape(), pred.dtype(), pred.device())?;
        Ok(Losses::new(pad_ops::masked_mse(&pred, &target, &all)?))
    }
}

/// Returns mean and standard deviation of each patch, both (B, L, 1): unbiased variance, 1e-6 added
/// under the root.
fn patch_statistics(patches: &Tensor) -> Result<(Tensor, Tensor)> {
    let pixels = patches.dim(D::Minus1)? as f64;
    let mean = patches.mean_keepdim(D::Minus1)?;
    let square = patches.broadcast_sub(&mean)?.sqr()?.sum_keepdim(D::Minus1)?;
    let variance = (square / (pixels - 1.0).max(1.0))?;
    Ok((mean, (variance + 1e-6)?.sqrt()?))
}
