//! The ViT of detection (ViTDet, Li et al., 2022; the original's `vit_adapt.py`): attention in
//! windows except for a few blocks, relative positions decomposed into rows and columns, images of
//! any size.
//!
//! No class token, no final norm. The position table is that of pre-training, interpolated to each
//! image's grid.

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_adapter::vit::{
    Attention, Block, Embedding, FirstPositions, PatchGrid, Places, RelativeBias, ViTConfig,
    interpolate_decomposed_table,
};
use pad_ops::{
    AttentionBias, ImageSize, MatmulPrecision, Mode, RopeTables, Windows, window_partition,
    window_unpartition,
};
use serde::{Deserialize, Serialize};

use super::{FeatureExtractor, change_blocks};
use crate::{
    error::{Error, Result},
    limits,
};

/// Hyperparameters of a [`WindowedViT`].
///
/// ```
/// use pad_heads::backbone::WindowedConfig;
/// let original = WindowedConfig::default();
/// original.validate()?;
/// // Blocks 2, 5, 8 and 11 attend globally, on grids of up to 64 x 64 patches.
/// assert_eq!((original.window_of(0), original.window_of(2)), (Some(14), None));
/// assert_eq!((original.relative_rows(0), original.relative_rows(2)), ([27, 27], [127, 127]));
/// # Ok::<(), pad_heads::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WindowedConfig {
    /// The transformer; its `image_size` (or `pos_grid`) is that of pre-training and gives the
    /// position table.
    pub vit: ViTConfig,
    /// Rows and columns of a window, tokens; `None` makes every block attend globally (0 in files).
    /// Default: 14.
    #[serde(with = "zero_is_none")]
    pub window: Option<usize>,
    /// Blocks that attend globally. Default: 2, 5, 8, 11.
    pub global_blocks: Vec<usize>,
    /// Whether blocks have relative positions. Default: true.
    pub relative_positions: bool,
    /// Image size that the relative position tables of global blocks are made for; those of other
    /// sizes are interpolated. Default: 1024 x 1024.
    pub relative_size: ImageSize,
}

impl Default for WindowedConfig {
    /// ViTDet-B of the original's FLIR recipe: adapters of fixed scale 0.5, drop path 0.1.
    fn default() -> Self {
        let adapter = pad_adapter::AdapterConfig {
            scale: pad_adapter::Scale::Fixed(0.5),
            ..pad_adapter::AdapterConfig::default()
        };
        Self {
            vit: ViTConfig { drop_path: 0.1, adapter: Some(adapter), ..ViTConfig::base(16) },
            window: Some(14),
            global_blocks: vec![2, 5, 8, 11],
            relative_positions: true,
            relative_size: ImageSize::square(1024),
        }
    }
}

impl WindowedConfig {
    /// Checks every part and returns all faults at once.
    ///
    /// # Errors
    /// [`Error::Config`] or the transformer's own.
    pub fn validate(&self) -> Result<()> {
        let vit = &self.vit;
        // The position table is learned: any width that the heads divide is valid.
        ViTConfig { embed_dim: vit.embed_dim.saturating_mul(4), ..*vit }.validate()?;
        let mut faults = Vec::new();
        if !vit.embed_dim.is_multiple_of(vit.num_heads) {
            faults.push(format!(
                "`num_heads` is {}, expected a divisor of `embed_dim` {}",
                vit.num_heads, vit.embed_dim
            ));
        }
        if let Some(block) = self.global_blocks.iter().find(|&&block| block >= vit.depth) {
            let depth = vit.depth;
            faults.push(format!("`global_blocks` has {block}, expected indices below {depth}"));
        }
        let ImageSize { height, width } = self.relative_size;
        if self.relative_positions && (height < vit.patch_size || width < vit.patch_size) {
            faults.push(format!(
                "`relative_size` is {height}x{width}, expected at least a patch of {}",
                vit.patch_size
            ));
        }
        if self.window == Some(0) {
            faults.push("`window` is 0, expected at least 1".into());
        }
        faults.extend(limits::excesses([
            ("window", self.window.unwrap_or_default(), limits::SIDE),
            ("relative_size", height.max(width), limits::PIXELS),
        ]));
        Error::faults("windowed vit", faults)
    }

    /// Side of block `block`'s windows, tokens; `None` if it attends globally.
    pub fn window_of(&self, block: usize) -> Option<usize> {
        self.window.filter(|_| !self.global_blocks.contains(&block))
    }

