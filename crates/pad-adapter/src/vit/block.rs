//! One transformer block, with or without an adapter: pre-training, segmentation and detection
//! share it.

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_ops::{AttentionBias, AttentionWeights, Keep, MatmulPrecision, MlpWeights, Mode};

use super::{
    Activation, ViTConfig,
    layers::{LayerNorm, Linear, xavier_uniform},
};
use crate::{Adapter, Result};

/// Multi-head self-attention: `qkv`, heads, `proj`.
#[derive(Clone, Debug)]
pub struct Attention {
    qkv: Linear,
    proj: Linear,
    num_heads: usize,
}

impl Attention {
    /// Builds the layer from `qkv.{weight,bias}` and `proj.{weight,bias}` of `vb`.
    ///
    /// # Errors
    /// Errors of `vb`: missing tensors or other shapes.
    pub fn new(dim: usize, num_heads: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            qkv: Linear::new(dim, 3 * dim, true, xavier_uniform(dim, 3 * dim), vb.pp("qkv"))?,
            proj: Linear::new(dim, dim, true, xavier_uniform(dim, dim), vb.pp("proj"))?,
            num_heads,
        })
    }

    /// # Shapes
    /// `x` (B, N, D) -> the same.
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let heads = pad_ops::attention_packed(&self.qkv.forward(x)?, self.num_heads)?;
        self.proj.forward(&heads)
    }

    /// [`Attention::forward`] with a bias on the logits, which may come from the packed queries,
    /// keys and values (B, N, 3 D) that it is given.
    ///
    /// # Shapes
    /// `x` (B, N, D) -> the same.
    ///
    /// # Errors
    /// An `x` or a bias that does not fit; errors of `bias`.
    pub fn forward_biased(
        &self,
        x: &Tensor,
        bias: impl FnOnce(&Tensor) -> Result<AttentionBias>,
    ) -> Result<Tensor> {
        let qkv = self.qkv.forward(x)?;
        let bias = bias(&qkv)?;
        self.proj.forward(&pad_ops::attention_packed_biased(&qkv, self.num_heads, &bias)?)
    }

    /// The attention weights, the mean over the heads; rows sum to 1.
    ///
    /// # Shapes
    /// `x` (B, N, D), normalised -> (B, N, N): row `i` has the weights of query `i`.
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn map(&self, x: &Tensor) -> Result<Tensor> {
        let (b, n, dim) = x.dims3()?;
        let (qkv, width) = (self.qkv.forward(x)?, dim / self.num_heads);
        let part = |i: usize| -> Result<Tensor> {
            let part = qkv.narrow(2, i * dim, dim)?.reshape((b, n, self.num_heads, width))?;
            Ok(part.transpose(1, 2)?.contiguous()?)
        };
        let queries = (part(0)? * (width as f64).powf(-0.5))?;
        let logits = queries.matmul(&part(1)?.transpose(2, 3)?.contiguous()?)?;
        Ok(pad_ops::softmax(&logits)?.mean(1)?)
    }

    /// Number of heads.
    pub fn num_heads(&self) -> usize {
        self.num_heads
    }
}

/// `fc2(GELU(fc1(x)))`, or another activation between.
#[derive(Clone, Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl Mlp {
    /// Builds the layers from `fc1.{weight,bias}` and `fc2.{weight,bias}` of `vb`.
    ///
    /// # Errors
    /// Errors of `vb`: missing tensors or other shapes.
    pub fn new(dim: usize, hidden: usize, vb: VarBuilder) -> Result<Self> {
        Self::with_activation(dim, hidden, Activation::Gelu, vb)
    }

    /// [`Mlp::new`] with another activation. `fc1` is twice as wide for [`Activation::SwiGlu`].
    ///
    /// # Errors
    /// Errors of `vb`: missing tensors or other shapes.
    pub fn with_activation(
        dim: usize,
        hidden: usize,
        activation: Activation,
        vb: VarBuilder,
    ) -> Result<Self> {
        let wide = if activation == Activation::SwiGlu { 2 * hidden } else { hidden };
        Ok(Self {
            fc1: Linear::new(dim, wide, true, xavier_uniform(dim, wide), vb.pp("fc1"))?,
            fc2: Linear::new(hidden, dim, true, xavier_uniform(hidden, dim), vb.pp("fc2"))?,
            activation,
        })
    }

    /// # Shapes
    /// `x` (.., D) -> the same.
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.fc2.forward(&super::activation::apply(self.activation, &self.fc1.forward(x)?)?)
    }
}

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

    /// Whether it is the identity in `mode`.
    fn is_plain(&self, mode: Mode) -> bool {
        self.gamma.is_none() && (self.drop_path == 0.0 || mode == Mode::Eval)
    }

    fn forward(&self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let x = match &self.gamma {
            Some(gamma) => x.broadcast_mul(gamma)?,
            None => x,
        };
        Ok(pad_ops::drop_path(&x, self.drop_path, mode)?)
    }
}

