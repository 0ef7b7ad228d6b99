//! The vision transformer that hosts the adapters (Dosovitskiy et al., 2020), for any image size and subset of tokens.
//!
//! Masking happens outside: [`ViT::embed`] makes tokens of all patches or of those that are kept, [`ViT::encode`] takes
//! whatever tokens it is given.

mod activation;
mod block;
mod config;
pub mod layers;
mod pos_embed;
mod relative;

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_ops::{ImageSize, Keep, MatmulPrecision, Mode};

pub use block::{Attention, Block, Mlp};
pub use config::{Activation, PatchGrid, ViTConfig};
pub use pos_embed::{interpolate_table, sin_cos_table};
pub use relative::{interpolate_decomposed_table, interpolate_relative_table};

use crate::{Error, Result};
use layers::{LayerNorm, Linear, xavier_uniform};

/// A feature map of one block.
#[derive(Clone, Debug)]
pub struct FeatureMap {
    /// (B, D, height, width) of the patch grid.
    pub data: Tensor,
    /// Pixels between neighbouring values.
    pub stride: usize,
}

/// A vision transformer. Parameter names are timm's: `patch_embed.proj`, `cls_token`, `pos_embed`, `blocks.{i}.*`,
/// `norm`; `norm_pre` where the configuration has one.
#[derive(Clone, Debug)]
pub struct ViT {
    config: ViTConfig,
    patch_embed: Linear,
    cls_token: Tensor,
    pos_table: Tensor,
    norm_pre: Option<LayerNorm>,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl ViT {
    /// Builds the network from `vb`'s tensors. Without a `pos_embed` there, the table is the 2D sine-cosine one.
    ///
    /// # Errors
    /// [`Error::Config`]; whatever `vb` refuses.
    pub fn new(config: &ViTConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let (dim, patch, channels) = (config.embed_dim, config.patch_size, config.in_channels);
        let grid = config.pos_table_grid()?;
        // A convolution of stride = kernel is a linear layer on flat patches; the file keeps the convolution's shape.
        let patch_embed = {
            let vb = vb.pp("patch_embed").pp("proj");
            let init = xavier_uniform(config.patch_values(), dim);
            let kernel = vb.get_with_hints((dim, channels, patch, patch), "weight", init)?;
            let bias = || vb.get_with_hints(dim, "bias", Init::Const(0.0));
            let bias = if config.no_patch_bias { None } else { Some(bias()?) };
            Linear::from_tensors(kernel.reshape((dim, config.patch_values()))?, bias)
        };
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

    /// The same network whose blocks keep what `keep` says for their backward ([`Keep::Nothing`]: activation
    /// checkpointing). It has no effect on results.
    #[must_use]
    pub fn keeping(mut self, keep: Keep) -> Self {
        self.blocks = self.blocks.into_iter().map(|block| block.keeping(keep)).collect();
        self
    }

    /// The same network whose blocks' linear layers multiply in `precision`.
    #[must_use]
    pub fn multiplying(mut self, precision: MatmulPrecision) -> Self {
        self.blocks = self.blocks.into_iter().map(|block| block.multiplying(precision)).collect();
        self
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &ViTConfig {
        &self.config
    }

    /// Patch grid of `images` (B, C, H, W).
    ///
    /// # Errors
    /// [`Error::ImageShape`] for another rank, another number of channels, or sides that the patch does not divide.
    pub fn grid_of(&self, images: &Tensor) -> Result<PatchGrid> {
        let (patch, channels) = (self.config.patch_size, self.config.in_channels);
        let refuse = || Error::ImageShape {
            expected: format!("(B, {channels}, H, W) with sides divisible by {patch}"),
            found: images.dims().to_vec(),
        };
        match *images.dims() {
            [_, c, height, width] if c == channels => {
                PatchGrid::of(ImageSize { height, width }, patch).map_err(|_| refuse())
            }
            _ => Err(refuse()),
        }
    }

    /// Tokens of all patches, or of the patches `keep`, with positions added and no class token.
    ///
    /// # Shapes
    /// `images` (B, C, H, W); `keep` (B, K) `u32` patch indices, row major; result (B, L, D) or (B, K, D), and the
    /// whole grid.
    ///
    /// # Errors
    /// [`Error::ImageShape`]; an index beyond the grid.
    pub fn embed(&self, images: &Tensor, keep: Option<&Tensor>) -> Result<(Tensor, PatchGrid)> {
        let grid = self.grid_of(images)?;
        let patches = patches(images, self.config.patch_size)?;
        let positions = self.positions(grid)?.narrow(1, 1, grid.len())?;
        let tokens = match keep {
            None => self.patch_embed.forward(&patches)?.broadcast_add(&positions)?,
            Some(keep) => {
                let batch = patches.dim(0)?;
                let positions =
                    positions.broadcast_as((batch, grid.len(), self.config.embed_dim))?;
                let tokens = self.patch_embed.forward(&pad_ops::gather_tokens(&patches, keep)?)?;
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

    /// [`ViT::encode`], and where each token looks in the last block ([`Block::attention_map`]).
    ///
    /// # Shapes
    /// `tokens` (B, N, D) as for [`ViT::encode`]; results (B, 1 + N, D) and (B, 1 + N, 1 + N), class token first.
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

    /// Like [`ViT::encode`] but without the final norm; `after(i, x)` sees every block's output (B, 1 + N, D).
    ///
    /// # Errors
    /// Tokens that do not fit, or whatever `after` returns.
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

    /// Feature maps after the chosen blocks (no final norm, class token dropped), in the order asked for.
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

    /// The patchwise scales of every block on whole images: per block (B, 1 + L), class token first; `None` where a
    /// block has no patchwise adapter.
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

/// Images cut into flat patches in the order of a convolution's kernel: channel, row, column.
///
/// # Shapes
/// `images` (B, C, H, W) -> (B, L, C p p), patches row major.
///
/// # Errors
/// [`Error::ImageShape`] unless `patch_size` divides both sides.
pub fn patches(images: &Tensor, patch_size: usize) -> Result<Tensor> {
    let (b, c, height, width) = images.dims4()?;
    let grid = PatchGrid::of(ImageSize { height, width }, patch_size)?;
    let p = patch_size;
    let cut = images.reshape(&[b, c, grid.height, p, grid.width, p])?;
    let cut = cut.permute(vec![0, 2, 4, 1, 3, 5])?.contiguous()?;
    Ok(cut.reshape((b, grid.len(), c * p * p))?)
}