    /// Rows of the relative position tables `rel_pos_h` and `rel_pos_w` of block `block`.
    pub fn relative_rows(&self, block: usize) -> [usize; 2] {
        let patch = self.vit.patch_size.max(1);
        let sides = match self.window_of(block) {
            Some(side) => [side; 2],
            None => [self.relative_size.height / patch, self.relative_size.width / patch],
        };
        sides.map(|side| side.saturating_mul(2).saturating_sub(1))
    }
}

/// An `Option<usize>` that files hold as a number: 0 is `None`.
pub(crate) mod zero_is_none {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<usize>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.unwrap_or(0) as u64)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<usize>, D::Error> {
        Ok(Option::<usize>::deserialize(deserializer)?.filter(|&value| value > 0))
    }
}

/// A block's relative position tables.
#[derive(Clone, Debug)]
struct Relative {
    /// (2 height - 1, head width).
    rows: Tensor,
    /// (2 width - 1, head width).
    columns: Tensor,
}

/// The network. Parameter names are the original's: `patch_embed.proj`, `pos_embed`,
/// `blocks.{i}.{norm1,attn,norm2,mlp,adaptmlp,scalar_pred}`, `blocks.{i}.attn.rel_pos_{h,w}`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::{params::ParamStore, vit::ViTConfig};
/// use pad_heads::backbone::{FeatureExtractor, WindowedConfig, WindowedViT};
/// use pad_ops::{ImageSize, Mode, rng::Key};
/// let config = WindowedConfig {
///     vit: ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) },
///     window: Some(2),
///     global_blocks: vec![1],
///     relative_positions: true,
///     relative_size: ImageSize::square(64),
/// };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// let net = store.build(|vb| WindowedViT::new(&config, vb))?;
/// let images = Tensor::zeros((1, 3, 48, 80), DType::F32, &Device::Cpu)?;
/// assert_eq!(net.maps(&images, &[1], Mode::Eval)?[0].dims(), [1, 16, 3, 5]);
/// assert_eq!(net.config().window_of(0), Some(2));
/// # Ok::<(), pad_heads::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct WindowedViT {
    config: WindowedConfig,
    embedding: Embedding,
    blocks: Vec<Block>,
    /// One per block; empty without relative positions.
    relative: Vec<Relative>,
}

