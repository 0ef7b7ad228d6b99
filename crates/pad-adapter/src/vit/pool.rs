//! From an encoder's tokens to one vector an image, the way each family was trained with.

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_ops::AttentionBias;

use super::{
    Mlp, Prefix, ViTConfig,
    layers::{LayerNorm, Linear, xavier_uniform},
};
use crate::{Error, Result};

/// How tokens become one vector.
///
/// ```
/// use pad_adapter::vit::{PoolHead, PoolKind, ViTConfig};
/// use candle_core::{DType, Device};
/// use candle_nn::VarBuilder;
/// let vb = || VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let no_class = ViTConfig { class_token: false, ..ViTConfig::new(16, 8, 1, 1) };
/// let error = PoolHead::new(PoolKind::Class, &no_class, vb()).unwrap_err().to_string();
/// assert_eq!(
///     error,
///     "pooling: the encoder has no class token, expected mean or attention"
/// );
/// let attention = PoolKind::Attention { heads: 2, hidden: 16 };
/// assert_eq!(PoolHead::new(attention, &no_class, vb())?.kind(), attention);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolKind {
    /// The class token.
    Class,
    /// The mean of the patches.
    Mean,
    /// The mean of the patches, then a norm, `fc_norm` (fine-tuned MAE, BEiT, EVA-02).
    NormedMean,
    /// A learnt query that attends to all tokens, then an MLP, `attn_pool` (SigLIP, PE).
    Attention {
        /// Heads of the query.
        heads: usize,
        /// Hidden width of the MLP.
        hidden: usize,
    },
}

/// The layers that pool tokens; names are timm's, `fc_norm.*` and `attn_pool.*`. It belongs to no
/// backbone: files that are opened as one leave it out.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_adapter::vit::{PoolHead, PoolKind, ViTConfig};
/// // A class token and two patches.
/// let tokens = Tensor::new(&[[[9_f32, 9.0], [1.0, 2.0], [3.0, 4.0]]], &Device::Cpu)?;
/// let config = ViTConfig::new(16, 2, 1, 1);
/// let head = |kind| PoolHead::new(kind, &config, VarBuilder::zeros(DType::F32, &Device::Cpu));
/// let mean = head(PoolKind::Mean)?;
/// assert_eq!(mean.forward(&tokens)?.to_vec2::<f32>()?, [[2.0, 3.0]]);
/// assert_eq!(head(PoolKind::Class)?.forward(&tokens)?.to_vec2::<f32>()?, [[9.0, 9.0]]);
/// // The second patch is padding.
/// assert_eq!(mean.forward_lists(&tokens, &[1])?.to_vec2::<f32>()?, [[1.0, 2.0]]);
/// assert_eq!(mean.kind(), PoolKind::Mean);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PoolHead {
    kind: PoolKind,
    prefix: Prefix,
    norm: Option<LayerNorm>,
    attention: Option<AttentionPool>,
}

#[derive(Clone, Debug)]
struct AttentionPool {
    latent: Tensor,
    q: Linear,
    kv: Linear,
    proj: Linear,
    norm: LayerNorm,
    mlp: Mlp,
    heads: usize,
}

impl PoolHead {
    /// Builds the layers of the encoder that `config` describes from `vb`'s tensors.
    ///
    /// # Errors
    /// [`Error::Config`] for a class token that the encoder has not, or heads that do not divide
    /// its width; errors of `vb`.
    pub fn new(kind: PoolKind, config: &ViTConfig, vb: VarBuilder) -> Result<Self> {
        let (dim, eps) = (config.embed_dim, config.norm_eps);
        let refuse = |fault: String| Err(Error::Config { what: "pooling", faults: vec![fault] });
        if kind == PoolKind::Class && !config.class_token {
            return refuse("the encoder has no class token, expected mean or attention".into());
        }
        let (mut norm, mut attention) = (None, None);
        match kind {
            PoolKind::Class | PoolKind::Mean => {}
            PoolKind::NormedMean => norm = Some(LayerNorm::new(dim, eps, vb.pp("fc_norm"))?),
            PoolKind::Attention { heads, hidden } => {
                if heads == 0 || !dim.is_multiple_of(heads) {
                    return refuse(format!("`heads` is {heads}, expected a divisor of {dim}"));
                }
                let vb = vb.pp("attn_pool");
                let linear = |outputs: usize, name: &str| {
                    Linear::new(dim, outputs, true, xavier_uniform(dim, outputs), vb.pp(name))
                };
                let normal = Init::Randn { mean: 0.0, stdev: 0.02 };
                attention = Some(AttentionPool {
                    latent: vb.get_with_hints((1, 1, dim), "latent", normal)?,
                    q: linear(dim, "q")?,
                    kv: linear(2 * dim, "kv")?,
                    proj: linear(dim, "proj")?,
                    norm: LayerNorm::new(dim, eps, vb.pp("norm"))?,
                    mlp: Mlp::with_activation(dim, hidden, config.activation, vb.pp("mlp"))?,
                    heads,
                });
            }
        }
        Ok(Self { kind, prefix: config.prefix(), norm, attention })
    }

