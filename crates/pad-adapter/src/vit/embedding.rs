//! From images to the tokens of the first block: patches, positions, class and register tokens.

use candle_core::{Device, Tensor};
use candle_nn::{Init, VarBuilder};

use super::{PatchEmbed, PatchGrid, Positions, ViTConfig, layers::LayerNorm, sin_cos_table};
use crate::{Error, Result};

/// Makes tokens of images. Names: `patch_embed.proj`, `cls_token`, `reg_token`, `pos_embed`,
/// `norm_pre`, each where the configuration has it.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::{params::ParamStore, vit::{Embedding, FirstPositions, PatchGrid, ViTConfig}};
/// use pad_ops::rng::Key;
/// let config = ViTConfig { register_tokens: 2, ..ViTConfig::new(8, 16, 1, 2) };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// let embedding = store.build(|vb| Embedding::new(&config, FirstPositions::SinCos, vb))?;
///
/// // Three patches of an image of another size than the configured one.
/// let images = Tensor::zeros((1, 3, 32, 48), DType::F32, &Device::Cpu)?;
/// let keep = Tensor::new(&[[0_u32, 5, 23]], &Device::Cpu)?;
/// let (tokens, grid) = embedding.patches(&images, Some(&keep))?;
/// assert_eq!((tokens.dims(), grid), (&[1, 3, 16][..], PatchGrid::new(4, 6)));
/// assert_eq!(embedding.grid_of(&images)?, grid);
/// assert_eq!(embedding.with_prefix(&tokens)?.dims(), [1, 1 + 2 + 3, 16]); // class, registers
///
/// // A list of 6 patches, 4 of them an image's: the rest is padding.
/// let values = Tensor::zeros((1, 6, 3 * 8 * 8), DType::F32, &Device::Cpu)?;
/// assert_eq!(embedding.patch_lists(&values, &[PatchGrid::new(2, 2)])?.dims(), [1, 6, 16]);
///
/// // Patches alone.
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// let bare = store.build(|vb| Embedding::without_prefix(&config, FirstPositions::SinCos, vb))?;
/// assert_eq!(bare.with_prefix(&tokens)?.dims(), [1, 3, 16]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Embedding {
    config: ViTConfig,
    patch_embed: PatchEmbed,
    cls_token: Option<Tensor>,
    reg_token: Option<Tensor>,
    pos_table: Option<Tensor>,
    norm_pre: Option<LayerNorm>,
}

/// The first values of a position table that no file gives.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::{params::ParamStore, vit::{Embedding, FirstPositions, ViTConfig}};
/// use pad_ops::rng::Key;
/// let values = |first| -> pad_adapter::Result<usize> {
///     let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
///     store.build(|vb| Embedding::new(&ViTConfig::new(16, 8, 1, 1), first, vb))?;
///     Ok(store.summary().frozen)
/// };
/// // Rows of the class token and of 14 x 14 patches.
/// let table = values(FirstPositions::Random)? - values(FirstPositions::SinCos)?;
/// assert_eq!(table, (1 + 14 * 14) * 8);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstPositions {
    /// The fixed sine-cosine table; it is no parameter then.
    SinCos,
    /// Small random values, to be learnt.
    Random,
}

impl Embedding {
    /// Builds the layers from `vb`'s tensors.
    ///
    /// # Errors
    /// [`Error::Config`]; errors of `vb`.
    pub fn new(config: &ViTConfig, first: FirstPositions, vb: VarBuilder) -> Result<Self> {
        let normal = Init::Randn { mean: 0.0, stdev: 0.02 };
        let token = |count: usize, name: &str| match count {
            0 => Ok(None),
            count => vb.get_with_hints((1, count, config.embed_dim), name, normal).map(Some),
        };
        Ok(Self {
            cls_token: token(usize::from(config.class_token), "cls_token")?,
            reg_token: token(config.register_tokens, "reg_token")?,
            ..Self::without_prefix(config, first, vb.clone())?
        })
    }

    /// [`Embedding::new`] of patches alone: class and register tokens are left out, whatever the
    /// configuration says; a position table keeps the class token's row.
    ///
    /// # Errors
    /// As [`Embedding::new`].
    pub fn without_prefix(
        config: &ViTConfig,
        first: FirstPositions,
        vb: VarBuilder,
    ) -> Result<Self> {
        let (dim, normal) = (config.embed_dim, Init::Randn { mean: 0.0, stdev: 0.02 });
        let pos_table = match config.positions {
            Positions::None => None,
            Positions::Table | Positions::Patches => {
                let (grid, prefix) = (config.pos_table_grid()?, config.table_prefix());
                let shape = (1, prefix + grid.len(), dim);
                Some(match first {
                    FirstPositions::SinCos if !vb.contains_tensor("pos_embed") => {
                        let table = sin_cos_table(dim, grid, vb.device())?;
                        table.narrow(1, 1 - prefix, prefix + grid.len())?.to_dtype(vb.dtype())?
                    }
                    FirstPositions::SinCos => vb.get(shape, "pos_embed")?,
                    FirstPositions::Random => vb.get_with_hints(shape, "pos_embed", normal)?,
                })
            }
        };
        Ok(Self {
            config: *config,
            patch_embed: PatchEmbed::new(config, vb.pp("patch_embed"))?,
            cls_token: None,
            reg_token: None,
            pos_table,
            norm_pre: match config.pre_norm {
                true => Some(LayerNorm::new(dim, config.norm_eps, vb.pp("norm_pre"))?),
                false => None,
            },
        })
    }

