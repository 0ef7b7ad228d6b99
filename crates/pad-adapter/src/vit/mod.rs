//! The vision transformer that hosts the adapters (Dosovitskiy et al., 2020), for any image size
//! and subset of tokens.
//!
//! Masking happens outside: [`ViT::embed`] makes tokens of all patches or of those that are kept,
//! [`ViT::encode`] takes any set of tokens.

mod activation;
mod block;
mod config;
pub mod layers;
mod patches;
mod pos_embed;
mod relative;

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_ops::{MatmulPrecision, Mode};

pub use block::{Attention, Block, Mlp};
pub use config::{Activation, PatchGrid, ViTConfig};
pub use patches::{PatchEmbed, patches, patchify, unpatchify};
pub use pos_embed::{interpolate_table, sin_cos_table};
pub use relative::{interpolate_decomposed_table, interpolate_relative_table};

use crate::{Error, Result};
use layers::LayerNorm;

/// A feature map of one block.
#[derive(Clone, Debug)]
pub struct FeatureMap {
    /// (B, D, height, width) of the patch grid.
    pub data: Tensor,
    /// Pixels between neighbouring values.
    pub stride: usize,
}

/// A vision transformer. Parameter names are timm's: `patch_embed.proj`, `cls_token`, `pos_embed`,
/// `blocks.{i}.*`, `norm`; `norm_pre` where the configuration has one.
#[derive(Clone, Debug)]
pub struct ViT {
    config: ViTConfig,
    patch_embed: PatchEmbed,
    cls_token: Tensor,
    pos_table: Tensor,
    norm_pre: Option<LayerNorm>,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl ViT {
    /// Builds the network from `vb`'s tensors. Without a `pos_embed` there, the table is the 2D
    /// sine-cosine one.
    ///
    /// # Errors
    /// [`Error::Config`]; errors of `vb`.
    pub fn new(config: &ViTConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let (dim, grid) = (config.embed_dim, config.pos_table_grid()?);
        let patch_embed = PatchEmbed::new(config, vb.pp("patch_embed"))?;
        let normal = Init::Randn { mean: 0.0, stdev: 0.02 };
        let cls_token = vb.get_with_hints((1, 1, dim), "cls_token", normal)?;
        let pos_table = if vb.contains_tensor("pos_embed") {
            vb.get((1, 1 + grid.len(), dim), "pos_embed")?
        } else {
            sin_cos_table(dim, grid, vb.device())?.to_dtype(vb.dtype())?
        };
        let norm_pre = match config.pre_norm {
            true => Some(LayerNorm::new(dim, config.norm_eps, vb.pp("norm_pre"))?),
            false => None,
        };
        let blocks = (0..config.depth)
            .map(|i| Block::new(config, i, vb.pp("blocks").pp(i)))
            .collect::<Result<_>>()?;
        let norm = LayerNorm::new(dim, config.norm_eps, vb.pp("norm"))?;
        Ok(Self { config: *config, patch_embed, cls_token, pos_table, norm_pre, blocks, norm })
    }

    /// Sets activation checkpointing: blocks keep their input alone for the backward and compute
    /// the rest again. It has no effect on results. Default: off.
    #[must_use]
    pub fn with_checkpointing(mut self, checkpointing: bool) -> Self {
        let blocks = self.blocks.into_iter();
        self.blocks = blocks.map(|block| block.with_checkpointing(checkpointing)).collect();
        self
    }

    /// Sets the precision of the blocks' matrix products. Default: `f32`.
    #[must_use]
    pub fn with_matmul_precision(mut self, precision: MatmulPrecision) -> Self {
        let blocks = self.blocks.into_iter();
        self.blocks = blocks.map(|block| block.with_matmul_precision(precision)).collect();
        self
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &ViTConfig {
        &self.config
    }

    /// Patch grid of `images` (B, C, H, W).
    ///
    /// # Errors
    /// [`Error::ImageShape`] for another rank, another number of channels, or sides that the patch
    /// does not divide.
    pub fn grid_of(&self, images: &Tensor) -> Result<PatchGrid> {
        self.patch_embed.grid_of(images)
    }

    /// Tokens of all patches, or of the patches `keep`, with positions added and no class token.
    ///
    /// # Shapes
    /// `images` (B, C, H, W); `keep` (B, K) `u32` patch indices, row major; result (B, L, D) or (B,
    /// K, D), and the whole grid.
    ///
    /// # Errors
    /// [`Error::ImageShape`]; an index beyond the grid.
    pub fn embed(&self, images: &Tensor, keep: Option<&Tensor>) -> Result<(Tensor, PatchGrid)> {
        let (tokens, grid) = match keep {
            None => self.patch_embed.forward(images)?,
            Some(keep) => self.patch_embed.forward_kept(images, keep)?,
        };
        let positions = self.positions(grid)?.narrow(1, 1, grid.len())?;
        let tokens = match keep {
            None => tokens.broadcast_add(&positions)?,
            Some(keep) => {
                let (batch, _, dim) = tokens.dims3()?;
                let positions = positions.broadcast_as((batch, grid.len(), dim))?;
                (tokens + pad_ops::gather_tokens(&positions.contiguous()?, keep)?)?
            }
        };
        Ok((tokens, grid))
    }

    /// The position table on `grid`, (1, 1 + L, D).
    fn positions(&self, grid: PatchGrid) -> Result<Tensor> {
        interpolate_table(&self.pos_table, self.config.pos_table_grid()?, grid)
    }

    /// Runs the blocks and the final norm on tokens, class token prepended.
    ///
    /// # Shapes
    /// `tokens` (B, N, D) from [`ViT::embed`], any subset of patches; result (B, 1 + N, D).
    ///
    /// # Errors
    /// Tokens that do not fit.
    pub fn encode(&self, tokens: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = self.run_blocks(tokens, mode, |_, _| Ok(()))?;
        self.norm.forward(&x)
    }

    /// [`ViT::encode`], and the attention of the last block ([`Block::attention_map`]).
    ///
    /// # Shapes
    /// `tokens` (B, N, D) as for [`ViT::encode`]; results (B, 1 + N, D) and (B, 1 + N, 1 + N),
    /// class token first.
    ///
    /// # Errors
    /// Tokens that do not fit.
    pub fn encode_with_attention(&self, tokens: &Tensor, mode: Mode) -> Result<(Tensor, Tensor)> {
        let (last, before) = self.blocks.split_last().ok_or(Error::Block { depth: 0, found: 0 })?;
        let mut x = self.with_class_token(tokens)?;
        for block in before {
            x = block.forward(&x, mode)?;
        }
        let attention = last.attention_map(&x)?;
        Ok((self.norm.forward(&last.forward(&x, mode)?)?, attention))
    }

    /// Like [`ViT::encode`] but without the final norm; `after(i, x)` sees every block's output (B,
    /// 1 + N, D).
    ///
    /// # Errors
    /// Tokens that do not fit; errors of `after`.
    pub fn run_blocks(
        &self,
        tokens: &Tensor,
        mode: Mode,
        mut after: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let mut x = self.with_class_token(tokens)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, mode)?;
            after(i, &x)?;
        }
        Ok(x)
    }

