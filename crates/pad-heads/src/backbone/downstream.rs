//! The ViT with adapters in the original's downstream form (`backbone/mae_adapt.py` of its
//! segmentation part).
//!
//! Unlike in pre-training it has a learned position table, relative position biases in every block,
//! layer scale (`gamma_1`, `gamma_2`), drop path and no final norm. Without layer scale the
//! original's block skips its attention; ours attends, as its plain backbone does: with
//! `layer_scale = None` results differ from the original on purpose.

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_adapter::vit::{
    Block, Embedding, FirstPositions, PatchGrid, Places, RelativeBias, ViTConfig, relative_bias,
};
use pad_ops::{AttentionBias, ImageSize, MatmulPrecision, Mode};
use serde::{Deserialize, Serialize};

use super::{FeatureExtractor, change_blocks, relative};
use crate::error::{Error, Result};

/// Hyperparameters of a [`DownstreamViT`].
///
/// ```
/// use pad_heads::backbone::DownstreamConfig;
/// let original = DownstreamConfig::default();
/// assert_eq!((original.vit.embed_dim, original.vit.image_size.width), (768, 512));
/// original.validate()?;
/// let mut wrong = original;
/// wrong.vit.register_tokens = 4; // relative positions know of no registers
/// assert!(wrong.validate().unwrap_err().to_string().contains("`relative_positions` is true"));
/// # Ok::<(), pad_heads::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DownstreamConfig {
    /// The transformer; `image_size` gives the grid of both kinds of position tables.
    pub vit: ViTConfig,
    /// Whether blocks have relative position biases. Default: true.
    pub relative_positions: bool,
}

impl Default for DownstreamConfig {
    /// The original's: ViT-B/16 for 512 x 512 images, layer scale 1, drop path 0.1, patchwise
    /// adapters.
    fn default() -> Self {
        let vit = ViTConfig {
            image_size: ImageSize::square(512),
            layer_scale: Some(1.0),
            drop_path: 0.1,
            adapter: Some(pad_adapter::AdapterConfig::default()),
            ..ViTConfig::base(16)
        };
        Self { vit, relative_positions: true }
    }
}

impl DownstreamConfig {
    /// Checks every part and returns all faults at once.
    ///
    /// # Errors
    /// [`Error::Config`] or the transformer's own.
    pub fn validate(&self) -> Result<()> {
        let vit = &self.vit;
        // The position table is learned: any width that the heads divide is valid.
        ViTConfig { embed_dim: vit.embed_dim.saturating_mul(4), ..*vit }.validate()?;
        let mut faults = Vec::new();
        if self.relative_positions && (!vit.class_token || vit.register_tokens > 0) {
            faults.push(
                "`relative_positions` is true, expected false for a network without class token or with registers"
                    .into(),
            );
        }
        if !vit.embed_dim.is_multiple_of(vit.num_heads) {
            faults.push(format!(
                "`num_heads` is {}, expected a divisor of `embed_dim` {}",
                vit.num_heads, vit.embed_dim
            ));
        }
        Error::faults("downstream vit", faults)
    }
}

/// The network, of any transformer that pad-adapter has: class and register tokens take part in
/// attention and are no part of the maps. Parameter names are the original's: `patch_embed.proj`,
/// `cls_token`, `pos_embed`, `blocks.{i}.{norm1,attn,norm2,mlp,gamma_1,gamma_2,adaptmlp,scalar_pred}`,
/// `blocks.{i}.attn.relative_position_bias_table`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::{params::ParamStore, vit::ViTConfig};
/// use pad_heads::backbone::{DownstreamConfig, DownstreamViT, FeatureExtractor};
/// use pad_ops::{ImageSize, Mode, rng::Key};
/// let vit = ViTConfig { image_size: ImageSize::square(64), ..ViTConfig::new(16, 16, 2, 2) };
/// let config = DownstreamConfig { vit, relative_positions: true };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// let net = store.build(|vb| DownstreamViT::new(&config, vb))?;
/// let images = Tensor::zeros((1, 3, 32, 48), DType::F32, &Device::Cpu)?;
/// assert_eq!(net.maps(&images, &[1], Mode::Eval)?[0].dims(), [1, 16, 2, 3]);
/// assert_eq!(net.config(), &config);
/// # Ok::<(), pad_heads::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DownstreamViT {
    config: DownstreamConfig,
    embedding: Embedding,
    blocks: Vec<Block>,
    /// One per block, (rows, heads); empty without relative positions.
    tables: Vec<Tensor>,
}