/// A pre-norm block: `x = x + branch1(Attention(LN(x)))`, then `x + s A(x) + branch2(MLP(LN(x)))`.
///
/// The adapter looks at the MLP's output before layer scale and drop path, and its own part is
/// neither scaled nor dropped, as downstream in the original.
#[derive(Clone, Debug)]
pub struct Block {
    norm1: LayerNorm,
    attn: Attention,
    branch1: Branch,
    norm2: LayerNorm,
    mlp: Mlp,
    branch2: Branch,
    adapter: Option<Adapter>,
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
        let adapter = match &config.adapter {
            Some(adapter) => Some(Adapter::new(dim, &adapter.at(index, config.depth), vb.clone())?),
            None => None,
        };
        Ok(Self {
            norm1: LayerNorm::new(dim, eps, vb.pp("norm1"))?,
            attn: Attention::new(dim, config.num_heads, vb.pp("attn"))?,
            branch1: Branch::new(config, drop_path, vb.pp("ls1"))?,
            norm2: LayerNorm::new(dim, eps, vb.pp("norm2"))?,
            mlp: Mlp::with_activation(dim, config.hidden_dim(), config.activation, vb.pp("mlp"))?,
            branch2: Branch::new(config, drop_path, vb.pp("ls2"))?,
            adapter,
            index,
            keep: Keep::default(),
            precision: MatmulPrecision::default(),
        })
    }

    /// Sets activation checkpointing: the block keeps its input alone for the backward and computes
    /// the rest again. It has no effect on results. Default: off.
    #[must_use]
    pub fn with_checkpointing(self, checkpointing: bool) -> Self {
        let keep = if checkpointing { Keep::Nothing } else { Keep::Activations };
        Self { keep, ..self }
    }

    /// Sets the precision of the linear layers' matrix products. Default: `f32`. Blocks with layer
    /// scale, drop path in training, another attention or another activation stay in `f32`.
    #[must_use]
    pub fn with_matmul_precision(self, precision: MatmulPrecision) -> Self {
        Self { precision, ..self }
    }

    /// # Shapes
    /// `x` (B, N, D) -> the same.
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.tail(&self.attend(x, mode)?, mode)
    }

    /// [`Block::forward`] with another way to attend: windows, relative positions. `attend` gets
    /// this block's attention and the normalised tokens.
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
        attend: impl FnOnce(&Attention, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let attention = attend(&self.attn, &self.norm1.forward(x)?)?;
        let branch = self.branch1.forward(attention, self.mode_of_attention(mode))?;
        self.tail(&(x + branch)?, mode)
    }

    /// The first half, `x + branch1(Attention(LN(x)))`.
    ///
    /// # Shapes
    /// `x` (B, N, D) -> the same.
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn attend(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let mode = self.mode_of_attention(mode);
        if self.branch1.is_plain(mode) {
            let weights = AttentionWeights {
                norm: self.norm1.weights(),
                qkv: self.attn.qkv.weights(),
                proj: self.attn.proj.weights(),
                num_heads: self.attn.num_heads,
                precision: self.precision,
            };
            return Ok(pad_ops::attention_branch(x, &weights, self.keep)?);
        }
        let attention = self.attn.forward(&self.norm1.forward(x)?)?;
        Ok((x + self.branch1.forward(attention, mode)?)?)
    }

    /// The attention weights of this block, the mean over the heads ([`Attention::map`] of the
    /// normalised tokens).
    ///
    /// # Shapes
    /// `x` (B, N, D), the block's input -> (B, N, N), rows that sum to 1.
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn attention_map(&self, x: &Tensor) -> Result<Tensor> {
        self.attn.map(&self.norm1.forward(x)?)
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
        if self.branch2.is_plain(mode) && self.mlp.activation == Activation::Gelu {
            let weights = MlpWeights {
                norm: self.norm2.weights(),
                fc1: self.mlp.fc1.weights(),
                fc2: self.mlp.fc2.weights(),
                adapter: self.adapter.as_ref().map(Adapter::weights),
                precision: self.precision,
            };
            return Ok(pad_ops::mlp_branch(x, &weights, mode, self.keep)?);
        }
        let mlp = self.mlp.forward(&self.norm2.forward(x)?)?;
        let tail = (x + self.branch2.forward(mlp.clone(), mode)?)?;
        match &self.adapter {
            Some(adapter) => Ok((tail + adapter.delta(x, &mlp, mode)?)?),
            None => Ok(tail),
        }
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
    /// An `x` that does not fit.
    pub fn scales(&self, x: &Tensor) -> Result<Option<Tensor>> {
        match &self.adapter {
            Some(adapter) => {
                let x = self.attend(x, Mode::Eval)?;
                let mlp = self.mlp.forward(&self.norm2.forward(&x)?)?;
                adapter.scales(&x, &mlp)
            }
            None => Ok(None),
        }
    }
}
