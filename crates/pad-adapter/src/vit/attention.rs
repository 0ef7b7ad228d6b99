//! Multi-head self-attention of a block.

use candle_core::{DType, Module, Tensor};
use candle_nn::{Init, VarBuilder};
use pad_ops::{AttentionBias, AttentionWeights, LinearWeights, Mode, NormWeights, ResidualWeights};

use super::{
    Places, QkvBias, RelativeBias, ViTConfig,
    layers::{LayerNorm, Linear, xavier_uniform},
    relative,
};
use crate::{
    Error, LoraConfig, Result,
    lora::{LoraTarget, LowRank},
};

/// The biases of queries and values, where keys have none.
#[derive(Clone, Debug)]
struct QueryValue {
    query: Tensor,
    value: Tensor,
    /// All three, keys' zeros between, if neither trains.
    joined: Option<Tensor>,
}

impl QueryValue {
    fn new(dim: usize, vb: &VarBuilder) -> Result<Self> {
        let of = |name: &str| vb.get_with_hints(dim, name, Init::Const(0.0));
        let (query, value) = (of("q_bias")?, of("v_bias")?);
        let joined = match query.track_op() || value.track_op() {
            true => None,
            false => Some(join(&query, &value)?),
        };
        Ok(Self { query, value, joined })
    }

    /// (3 D).
    fn joined(&self) -> Result<Tensor> {
        match &self.joined {
            Some(joined) => Ok(joined.clone()),
            None => join(&self.query, &self.value),
        }
    }
}

fn join(query: &Tensor, value: &Tensor) -> Result<Tensor> {
    let keys = query.zeros_like()?.detach();
    Ok(Tensor::cat(&[query, &keys, value], 0)?)
}

/// Multi-head self-attention: `qkv`, heads, `proj`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_adapter::vit::{Attention, Places};
/// use pad_ops::{AttentionBias, Mode};
/// let attention = Attention::new(4, 2, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
/// let (x, places) = (Tensor::ones((1, 3, 4), DType::F32, &Device::Cpu)?, Places::default());
/// // Without weights all keys look alike, and each query attends to all three equally.
/// let map = attention.map(&x, &places)?.to_vec3::<f32>()?;
/// assert!(map[0][2].iter().all(|weight| (weight - 1.0 / 3.0).abs() < 1e-6));
/// assert_eq!((attention.num_heads(), attention.forward(&x, Mode::Eval)?.dims()), (2, x.dims()));
/// // At places, and with a bias on the logits of your own.
/// assert_eq!(attention.forward_at(&x, &places, Mode::Eval)?.dims(), x.dims());
/// let y = attention.forward_biased(&x, &places, Mode::Eval, |_| {
///     let hidden = Tensor::new(&[[0_f32, 0.0, f32::NEG_INFINITY]], &Device::Cpu)?;
///     Ok(AttentionBias::Keys(hidden)) // no query sees the third token
/// })?;
/// assert_eq!(y.dims(), x.dims());
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Attention {
    qkv: Linear,
    query_value: Option<QueryValue>,
    inner_norm: Option<LayerNorm>,
    proj: Linear,
    num_heads: usize,
    /// BEiT's biases, (rows, H).
    relative: Option<Tensor>,
}