    fn with_class_token(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, _, dim) = tokens.dims3()?;
        let class = (&self.cls_token + self.pos_table.narrow(1, 0, 1)?)?;
        let class = class.broadcast_as((batch, 1, dim))?.contiguous()?;
        let all = Tensor::cat(&[&class, tokens], 1)?;
        match &self.norm_pre {
            Some(norm) => norm.forward(&all),
            None => Ok(all),
        }
    }

    /// All tokens of whole images after the final norm, class token first.
    ///
    /// # Shapes
    /// `images` (B, C, H, W) -> (B, 1 + L, D).
    ///
    /// # Errors
    /// [`Error::ImageShape`].
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.encode(&self.embed(images, None)?.0, mode)
    }

    /// Feature maps after the chosen blocks (no final norm, class token dropped), in the order of
    /// `blocks`.
    ///
    /// # Shapes
    /// `images` (B, C, H, W) -> (B, D, H / patch, W / patch) each.
    ///
    /// # Errors
    /// [`Error::ImageShape`]; [`Error::Block`] for an index beyond the depth.
    pub fn features(
        &self,
        images: &Tensor,
        blocks: &[usize],
        mode: Mode,
    ) -> Result<Vec<FeatureMap>> {
        let depth = self.blocks.len();
        if let Some(&found) = blocks.iter().find(|&&block| block >= depth) {
            return Err(Error::Block { depth, found });
        }
        let (tokens, grid) = self.embed(images, None)?;
        let (batch, _, dim) = tokens.dims3()?;
        let mut maps: Vec<Option<Tensor>> = vec![None; depth];
        self.run_blocks(&tokens, mode, |i, x| {
            if blocks.contains(&i) {
                let x = x.narrow(1, 1, grid.len())?.transpose(1, 2)?.contiguous()?;
                maps[i] = Some(x.reshape((batch, dim, grid.height, grid.width))?);
            }
            Ok(())
        })?;
        let stride = self.config.patch_size;
        let found = blocks.iter().filter_map(|&i| maps[i].clone());
        Ok(found.map(|data| FeatureMap { data, stride }).collect())
    }

    /// The patchwise scales of every block on whole images: per block (B, 1 + L), class token
    /// first; `None` where a block has no patchwise adapter.
    ///
    /// # Errors
    /// [`Error::ImageShape`].
    pub fn scales(&self, images: &Tensor) -> Result<(Vec<Option<Tensor>>, PatchGrid)> {
        let (tokens, grid) = self.embed(images, None)?;
        let mut x = self.with_class_token(&tokens)?;
        let mut scales = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            scales.push(block.scales(&x)?);
            x = block.forward(&x, Mode::Eval)?;
        }
        Ok((scales, grid))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use pad_ops::{ImageSize, rng::Key};

    use super::*;
    use crate::params::ParamStore;

    #[test]
    fn the_last_block_s_attention_beside_the_tokens() {
        let config = ViTConfig { image_size: ImageSize::square(16), ..ViTConfig::new(8, 16, 2, 4) };
        let store = ParamStore::scratch(&Device::Cpu, Key::new(3));
        let vit = store.build(|vb| ViT::new(&config, vb)).unwrap();
        let images = Tensor::arange(0_f32, 1536.0, &Device::Cpu).unwrap();
        let images = (images / 700.0).unwrap().reshape((2, 3, 16, 16)).unwrap();
        let (tokens, _) = vit.embed(&images, None).unwrap();
        let (features, attention) = vit.encode_with_attention(&tokens, Mode::Eval).unwrap();
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&features), values(&vit.forward(&images, Mode::Eval).unwrap()));
        assert_eq!((attention.dims(), attention.dtype()), (&[2, 5, 5][..], DType::F32));
        let rows = values(&attention);
        assert!(rows.chunks_exact(5).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
        // By hand: the second block's input, its norm, queries times keys a head.
        let mut inputs = Vec::new();
        let x = vit.run_blocks(&tokens, Mode::Eval, |_, x| {
            inputs.push(x.clone());
            Ok(())
        });
        assert!(x.is_ok());
        let part = |name: &str| {
            let param = store.params().into_iter().find(|param| param.name == name);
            param.map(|param| values(&param.tensor)).unwrap()
        };
        let (weight, bias) = (part("blocks.1.attn.qkv.weight"), part("blocks.1.attn.qkv.bias"));
        let token = values(&inputs[0])[..5 * 16].to_vec();
        let normed: Vec<f64> = token
            .chunks_exact(16)
            .flat_map(|row| {
                let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / 16.0;
                let square = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
                let scale = (square / 16.0 + config.norm_eps).sqrt();
                row.iter().map(move |&v| (f64::from(v) - mean) / scale).collect::<Vec<_>>()
            })
            .collect();
        let project = |token: usize, output: usize| {
            let row = &weight[output * 16..][..16];
            let x = &normed[token * 16..][..16];
            f64::from(bias[output]) + row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum::<f64>()
        };
        for from in 0..5 {
            let mut want = [0.0; 5];
            for head in 0..4 {
                let logit = |to: usize| {
                    let dim = head * 4..head * 4 + 4;
                    dim.map(|d| project(from, d) * project(to, 16 + d)).sum::<f64>() / 2.0
                };
                let shares: Vec<f64> = (0..5).map(|to| logit(to).exp()).collect();
                let all: f64 = shares.iter().sum();
                want.iter_mut().zip(&shares).for_each(|(want, share)| *want += share / all / 4.0);
            }
            for (to, want) in want.into_iter().enumerate() {
                assert!((f64::from(rows[from * 5 + to]) - want).abs() < 1e-5, "{from} {to}");
            }
        }
    }
}
