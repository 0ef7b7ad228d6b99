//! One transformer block, with or without an adapter: pre-training, segmentation and detection
//! share it.

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_ops::{AttentionWeights, Keep, MatmulPrecision, MlpWeights, Mode, ResidualWeights};

use super::{Attention, Mlp, Places, ViTConfig, layers::LayerNorm};
use crate::{Adapter, AdapterConfig, AdapterPlacement, Result, params::DEFAULT_ADAPTER};

/// Layer scale, then drop path, of a residual branch.
#[derive(Clone, Debug)]
struct Branch {
    gamma: Option<Tensor>,
    drop_path: f64,
}

impl Branch {
    fn new(config: &ViTConfig, drop_path: f64, vb: VarBuilder) -> Result<Self> {
        let gamma = match config.layer_scale {
            Some(init) => Some(vb.get_with_hints(config.embed_dim, "gamma", Init::Const(init))?),
            None => None,
        };
        Ok(Self { gamma, drop_path })
    }

    /// The same for the fused branches on `x` (B, ..); neither where the branch's result is wanted
    /// `alone`.
    fn weights(&self, x: &Tensor, mode: Mode, alone: bool) -> Result<ResidualWeights> {
        if alone {
            return Ok(ResidualWeights::default());
        }
        let factors = pad_ops::drop_path_factors(x, self.drop_path, mode)?;
        Ok(ResidualWeights { gamma: self.gamma.clone(), factors })
    }

    fn forward(&self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let x = match &self.gamma {
            Some(gamma) => x.broadcast_mul(gamma)?,
            None => x,
        };
        Ok(pad_ops::drop_path(&x, self.drop_path, mode)?)
    }
}

/// `h + s A(h)` of a branch's output `h`; `h` without an adapter.
fn behind(adapter: Option<&Adapter>, branch: Tensor, mode: Mode) -> Result<Tensor> {
    match adapter {
        Some(adapter) => Ok((&branch + adapter.delta(&branch, &branch, mode)?)?),
        None => Ok(branch),
    }
}

/// A pre-norm block: `x = x + branch1(Attention(LN(x)))`, then `x + s A(x) + branch2(MLP(LN(x)))`.
///
/// The adapter looks at the MLP's output before layer scale and drop path, and its own part is
/// neither scaled nor dropped, as downstream in the original. Adapters behind a branch
/// ([`AdapterPlacement`](crate::AdapterPlacement)) are part of it: `x + branch(h + s A(h))`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::{AdapterConfig, params::ParamStore, vit::{Block, Places, ViTConfig}};
/// use pad_ops::{MatmulPrecision, Mode, rng::Key};
/// let adapter = Some(AdapterConfig::default());
/// let config = ViTConfig { adapter, ..ViTConfig::new(16, 8, 2, 2) };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// let block = store.build(|vb| Block::new(&config, 0, vb.pp("blocks.0")))?;
/// let (x, places) = (Tensor::ones((1, 3, 8), DType::F32, &Device::Cpu)?, Places::default());
///
/// // Two halves make the whole.
/// let values = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
/// let half = block.attend(&x, Mode::Eval)?;
/// let y = block.forward(&x, Mode::Eval)?;
/// assert_eq!(values(&block.tail(&half, Mode::Eval)?)?, values(&y)?);
/// assert_eq!(values(&block.attend_at(&x, &places, Mode::Eval)?)?, values(&half)?);
/// // An attention of your own, around that of the block: windows, for example.
/// let same = block.forward_with(&x, Mode::Eval, |attention, normed, mode| attention.forward(normed, mode))?;
/// let off = (same - &y)?.abs()?.max_all()?.to_scalar::<f32>()?;
/// assert!(off < 1e-5);
///
/// // For pictures: the gate of a fresh adapter is half open; a query's weights sum to 1.
/// let scales = block.scales(&x, &places)?.unwrap();
/// assert_eq!(scales.to_vec2::<f32>()?, [[0.5; 3]]);
/// let sums = values(&block.attention_map(&x, &places)?.sum(2)?)?;
/// assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-6));
///
/// // Less memory in training, the same numbers.
/// let lean = block.with_checkpointing(true).with_matmul_precision(MatmulPrecision::F32);
/// assert_eq!(values(&lean.forward_at(&x, &places, Mode::Eval)?)?, values(&y)?);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Block {
    norm1: LayerNorm,
    attn: Attention,
    branch1: Branch,
    norm2: LayerNorm,
    mlp: Mlp,
    branch2: Branch,
    adapter: Option<Adapter>,
    /// Behind the attention.
    attention_adapter: Option<Adapter>,
    index: usize,
    keep: Keep,
    precision: MatmulPrecision,
}

