//! The vision transformer that hosts the adapters (Dosovitskiy et al., 2020), for any image size
//! and subset of tokens.
//!
//! Masking happens outside: [`ViT::embed`] makes tokens of all patches or of those that are kept,
//! [`ViT::encode`] takes any set of tokens.

mod attention;
mod axes;
mod block;
mod config;
mod embedding;
mod kinds;
pub mod layers;
mod maps;
mod mlp;
mod patches;
mod places;
mod pool;
mod pos_embed;
mod published;
mod relative;

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_ops::{MatmulPrecision, Mode, RopeTables};

pub use attention::Attention;
pub use block::Block;
pub use config::{PatchGrid, ViTConfig};
pub use embedding::{Embedding, FirstPositions};
pub use kinds::{
    Activation, Positions, Prefix, QkvBias, RelativeBias, RelativeResize, TableResize,
};
pub use maps::FeatureMap;
pub use mlp::Mlp;
pub use patches::{PatchEmbed, patches, patchify, unpatchify};
pub use places::Places;
pub use pool::{PoolHead, PoolKind};
pub use pos_embed::{interpolate_table, sin_cos_table};
pub use relative::{
    interpolate_decomposed_table, interpolate_relative_table, relative_bias, relative_index,
    relative_table_rows,
};

use crate::{Error, Result};
use attention::hidden_padding;
use layers::LayerNorm;
use places::RelativePlaces;

/// A vision transformer: normalised images (B, C, H, W), sides that the patch divides, to tokens
/// (B, P + L, D) or feature maps (B, D, H / patch, W / patch). `P` is the number of class and
/// register tokens, which stand in front, `L` that of patches, row major.
///
/// [`ViTConfig`] has presets, [`Backbone`](crate::checkpoint::Backbone) opens published weights and
/// says which configuration they have. Parameter names are timm's: those of [`Embedding`],
/// `blocks.{i}.*`, `norm`; `cls_norm` and `rel_pos_bias` where the configuration has them.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::{AdapterConfig, params::{ParamStore, Role}, vit::{ViT, ViTConfig}};
/// use pad_ops::{MatmulPrecision, Mode, rng::Key};
///
/// // A small ViT for images of one channel, with adapters; only these train.
/// let adapter = Some(AdapterConfig::default());
/// let config = ViTConfig { in_channels: 1, adapter, ..ViTConfig::new(16, 64, 2, 1) };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_trained(Role::is_adapter);
/// let vit = store.build(|vb| ViT::new(&config, vb))?
///     .with_checkpointing(false) // true: less memory in training, a third more time
///     .with_matmul_precision(MatmulPrecision::F32);
/// assert_eq!(store.summary().trained, 2 * config.adapter.unwrap().parameter_count(64));
///
/// // Images (B, C, H, W) of any size that the patch divides, normalised with `InputStats`.
/// let images = Tensor::zeros((2, 1, 64, 96), DType::F32, &Device::Cpu)?;
/// let tokens = vit.forward(&images, Mode::Eval)?;
/// assert_eq!(tokens.dims(), [2, 1 + 4 * 6, 64]); // class token first, then patches, row major
///
/// // Feature maps of both blocks, for a head that segments or detects.
/// let maps = vit.features(&images, &[0, 1], Mode::Eval)?;
/// assert_eq!((maps[1].data.dims(), maps[1].stride), (&[2, 64, 4, 6][..], 16));
///
/// // The adapters' scales, patch by patch: one half before training.
/// let (scales, grid) = vit.scales(&images)?;
/// assert_eq!((scales.len(), grid), (vit.config().depth, vit.grid_of(&images)?));
/// assert_eq!(scales[0].as_ref().unwrap().to_vec2::<f32>()?, [[0.5; 25]; 2]);
///
/// // Some patches alone, as masked autoencoders need them.
/// let keep = Tensor::new(&[[0_u32, 7], [3, 5]], &Device::Cpu)?;
/// let (tokens, _) = vit.embed(&images, Some(&keep))?;
/// assert_eq!(vit.encode(&tokens, Mode::Eval)?.dims(), [2, 1 + 2, 64]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ViT {
    config: ViTConfig,
    embedding: Embedding,
    /// Relative positions that all blocks share, (rows, H).
    relative: Option<Tensor>,
    blocks: Vec<Block>,
    norm: Option<LayerNorm>,
    class_norm: Option<LayerNorm>,
}