    /// The device of the weights.
    pub(super) fn device(&self) -> &Device {
        self.patch_embed.device()
    }

    /// Patch grid of `images` (B, C, H, W).
    ///
    /// # Errors
    /// [`Error::ImageShape`] for another rank, another number of channels, or sides that the patch
    /// does not divide.
    pub fn grid_of(&self, images: &Tensor) -> Result<PatchGrid> {
        self.patch_embed.grid_of(images)
    }

    /// The position table on `grid`, (1, rows + L, D); `None` without one.
    fn positions(&self, grid: PatchGrid) -> Result<Option<Tensor>> {
        let Some(table) = &self.pos_table else { return Ok(None) };
        let config = &self.config;
        let (prefix, from) = (config.table_prefix(), config.pos_table_grid()?);
        Ok(Some(config.pos_resize.table(table, prefix, from, grid)?))
    }

    /// The positions of the patches of `grid`, (1, L, D).
    fn of_patches(&self, grid: PatchGrid) -> Result<Option<Tensor>> {
        let positions = self.positions(grid)?;
        let rows = self.config.table_prefix();
        Ok(positions.map(|table| table.narrow(1, rows, grid.len())).transpose()?)
    }

    /// Tokens of all patches, or of the patches `keep`, with positions added, and the whole grid.
    ///
    /// # Shapes
    /// `images` (B, C, H, W); `keep` (B, K) `u32` patch indices, row major; result (B, L, D) or (B,
    /// K, D).
    ///
    /// # Errors
    /// [`Error::ImageShape`]; an index beyond the grid.
    pub fn patches(&self, images: &Tensor, keep: Option<&Tensor>) -> Result<(Tensor, PatchGrid)> {
        let (tokens, grid) = match keep {
            None => self.patch_embed.forward(images)?,
            Some(keep) => self.patch_embed.forward_kept(images, keep)?,
        };
        let Some(positions) = self.of_patches(grid)? else { return Ok((tokens, grid)) };
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

    /// Tokens of lists of patches of one length, one for each image with its own grid, the rest of
    /// each list being padding (SigLIP 2 NaFlex). Positions are those of each grid.
    ///
    /// # Shapes
    /// `values` (B, N, p p C), pixel major, channel last; `grids` B of them; result (B, N, D).
    ///
    /// # Errors
    /// [`Error::ImageShape`] for values of another shape, another number of grids, or a grid of
    /// more than N patches or of none.
    pub fn patch_lists(&self, values: &Tensor, grids: &[PatchGrid]) -> Result<Tensor> {
        let (batch, count, _) = values.dims3()?;
        if let Some(grid) = grids.iter().find(|grid| grid.is_empty() || grid.len() > count) {
            return Err(Error::ImageShape {
                expected: format!("1 to {count} patches in each list, not {grid}"),
                found: values.dims().to_vec(),
            });
        }
        if grids.len() != batch {
            return Err(Error::ImageShape {
                expected: format!("a list for each of {} grids", grids.len()),
                found: values.dims().to_vec(),
            });
        }
        let tokens = self.patch_embed.forward_flat(values)?;
        let mut all = Vec::with_capacity(batch);
        for &grid in grids {
            let Some(positions) = self.of_patches(grid)? else { return Ok(tokens) };
            all.push(positions.pad_with_zeros(1, 0, count - grid.len())?);
        }
        Ok((tokens + Tensor::cat(&all, 0)?)?)
    }

    /// Class and register tokens in front of patches, then the norm, if there is one.
    ///
    /// # Shapes
    /// `tokens` (B, N, D) -> (B, P + N, D).
    ///
    /// # Errors
    /// Tokens that do not fit.
    pub fn with_prefix(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, _, dim) = tokens.dims3()?;
        let repeat = |token: &Tensor| -> Result<Tensor> {
            let count = token.dim(1)?;
            Ok(token.broadcast_as((batch, count, dim))?.contiguous()?)
        };
        let mut all = Vec::with_capacity(3);
        if let Some(class) = &self.cls_token {
            let class = match &self.pos_table {
                Some(table) if self.config.table_prefix() > 0 => {
                    (class + table.narrow(1, 0, 1)?)?
                }
                _ => class.clone(),
            };
            all.push(repeat(&class)?);
        }
        if let Some(registers) = &self.reg_token {
            all.push(repeat(registers)?);
        }
        let tokens = match all.is_empty() {
            true => tokens.clone(),
            false => {
                all.push(tokens.clone());
                Tensor::cat(&all, 1)?
            }
        };
        match &self.norm_pre {
            Some(norm) => norm.forward(&tokens),
            None => Ok(tokens),
        }
    }
}