impl WindowedViT {
    /// Builds the network from `vb`'s tensors.
    ///
    /// # Errors
    /// [`Error::Config`]; tensors that `vb` lacks.
    pub fn new(config: &WindowedConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let vit = &config.vit;
        let dim = vit.embed_dim;
        // BEiT's tables have rows for a class token and take no windows.
        let of_blocks = ViTConfig { relative_bias: RelativeBias::None, ..*vit };
        let mut blocks = Vec::with_capacity(vit.depth);
        let mut relative = Vec::new();
        for i in 0..vit.depth {
            let at = vb.pp("blocks").pp(i);
            blocks.push(Block::new(&of_blocks, i, at.clone())?);
            if config.relative_positions {
                let [rows, columns] = config.relative_rows(i);
                let table = |rows, name| {
                    let shape = (rows, dim / vit.num_heads);
                    at.pp("attn").get_with_hints(shape, name, Init::Const(0.0))
                };
                relative.push(Relative {
                    rows: table(rows, "rel_pos_h")?,
                    columns: table(columns, "rel_pos_w")?,
                });
            }
        }
        Ok(Self {
            config: config.clone(),
            embedding: Embedding::without_prefix(vit, FirstPositions::Random, vb.clone())?,
            blocks,
            relative,
        })
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &WindowedConfig {
        &self.config
    }

    /// Where the tokens of `images` images of `grid` lie for a block's attention, window by window
    /// where it has windows: rotary positions stay those of the whole grid.
    fn places(&self, i: usize, grid: PatchGrid, images: usize, x: &Tensor) -> Result<Places> {
        let vit = &self.config.vit;
        let Some(rope) = vit.rope else { return Ok(Places::default()) };
        let head = vit.embed_dim / vit.num_heads;
        let tables = rope.tables([grid.height, grid.width], head, x.device())?;
        let Some(side) = self.config.window_of(i) else {
            return Ok(Places::rotary(Some(tables)));
        };
        let windows = Windows { height: grid.height, width: grid.width, side };
        // Padding turns by nothing: its values are biases, wherever they are thought to lie.
        let cut = |table: &Tensor, padding: f64| -> Result<Tensor> {
            let shifted = (table - padding)?.unsqueeze(0)?;
            let cut = (window_partition(&shifted, windows)? + padding)?;
            Ok(cut.repeat((images, 1, 1))?)
        };
        let (sin, cos) = (cut(&tables.sin, 0.0)?, cut(&tables.cos, 1.0)?);
        Ok(Places::rotary(Some(RopeTables { sin, cos, pairs: tables.pairs })))
    }

    /// Runs one block on tokens of `grid`.
    fn block(&self, i: usize, x: &Tensor, grid: PatchGrid, mode: Mode) -> Result<Tensor> {
        let block = &self.blocks[i];
        let window = self.config.window_of(i);
        // A window as large as the grid needs its padding all the same: padded tokens are attended
        // to.
        let attended = window.map_or(grid, |side| PatchGrid::new(side, side));
        let relative = self.relative.get(i);
        let places = self.places(i, grid, x.dim(0)?, x)?;
        let attend = |attention: &Attention, x: &Tensor, mode: Mode| match relative {
            Some(relative) => attention.forward_biased(x, &places, mode, |qkv| {
                bias(qkv, attention.num_heads(), relative, attended)
            }),
            None => attention.forward_at(x, &places, mode),
        };
        let Some(side) = window else {
            return Ok(match relative {
                Some(_) => block.forward_with(x, mode, attend)?,
                None => block.forward_at(x, &places, mode)?,
            });
        };
        let windows = Windows { height: grid.height, width: grid.width, side };
        Ok(block.forward_with(x, mode, |attention, x, mode| {
            let cut = window_partition(x, windows)?;
            Ok(window_unpartition(&attend(attention, &cut, mode)?, windows)?)
        })?)
    }
}

/// Returns what each query adds to the logits of its grid's rows and columns: `q . table[offset]`,
/// `q` without the scale.
fn bias(
    qkv: &Tensor,
    heads: usize,
    relative: &Relative,
    grid: PatchGrid,
) -> pad_adapter::Result<AttentionBias> {
    let (batch, tokens, width) = qkv.dims3()?;
    let (dim, PatchGrid { height, width: columns }) = (width / 3, grid);
    let head = dim / heads;
    let q = qkv.narrow(2, 0, dim)?.reshape(vec![batch, height, columns, heads, head])?;
    // One product for each row (column) of queries: those of a row share their offsets.
    let rows = q.permute(vec![1, 0, 3, 2, 4])?.contiguous()?; // (y, B, H, x, E)
    let rows = rows.reshape((height, batch * heads * columns, head))?;
    let rows = rows.matmul(&offsets(&relative.rows, height)?)?;
    let rows = rows.reshape(vec![height, batch, heads, columns, height])?;
    let rows = rows.permute(vec![1, 2, 0, 3, 4])?.contiguous()?;
    let across = q.permute(vec![2, 0, 3, 1, 4])?.contiguous()?; // (x, B, H, y, E)
    let across = across.reshape((columns, batch * heads * height, head))?;
    let across = across.matmul(&offsets(&relative.columns, columns)?)?;
    let across = across.reshape(vec![columns, batch, heads, height, columns])?;
    let across = across.permute(vec![1, 2, 3, 0, 4])?.contiguous()?;
    Ok(AttentionBias::Decomposed {
        rows: rows.reshape((batch, heads, tokens, height))?,
        columns: across.reshape((batch, heads, tokens, columns))?,
    })
}

/// The table's entries for every query and key along a side, (query, head width, key): query minus
/// key.
fn offsets(table: &Tensor, side: usize) -> pad_adapter::Result<Tensor> {
    let table = interpolate_decomposed_table(table, side)?;
    let pairs = (0..side * side).map(|pair| (pair / side + side - 1 - pair % side) as u32);
    let index = Tensor::from_vec(pairs.collect::<Vec<_>>(), side * side, table.device())?;
    let (_, head) = table.dims2()?;
    let entries = table.index_select(&index, 0)?.reshape((side, side, head))?;
    Ok(entries.transpose(1, 2)?.contiguous()?)
}

impl FeatureExtractor for WindowedViT {
    fn maps(&self, images: &Tensor, blocks: &[usize], mode: Mode) -> Result<Vec<Tensor>> {
        let depth = self.blocks.len();
        if let Some(&found) = blocks.iter().find(|&&block| block >= depth) {
            return Err(pad_adapter::Error::Block { depth, found }.into());
        }
        // There is no class token.
        let (tokens, grid) = self.embedding.patches(images, None)?;
        let mut x = self.embedding.with_prefix(&tokens)?;
        let (batch, _, dim) = x.dims3()?;
        let last = blocks.iter().max().map_or(0, |last| last + 1);
        let mut maps = vec![None; last];
        for (i, map) in maps.iter_mut().enumerate() {
            x = self.block(i, &x, grid, mode)?;
            if blocks.contains(&i) {
                let tokens = x.transpose(1, 2)?.contiguous()?;
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