impl Attention {
    /// Builds the layer from `qkv.{weight,bias}` and `proj.{weight,bias}` of `vb`.
    ///
    /// # Errors
    /// Errors of `vb`: missing tensors or other shapes.
    pub fn new(dim: usize, num_heads: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            qkv: Linear::new(dim, 3 * dim, true, xavier_uniform(dim, 3 * dim), vb.pp("qkv"))?,
            query_value: None,
            inner_norm: None,
            proj: Linear::new(dim, dim, true, xavier_uniform(dim, dim), vb.pp("proj"))?,
            num_heads,
            relative: None,
        })
    }

    /// The attention of a block that `config` describes; `block` stands at the block.
    pub(super) fn of_block(config: &ViTConfig, block: &VarBuilder) -> Result<Self> {
        let (dim, heads, vb) = (config.embed_dim, config.num_heads, block.pp("attn"));
        let has_bias = config.qkv_bias == QkvBias::All;
        Ok(Self {
            qkv: Linear::new(dim, 3 * dim, has_bias, xavier_uniform(dim, 3 * dim), vb.pp("qkv"))?,
            query_value: match config.qkv_bias {
                QkvBias::QueryValue => Some(QueryValue::new(dim, &vb)?),
                QkvBias::All | QkvBias::None => None,
            },
            inner_norm: match config.attention_norm {
                true => Some(LayerNorm::new(dim, config.norm_eps, vb.pp("norm"))?),
                false => None,
            },
            proj: Linear::new(dim, dim, true, xavier_uniform(dim, dim), vb.pp("proj"))?,
            num_heads: heads,
            relative: match config.relative_bias {
                RelativeBias::PerBlock => {
                    let rows = relative::relative_table_rows(config.pos_table_grid()?);
                    let name = "relative_position_bias_table";
                    Some(vb.get_with_hints((rows, heads), name, Init::Const(0.0))?)
                }
                RelativeBias::None | RelativeBias::Shared => None,
            },
        })
    }

    /// The same attention with the low-rank adapters called `name` of `lora`; `block` stands at the
    /// block.
    pub(super) fn with_low_rank(
        self,
        lora: Option<&LoraConfig>,
        name: &str,
        block: &VarBuilder,
    ) -> Result<Self> {
        let low_rank = |targets: &[LoraTarget], layer: &Linear| match lora {
            Some(lora) => LowRank::new(lora, targets, layer.shape()?, (name, block)),
            None => Ok(None),
        };
        let parts = [LoraTarget::Qkv, LoraTarget::Query, LoraTarget::Key, LoraTarget::Value];
        let (qkv, proj) =
            (low_rank(&parts, &self.qkv)?, low_rank(&[LoraTarget::Proj], &self.proj)?);
        Ok(Self { qkv: self.qkv.with_low_rank(qkv), proj: self.proj.with_low_rank(proj), ..self })
    }

    fn qkv_weights(&self, mode: Mode) -> Result<LinearWeights> {
        match &self.query_value {
            Some(biases) => self.qkv.adapted(Some(&biases.joined()?), mode),
            None => self.qkv.adapted(None, mode),
        }
    }

    /// Queries, keys and values, packed, before any rotation.
    ///
    /// # Shapes
    /// `x` (B, N, D) -> (B, N, 3 D).
    ///
    /// # Errors
    /// An `x` that does not fit.
    fn packed(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(pad_ops::linear_with(x, &self.qkv_weights(mode)?)?)
    }

    /// The weights of the fused branch.
    pub(super) fn weights(
        &self,
        norm: NormWeights,
        places: &Places,
        residual: ResidualWeights,
        mode: Mode,
    ) -> Result<AttentionWeights> {
        let (qkv, proj) = (self.qkv_weights(mode)?, self.proj.adapted(None, mode)?);
        Ok(AttentionWeights {
            rope: places.rope.clone(),
            inner_norm: self.inner_norm.as_ref().map(LayerNorm::weights),
            residual,
            ..AttentionWeights::new(norm, qkv, proj, self.num_heads)
        })
    }

    /// Attention that does not depend on places.
    ///
    /// # Shapes
    /// `x` (B, N, D) -> the same.
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward_at(x, &Places::default(), mode)
    }

    /// [`Attention::forward`] of tokens at `places`.
    ///
    /// # Shapes
    /// `x` (B, N, D) -> the same.
    ///
    /// # Errors
    /// An `x` or places that do not fit.
    pub fn forward_at(&self, x: &Tensor, places: &Places, mode: Mode) -> Result<Tensor> {
        let bias = self.bias(places)?;
        let qkv = self.rotated(&self.packed(x, mode)?, places)?;
        let heads = match &bias {
            Some(bias) => pad_ops::attention_packed_biased(&qkv, self.num_heads, bias)?,
            None => pad_ops::attention_packed(&qkv, self.num_heads)?,
        };
        self.project(&heads, mode)
    }

    /// [`Attention::forward_at`] with a bias on the logits, which may come from the packed queries,
    /// keys and values (B, N, 3 D), before any rotation, that it is given.
    ///
    /// # Shapes
    /// `x` (B, N, D) -> the same.
    ///
    /// # Errors
    /// An `x` or a bias that does not fit; errors of `bias`.
    pub fn forward_biased(
        &self,
        x: &Tensor,
        places: &Places,
        mode: Mode,
        bias: impl FnOnce(&Tensor) -> Result<AttentionBias>,
    ) -> Result<Tensor> {
        let qkv = self.packed(x, mode)?;
        let bias = bias(&qkv)?;
        let qkv = self.rotated(&qkv, places)?;
        self.project(&pad_ops::attention_packed_biased(&qkv, self.num_heads, &bias)?, mode)
    }

    fn rotated(&self, qkv: &Tensor, places: &Places) -> Result<Tensor> {
        match &places.rope {
            Some(tables) => Ok(pad_ops::rope_packed(qkv, self.num_heads, tables)?),
            None => Ok(qkv.clone()),
        }
    }

    fn project(&self, heads: &Tensor, mode: Mode) -> Result<Tensor> {
        match &self.inner_norm {
            Some(norm) => self.proj.forward_in(&norm.forward(heads)?, None, mode),
            None => self.proj.forward_in(heads, None, mode),
        }
    }

    /// The bias of the logits at `places`.
    fn bias(&self, places: &Places) -> Result<Option<AttentionBias>> {
        match (&self.relative, &places.relative) {
            (Some(table), Some(places)) => Ok(Some(places.bias(table)?)),
            (None, _) => Ok(places.bias.clone()),
            (Some(_), None) => Err(Error::Config {
                what: "attention",
                faults: vec![
                    "relative position biases without places, expected those of a whole grid"
                        .into(),
                ],
            }),
        }
    }

    /// The attention weights, the mean over the heads; rows sum to 1.
    ///
    /// # Shapes
    /// `x` (B, N, D), normalised -> (B, N, N): row `i` has the weights of query `i`.
    ///
    /// # Errors
    /// An `x` or places that do not fit.
    pub fn map(&self, x: &Tensor, places: &Places) -> Result<Tensor> {
        let (b, n, dim) = x.dims3()?;
        let width = dim / self.num_heads;
        let qkv = self.rotated(&self.packed(x, Mode::Eval)?, places)?;
        let part = |i: usize| -> Result<Tensor> {
            let part = qkv.narrow(2, i * dim, dim)?.reshape((b, n, self.num_heads, width))?;
            Ok(part.transpose(1, 2)?.contiguous()?)
        };
        let queries = (part(0)? * (width as f64).powf(-0.5))?;
        let logits = queries.matmul(&part(1)?.transpose(2, 3)?.contiguous()?)?;
        let logits = match self.bias(places)? {
            Some(AttentionBias::PerHead(bias)) => {
                logits.broadcast_add(&bias.unsqueeze(0)?.to_dtype(logits.dtype())?)?
            }
            Some(AttentionBias::Keys(bias)) => {
                let bias = bias.unsqueeze(1)?.unsqueeze(1)?;
                logits.broadcast_add(&bias.to_dtype(logits.dtype())?)?
            }
            Some(AttentionBias::Decomposed { .. }) | None => logits,
        };
        Ok(pad_ops::softmax(&logits)?.mean(1)?)
    }

    /// Whether it has a table of relative positions.
    pub(super) fn has_table(&self) -> bool {
        self.relative.is_some()
    }

    /// Number of heads.
    pub fn num_heads(&self) -> usize {
        self.num_heads
    }
}

/// For code that takes any candle module; attention that depends on places returns an error.
impl Module for Attention {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.forward(x, Mode::Eval)?)
    }
}

/// What hides the padding behind each image's own tokens: 0 for those, minus infinity for the rest.
///
/// # Shapes
/// (B, `count`), `f32`, `counts` a number for each image.
pub(super) fn hidden_padding(
    counts: &[usize],
    count: usize,
    device: &candle_core::Device,
    dtype: DType,
) -> Result<AttentionBias> {
    let row = |&own: &usize| (0..count).map(move |i| if i < own { 0.0 } else { f32::NEG_INFINITY });
    let values: Vec<f32> = counts.iter().flat_map(row).collect();
    let keys = Tensor::from_vec(values, (counts.len(), count), device)?;
    Ok(AttentionBias::Keys(keys.to_dtype(dtype)?))
}