impl ViT {
    /// Builds the network from `vb`'s tensors. Without a `pos_embed` there, the table is the 2D
    /// sine-cosine one.
    ///
    /// # Errors
    /// [`Error::Config`]; errors of `vb`.
    pub fn new(config: &ViTConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let dim = config.embed_dim;
        let embedding = Embedding::new(config, FirstPositions::SinCos, vb.clone())?;
        let relative = match config.relative_bias {
            RelativeBias::Shared => {
                let shape = (relative_table_rows(config.pos_table_grid()?), config.num_heads);
                let vb = vb.pp("rel_pos_bias");
                let zeros = Init::Const(0.0);
                Some(vb.get_with_hints(shape, "relative_position_bias_table", zeros)?)
            }
            RelativeBias::None | RelativeBias::PerBlock => None,
        };
        let blocks = (0..config.depth)
            .map(|i| Block::new(config, i, vb.pp("blocks").pp(i)))
            .collect::<Result<_>>()?;
        let norm = |is_there: bool, name: &str| match is_there {
            true => LayerNorm::new(dim, config.norm_eps, vb.pp(name)).map(Some),
            false => Ok(None),
        };
        Ok(Self {
            config: *config,
            embedding,
            relative,
            blocks,
            norm: norm(config.final_norm, "norm")?,
            class_norm: norm(config.class_norm, "cls_norm")?,
        })
    }

    /// The same network with the adapters of `config` (its `adapter` and `lora`), called `name`, in
    /// place of those that it has: `adapters.{name}` stands in front of their tensors' own names.
    /// Every weight is shared with this network, so that one backbone serves several adapters, each
    /// a forward pass away. `vb` stands where this network's does.
    ///
    /// # Errors
    /// [`Error::Config`] for an invalid name, and for adapters that do not fit this
    /// network; errors of `vb`.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::{AdapterConfig, LoraConfig, params::ParamStore, vit::{ViT, ViTConfig}};
    /// use pad_ops::{ImageSize, Mode, rng::Key};
    ///
    /// let plain = ViTConfig { image_size: ImageSize::square(16), ..ViTConfig::new(8, 16, 2, 2) };
    /// let day = ViTConfig { adapter: Some(AdapterConfig::default()), ..plain };
    /// let night = ViTConfig { lora: Some(LoraConfig::default()), ..plain };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// let [by_day, by_night] = store.build(|vb| {
    ///     let vit = ViT::new(&plain, vb.clone())?;
    ///     let day = vit.with_adapters("day", &day, vb.clone())?;
    ///     Ok::<_, pad_adapter::Error>([day, vit.with_adapters("night", &night, vb)?])
    /// })?;
    /// assert_eq!(store.adapter_names(), ["day", "night"]);
    /// let image = Tensor::zeros((1, 3, 16, 16), DType::F32, &Device::Cpu)?;
    /// assert_eq!(by_day.forward(&image, Mode::Eval)?.dims(), by_night.forward(&image, Mode::Eval)?.dims());
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn with_adapters(&self, name: &str, config: &ViTConfig, vb: VarBuilder) -> Result<Self> {
        let config = ViTConfig { adapter: config.adapter, lora: config.lora, ..self.config };
        config.validate()?;
        let blocks = self.blocks.iter().enumerate();
        let blocks = blocks
            .map(|(i, block)| block.with_adapters(name, &config, vb.pp("blocks").pp(i)))
            .collect::<Result<_>>()?;
        Ok(Self { config, blocks, ..self.clone() })
    }

    /// Sets activation checkpointing: blocks keep their input alone for the backward and compute
    /// the rest again; attention with relative biases keeps what it needs. It has no effect on
    /// results. Default: off.
    #[must_use]
    pub fn with_checkpointing(mut self, checkpointing: bool) -> Self {
        let blocks = self.blocks.into_iter();
        self.blocks = blocks.map(|block| block.with_checkpointing(checkpointing)).collect();
        self
    }