    /// How it pools.
    pub fn kind(&self) -> PoolKind {
        self.kind
    }

    /// Pools an encoder's output.
    ///
    /// # Shapes
    /// `tokens` (B, P + N, D) -> (B, D).
    ///
    /// # Errors
    /// Tokens that do not fit.
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        self.pool(tokens, None)
    }

    /// [`PoolHead::forward`] of lists of patches with padding ([`ViT::embed_lists`]); `counts` says
    /// how many of each list are patches.
    ///
    /// [`ViT::embed_lists`]: super::ViT::embed_lists
    ///
    /// # Shapes
    /// `tokens` (B, P + N, D) -> (B, D).
    ///
    /// # Errors
    /// Tokens that do not fit; another number of counts.
    pub fn forward_lists(&self, tokens: &Tensor, counts: &[usize]) -> Result<Tensor> {
        self.pool(tokens, Some(counts))
    }

    fn pool(&self, tokens: &Tensor, counts: Option<&[usize]>) -> Result<Tensor> {
        if let Some(pool) = &self.attention {
            return pool.forward(tokens, counts, self.prefix);
        }
        if self.kind == PoolKind::Class {
            return Ok(tokens.narrow(1, 0, 1)?.squeeze(1)?);
        }
        let patches = self.prefix.patches(tokens)?;
        let mean = match counts {
            None => patches.mean(1)?,
            Some(counts) => {
                let mean = |(row, &count): (usize, &usize)| -> Result<Tensor> {
                    Ok(patches.narrow(0, row, 1)?.narrow(1, 0, count)?.mean(1)?)
                };
                let rows = counts.iter().enumerate().map(mean).collect::<Result<Vec<_>>>()?;
                Tensor::cat(&rows, 0)?
            }
        };
        match &self.norm {
            Some(norm) => norm.forward(&mean),
            None => Ok(mean),
        }
    }
}

impl AttentionPool {
    fn forward(&self, tokens: &Tensor, counts: Option<&[usize]>, prefix: Prefix) -> Result<Tensor> {
        let (b, n, dim) = tokens.dims3()?;
        let head = dim / self.heads;
        let split = |x: &Tensor, n: usize| -> Result<Tensor> {
            let x = x.contiguous()?.reshape((b, n, self.heads, head))?;
            Ok(x.transpose(1, 2)?.contiguous()?)
        };
        let query = self.q.forward(&self.latent)?.broadcast_as((b, 1, dim))?;
        let kv = self.kv.forward(tokens)?;
        let bias = match counts {
            None => None,
            Some(counts) => {
                let counts: Vec<usize> = counts.iter().map(|count| prefix.len() + count).collect();
                let (device, dtype) = (tokens.device(), tokens.dtype());
                match super::hidden_padding(&counts, n, device, dtype)? {
                    AttentionBias::Keys(keys) => Some(keys.reshape((b, 1, 1, n))?),
                    _ => None,
                }
            }
        };
        let pooled = pad_ops::attention(
            &split(&query, 1)?,
            &split(&kv.narrow(2, 0, dim)?, n)?,
            &split(&kv.narrow(2, dim, dim)?, n)?,
            bias.as_ref(),
            (head as f64).powf(-0.5),
        )?;
        let pooled = pooled.transpose(1, 2)?.contiguous()?.reshape((b, 1, dim))?;
        let pooled = self.proj.forward(&pooled)?;
        let pooled = (&pooled + self.mlp.forward(&self.norm.forward(&pooled)?)?)?;
        Ok(pooled.squeeze(1)?)
    }
}