impl DownstreamViT {
    /// Builds the network from `vb`'s tensors.
    ///
    /// # Errors
    /// [`Error::Config`]; tensors that `vb` lacks.
    pub fn new(config: &DownstreamConfig, vb: VarBuilder<'static>) -> Result<Self> {
        config.validate()?;
        let vit = &config.vit;
        let grid = vit.pos_table_grid()?;
        // Tables are this network's, not the blocks'.
        let of_blocks = ViTConfig { relative_bias: RelativeBias::None, ..*vit };
        // The original's names of the layer scales. Renaming starts at the root, because a renamed
        // builder would add its prefix to a name that has it already.
        let root = vb.root().rename_f(|name| {
            name.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2")
        });
        let prefix = vb.prefix();
        let blocks_at = if prefix.is_empty() { root } else { root.pp(prefix) };
        let mut blocks = Vec::with_capacity(vit.depth);
        let mut tables = Vec::new();
        for i in 0..vit.depth {
            blocks.push(Block::new(&of_blocks, i, blocks_at.pp("blocks").pp(i))?);
            if config.relative_positions {
                let shape = (relative::relative_bias_rows(grid), vit.num_heads);
                let attn = vb.pp("blocks").pp(i).pp("attn");
                let zeros = Init::Const(0.0);
                tables.push(attn.get_with_hints(shape, "relative_position_bias_table", zeros)?);
            }
        }
        Ok(Self {
            config: *config,
            embedding: Embedding::new(vit, FirstPositions::Random, vb.clone())?,
            blocks,
            tables,
        })
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &DownstreamConfig {
        &self.config
    }

    /// Runs one block.
    fn block(
        &self,
        i: usize,
        x: &Tensor,
        (places, index): (&Places, Option<&Tensor>),
        mode: Mode,
    ) -> Result<Tensor> {
        let block = &self.blocks[i];
        let (Some(table), Some(index)) = (self.tables.get(i), index) else {
            return Ok(block.forward_at(x, places, mode)?);
        };
        let bias = || Ok(AttentionBias::PerHead(relative_bias(table, index)?));
        Ok(block.forward_with(x, mode, |attention, x, mode| {
            attention.forward_biased(x, places, mode, |_| bias())
        })?)
    }

    /// Where the patches of `grid` lie, for rotary positions.
    fn places(&self, grid: PatchGrid, images: &Tensor) -> Result<Places> {
        let vit = &self.config.vit;
        let tables = match vit.rope {
            Some(rope) => {
                let head = vit.embed_dim / vit.num_heads;
                Some(rope.tables([grid.height, grid.width], head, images.device())?)
            }
            None => None,
        };
        Ok(Places::rotary(tables))
    }
}

impl FeatureExtractor for DownstreamViT {
    fn maps(&self, images: &Tensor, blocks: &[usize], mode: Mode) -> Result<Vec<Tensor>> {
        let depth = self.blocks.len();
        if let Some(&found) = blocks.iter().find(|&&block| block >= depth) {
            return Err(pad_adapter::Error::Block { depth, found }.into());
        }
        let (tokens, grid) = self.embedding.patches(images, None)?;
        let mut x = self.embedding.with_prefix(&tokens)?;
        let places = self.places(grid, images)?;
        let index = if self.tables.is_empty() {
            None
        } else {
            let table = self.config.vit.pos_table_grid()?;
            Some(relative::relative_positions(table, grid, images.device())?)
        };
        let (batch, _, dim) = x.dims3()?;
        let prefix = self.config.vit.prefix().len();
        let last = blocks.iter().max().map_or(0, |last| last + 1);
        let mut maps = vec![None; last];
        for (i, map) in maps.iter_mut().enumerate() {
            x = self.block(i, &x, (&places, index.as_ref()), mode)?;
            if blocks.contains(&i) {
                let tokens = x.narrow(1, prefix, grid.len())?.transpose(1, 2)?.contiguous()?;
                *map = Some(tokens.reshape((batch, dim, grid.height, grid.width))?);
            }
        }
        Ok(blocks.iter().filter_map(|&i| maps[i].clone()).collect())
    }

    fn embed_dim(&self) -> usize {
        self.config.vit.embed_dim
    }

    fn depth(&self) -> usize {
        self.blocks.len()
    }

    fn patch_size(&self) -> usize {
        self.config.vit.patch_size
    }

    fn in_channels(&self) -> usize {
        self.config.vit.in_channels
    }

    fn set_checkpointing(&mut self, checkpointing: bool) {
        change_blocks(&mut self.blocks, |block| block.with_checkpointing(checkpointing));
    }

    fn set_matmul_precision(&mut self, precision: MatmulPrecision) {
        change_blocks(&mut self.blocks, |block| block.with_matmul_precision(precision));
    }
}