    /// Sets the precision of the blocks' matrix products; attention with relative biases stays in
    /// `f32`. Default: `f32`.
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
        self.embedding.grid_of(images)
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
        self.embedding.patches(images, keep)
    }

    /// Where the patches of `grid`, or those of them that are in `keep`, lie for the blocks: needed
    /// by networks with rotary positions or relative biases, the default for all others.
    ///
    /// # Shapes
    /// `keep` (B, K) `u32`, as for [`ViT::embed`].
    ///
    /// # Errors
    /// An index beyond the grid; [`Error::Config`] for parts of a grid in a network with relative
    /// biases.
    pub fn places(&self, grid: PatchGrid, keep: Option<&Tensor>) -> Result<Places> {
        let config = &self.config;
        let device = self.embedding.device();
        let rope = match config.rope {
            Some(rope) => {
                let head = config.embed_dim / config.num_heads;
                let tables = rope.tables([grid.height, grid.width], head, device)?;
                Some(match keep {
                    Some(keep) => tables.at(keep)?,
                    None => tables,
                })
            }
            None => None,
        };
        if config.relative_bias == RelativeBias::None {
            return Ok(Places::rotary(rope));
        }
        if keep.is_some() {
            let fault = "`relative_bias` takes all patches of an image, expected none left out";
            return Err(Error::Config { what: "vit", faults: vec![fault.into()] });
        }
        let relative = RelativePlaces {
            from: config.pos_table_grid()?,
            to: grid,
            resize: config.relative_resize,
            index: relative_index(grid, grid, config.class_token, device)?,
        };
        Ok(match &self.relative {
            Some(table) => Places { rope, bias: Some(relative.bias(table)?), relative: None },
            None => Places { rope, bias: None, relative: Some(relative) },
        })
    }

    /// Tokens of lists of patches, padded to one length, each with a grid of its own (SigLIP 2
    /// NaFlex), and their places: padding is hidden from attention, and what comes out there means
    /// nothing.
    ///
    /// # Shapes
    /// `values` (B, N, p p C), pixel major, channel last; `grids` B of them; result (B, N, D), for
    /// [`ViT::encode_at`].
    ///
    /// # Errors
    /// [`Error::ImageShape`] for lists that do not fit the grids; [`Error::Config`] for a network
    /// with relative biases.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::{params::ParamStore, vit::{PatchGrid, ViT, ViTConfig}};
    /// use pad_ops::{Mode, rng::Key};
    /// let config = ViTConfig::new(4, 16, 1, 2);
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// let vit = store.build(|vb| ViT::new(&config, vb))?;
    /// // Images of 2 x 3 and 1 x 4 patches in one batch; two patches of the second are padding.
    /// let values = Tensor::zeros((2, 6, 4 * 4 * 3), DType::F32, &Device::Cpu)?;
    /// let grids = [PatchGrid::new(2, 3), PatchGrid::new(1, 4)];
    /// let (tokens, places) = vit.embed_lists(&values, &grids)?;
    /// assert_eq!(vit.encode_at(&tokens, &places, Mode::Eval)?.dims(), [2, 1 + 6, 16]);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn embed_lists(&self, values: &Tensor, grids: &[PatchGrid]) -> Result<(Tensor, Places)> {
        let config = &self.config;
        if config.relative_bias != RelativeBias::None {
            let fault = "`relative_bias` takes whole images, expected none for lists of patches";
            return Err(Error::Config { what: "vit", faults: vec![fault.into()] });
        }
        let tokens = self.embedding.patch_lists(values, grids)?;
        let (_, count, _) = tokens.dims3()?;
        let prefix = config.prefix().len();
        let own: Vec<usize> = grids.iter().map(|grid| prefix + grid.len()).collect();
        let (device, dtype) = (tokens.device(), tokens.dtype());
        let bias = Some(hidden_padding(&own, prefix + count, device, dtype)?);
        let rope = match config.rope {
            Some(rope) => {
                let head = config.embed_dim / config.num_heads;
                let (mut sin, mut cos, mut pairs) = (Vec::new(), Vec::new(), rope.pairs);
                for grid in grids {
                    let tables = rope.tables([grid.height, grid.width], head, device)?;
                    let pad = |table: &Tensor| table.pad_with_zeros(0, 0, count - grid.len());
                    sin.push(pad(&tables.sin)?);
                    cos.push(pad(&tables.cos)?);
                    pairs = tables.pairs;
                }
                Some(RopeTables {
                    sin: Tensor::stack(&sin, 0)?,
                    cos: Tensor::stack(&cos, 0)?,
                    pairs,
                })
            }
            None => None,
        };
        Ok((tokens, Places { rope, bias, relative: None }))
    }

    /// [`ViT::encode_at`] of a network whose attention does not depend on places.
    ///
    /// # Shapes
    /// `tokens` (B, N, D) from [`ViT::embed`], any subset of patches; result (B, P + N, D).
    ///
    /// # Errors
    /// Tokens that do not fit; [`Error::Config`] for a network with rotary positions or relative
    /// biases.
    pub fn encode(&self, tokens: &Tensor, mode: Mode) -> Result<Tensor> {
        self.encode_at(tokens, &self.no_places()?, mode)
    }

    /// Runs the blocks and the final norm on tokens at `places`, class and register tokens
    /// prepended.
    ///
    /// # Shapes
    /// `tokens` (B, N, D) from [`ViT::embed`], any subset of patches; result (B, P + N, D), `P` the
    /// tokens of [`ViTConfig::prefix`].
    ///
    /// # Errors
    /// Tokens or places that do not fit.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::{params::ParamStore, vit::{ViT, ViTConfig}};
    /// use pad_ops::{AxialRope, Mode, rng::Key};
    /// // Rotary positions: the blocks must know where the tokens lie.
    /// let config = ViTConfig { rope: Some(AxialRope::dinov3()), ..ViTConfig::new(16, 16, 2, 2) };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// let vit = store.build(|vb| ViT::new(&config, vb))?;
    /// let images = Tensor::zeros((1, 3, 32, 48), DType::F32, &Device::Cpu)?;
    /// let keep = Tensor::new(&[[1_u32, 4]], &Device::Cpu)?;
    /// let (tokens, grid) = vit.embed(&images, Some(&keep))?;
    /// let places = vit.places(grid, Some(&keep))?;
    /// assert_eq!(vit.encode_at(&tokens, &places, Mode::Eval)?.dims(), [1, 1 + 2, 16]);
    /// let error = vit.encode(&tokens, Mode::Eval).unwrap_err().to_string();
    /// assert_eq!(error, "vit: attention depends on places, expected them from `ViT::places`");
    /// // The attention of the last block beside it, for pictures.
    /// let (_, attention) = vit.encode_with_attention(&tokens, &places, Mode::Eval)?;
    /// assert_eq!(attention.dims(), [1, 3, 3]);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn encode_at(&self, tokens: &Tensor, places: &Places, mode: Mode) -> Result<Tensor> {
        self.normed(&self.run_blocks_at(tokens, places, mode, |_, _| Ok(()))?)
    }

    /// The places of a network that needs none.
    fn no_places(&self) -> Result<Places> {
        if self.config.rope.is_none() && self.config.relative_bias == RelativeBias::None {
            return Ok(Places::default());
        }
        let fault = "attention depends on places, expected them from `ViT::places`";
        Err(Error::Config { what: "vit", faults: vec![fault.into()] })
    }

    /// The final norm, or norms.
    fn normed(&self, x: &Tensor) -> Result<Tensor> {
        let Some(norm) = &self.norm else { return Ok(x.clone()) };
        let Some(class_norm) = &self.class_norm else { return norm.forward(x) };
        let prefix = self.config.prefix();
        let front = x.narrow(1, 0, prefix.len())?.contiguous()?;
        let patches = norm.forward(&prefix.patches(x)?)?;
        Ok(Tensor::cat(&[&class_norm.forward(&front)?, &patches], 1)?)
    }

    /// [`ViT::run_blocks_at`] of a network whose attention does not depend on places.
    ///
    /// # Errors
    /// As [`ViT::encode`]; errors of `after`.
    pub fn run_blocks(
        &self,
        tokens: &Tensor,
        mode: Mode,
        after: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        self.run_blocks_at(tokens, &self.no_places()?, mode, after)
    }

    /// Like [`ViT::encode_at`] but without the final norm; `after(i, x)` sees every block's output
    /// (B, P + N, D).
    ///
    /// # Errors
    /// Tokens or places that do not fit; errors of `after`.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::{params::ParamStore, vit::{ViT, ViTConfig}};
    /// use pad_ops::{Mode, rng::Key};
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// let vit = store.build(|vb| ViT::new(&ViTConfig::new(16, 8, 3, 2), vb))?;
    /// let images = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
    /// let (tokens, grid) = vit.embed(&images, None)?;
    /// let mut seen = Vec::new();
    /// let last = vit.run_blocks(&tokens, Mode::Eval, |block, x| {
    ///     seen.push((block, x.dim(1)?));
    ///     Ok(())
    /// })?;
    /// assert_eq!(seen, [(0, 5), (1, 5), (2, 5)]); // class token and four patches
    /// let places = vit.places(grid, None)?;
    /// let same = vit.run_blocks_at(&tokens, &places, Mode::Eval, |_, _| Ok(()))?;
    /// assert_eq!(same.to_vec3::<f32>()?, last.to_vec3::<f32>()?);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn run_blocks_at(
        &self,
        tokens: &Tensor,
        places: &Places,
        mode: Mode,
        mut after: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let mut x = self.embedding.with_prefix(tokens)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward_at(&x, places, mode)?;
            after(i, &x)?;
        }
        Ok(x)
    }

    /// All tokens of whole images after the final norm: class token, registers, patches.
    ///
    /// # Shapes
    /// `images` (B, C, H, W) -> (B, P + L, D), `P` the tokens of [`ViTConfig::prefix`].
    ///
    /// # Errors
    /// [`Error::ImageShape`].
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let (tokens, grid) = self.embed(images, None)?;
        self.encode_at(&tokens, &self.places(grid, None)?, mode)
    }
}