impl Block {
    /// Block `index` of the network that `config` describes; `vb` stands at the block.
    ///
    /// # Errors
    /// Errors of `vb`: missing tensors or other shapes.
    pub fn new(config: &ViTConfig, index: usize, vb: VarBuilder) -> Result<Self> {
        let (dim, eps) = (config.embed_dim, config.norm_eps);
        let drop_path =
            config.drop_path * index as f64 / config.depth.saturating_sub(1).max(1) as f64;
        let plain = Self {
            norm1: LayerNorm::new(dim, eps, vb.pp("norm1"))?,
            attn: Attention::of_block(config, &vb)?,
            branch1: Branch::new(config, drop_path, vb.pp("ls1"))?,
            norm2: LayerNorm::new(dim, eps, vb.pp("norm2"))?,
            mlp: Mlp::of_block(config, &vb)?,
            branch2: Branch::new(config, drop_path, vb.pp("ls2"))?,
            adapter: None,
            attention_adapter: None,
            index,
            keep: Keep::default(),
            precision: MatmulPrecision::default(),
        };
        plain.with_adapters(DEFAULT_ADAPTER, config, vb)
    }

    /// The same block with the adapters of `config`, called `name`, in place of those that it has;
    /// everything else is shared with this one. `vb` stands at the block.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for an invalid name; errors of `vb`.
    pub fn with_adapters(&self, name: &str, config: &ViTConfig, vb: VarBuilder) -> Result<Self> {
        let adapter = config.adapter.map(|adapter| adapter.at(self.index, config.depth));
        let behind = adapter.filter(|adapter| adapter.placement == AdapterPlacement::AfterBoth);
        let build = |adapter: Option<AdapterConfig>, vb: VarBuilder| {
            let named = |adapter| Adapter::named(name, config.embed_dim, &adapter, vb);
            adapter.map(named).transpose()
        };
        let lora = config.lora.as_ref();
        Ok(Self {
            attn: self.attn.clone().with_low_rank(lora, name, &vb)?,
            mlp: self.mlp.clone().with_low_rank(lora, name, &vb)?,
            attention_adapter: build(behind, vb.pp("attn"))?,
            adapter: build(adapter, vb)?,
            ..self.clone()
        })
    }

    /// Sets activation checkpointing: the block keeps its input alone for the backward and computes
    /// the rest again. It has no effect on results. Default: off. Attention with a bias on its
    /// logits (relative positions, padding, [`Block::forward_with`]) keeps its activations.
    #[must_use]
    pub fn with_checkpointing(self, checkpointing: bool) -> Self {
        let keep = if checkpointing { Keep::Nothing } else { Keep::Activations };
        Self { keep, ..self }
    }

    /// Sets the precision of the linear layers' matrix products. Default: `f32`. Attention with a
    /// bias on its logits (relative positions, padding, [`Block::forward_with`]) stays in `f32`.
    #[must_use]
    pub fn with_matmul_precision(self, precision: MatmulPrecision) -> Self {
        Self { precision, ..self }
    }

    /// A block whose attention does not depend on places.
    ///
    /// # Shapes
    /// `x` (B, N, D) -> the same.
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward_at(x, &Places::default(), mode)
    }

    /// The block on tokens at `places`.
    ///
    /// # Shapes
    /// `x` (B, N, D) -> the same.
    ///
    /// # Errors
    /// An `x` or places that do not fit.
    pub fn forward_at(&self, x: &Tensor, places: &Places, mode: Mode) -> Result<Tensor> {
        self.tail(&self.attend_at(x, places, mode)?, mode)
    }

    /// [`Block::forward`] with another way to attend: windows, relative positions. `attend` gets
    /// this block's attention, the normalised tokens and the mode of this pass for the attention.
    ///
    /// # Shapes
    /// `x` (B, N, D) -> the same; so must `attend`.
    ///
    /// # Errors
    /// An `x` that does not fit; errors of `attend`.
    pub fn forward_with(
        &self,
        x: &Tensor,
        mode: Mode,
        attend: impl FnOnce(&Attention, &Tensor, Mode) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let own = self.mode_of_attention(mode);
        let attention = attend(&self.attn, &self.norm1.forward(x)?, own)?;
        self.tail(&self.join_attention(x, attention, own)?, mode)
    }

    /// `x + branch1(h + s A(h))` of the attention's output `h`.
    fn join_attention(&self, x: &Tensor, attention: Tensor, mode: Mode) -> Result<Tensor> {
        let attention = behind(self.attention_adapter.as_ref(), attention, mode)?;
        Ok((x + self.branch1.forward(attention, mode)?)?)
    }

    /// The first half, `x + branch1(Attention(LN(x)))`, of a block whose attention does not depend
    /// on places.
    ///
    /// # Shapes
    /// `x` (B, N, D) -> the same.
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn attend(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.attend_at(x, &Places::default(), mode)
    }

    /// The first half on tokens at `places`.
    ///
    /// # Shapes
    /// `x` (B, N, D) -> the same.
    ///
    /// # Errors
    /// An `x` or places that do not fit.
    pub fn attend_at(&self, x: &Tensor, places: &Places, mode: Mode) -> Result<Tensor> {
        let mode = self.mode_of_attention(mode);
        if !places.is_unbiased() || self.attn.has_table() {
            let attention = self.attn.forward_at(&self.norm1.forward(x)?, places, mode)?;
            return self.join_attention(x, attention, mode);
        }
        let alone = self.attention_adapter.is_some();
        let residual = self.branch1.weights(x, mode, alone)?;
        let weights = AttentionWeights {
            precision: self.precision,
            skip: !alone,
            ..self.attn.weights(self.norm1.weights(), places, residual, mode)?
        };
        let attended = pad_ops::attention_branch(x, &weights, self.keep)?;
        if alone { self.join_attention(x, attended, mode) } else { Ok(attended) }
    }

    /// The attention weights of this block, the mean over the heads ([`Attention::map`] of the
    /// normalised tokens).
    ///
    /// # Shapes
    /// `x` (B, N, D), the block's input -> (B, N, N), rows that sum to 1.
    ///
    /// # Errors
    /// An `x` or places that do not fit.
    pub fn attention_map(&self, x: &Tensor, places: &Places) -> Result<Tensor> {
        self.attn.map(&self.norm1.forward(x)?, places)
    }

    /// The second half, `x + s A(x) + branch2(MLP(LN(x)))`: each token by itself, so any subset of
    /// them.
    ///
    /// # Shapes
    /// `x` (B, N, D) from [`Block::attend`] -> the same.
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn tail(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        // Two layer numbers a block, so that its two drop paths differ.
        let mode = mode.layer(2 * self.index as u32 + 1);
        let fused = self.adapter.as_ref().filter(|adapter| adapter.is_fused());
        let beside = self.adapter.as_ref().filter(|adapter| !adapter.is_fused());
        let alone = beside.is_some();
        let residual = self.branch2.weights(x, mode, alone)?;
        let weights = MlpWeights {
            adapter: fused.map(Adapter::weights),
            precision: self.precision,
            skip: !alone,
            ..self.mlp.weights(self.norm2.weights(), residual, mode)?
        };
        let y = pad_ops::mlp_branch(x, &weights, mode, self.keep)?;
        let Some(adapter) = beside else { return Ok(y) };
        if adapter.is_sequential() {
            return Ok((x + self.branch2.forward(behind(Some(adapter), y, mode)?, mode)?)?);
        }
        let adapted = (x + adapter.delta(x, &y, mode)?)?;
        Ok((adapted + self.branch2.forward(y, mode)?)?)
    }

    fn mode_of_attention(&self, mode: Mode) -> Mode {
        mode.layer(2 * self.index as u32)
    }

    /// The adapter's patchwise scales on input `x`; `None` without an adapter or with another
    /// scale.
    ///
    /// # Shapes
    /// `x` (B, N, D) -> (B, N).
    ///
    /// # Errors
    /// An `x` or places that do not fit.
    pub fn scales(&self, x: &Tensor, places: &Places) -> Result<Option<Tensor>> {
        match &self.adapter {
            Some(adapter) => {
                let x = self.attend_at(x, places, Mode::Eval)?;
                let mlp = self.mlp.forward(&self.norm2.forward(&x)?)?;
                let seen = if adapter.is_sequential() { &mlp } else { &x };
                adapter.scales(seen, &mlp)
            }
            None => Ok(None),
        }
    }
}
