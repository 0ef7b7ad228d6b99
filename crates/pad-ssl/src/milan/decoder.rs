//! The prompting decoder of MILAN: the encoder's tokens are fixed prompts, only masked tokens
//! are updated. Queries come from the masked tokens, keys and values from all.

use candle_core::Tensor;
use candle_nn::VarBuilder;
use pad_adapter::vit::{
    Mlp,
    layers::{LayerNorm, Linear, xavier_uniform},
};

use crate::{Mask, Result};

/// A block of the prompting decoder. Names: `norm1`, `attn.{q,kv,proj}`, `norm2`, `mlp.{fc1,fc2}`.
#[derive(Clone, Debug)]
pub(super) struct PromptedBlock {
    norm1: LayerNorm,
    q: Linear,
    kv: Linear,
    proj: Linear,
    num_heads: usize,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl PromptedBlock {
    pub(super) fn new(dim: usize, num_heads: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
        let attn = vb.pp("attn");
        let linear = |outputs: usize, name: &str| {
            Linear::new(dim, outputs, true, xavier_uniform(dim, outputs), attn.pp(name))
        };
        Ok(Self {
            norm1: LayerNorm::new(dim, eps, vb.pp("norm1"))?,
            q: linear(dim, "q")?,
            kv: linear(2 * dim, "kv")?,
            proj: linear(dim, "proj")?,
            num_heads,
            norm2: LayerNorm::new(dim, eps, vb.pp("norm2"))?,
            mlp: Mlp::new(dim, 4 * dim, vb.pp("mlp"))?,
        })
    }

    /// `masked` (B, M, D), `prompts` (B, 1 + K, D) -> (B, M, D).
    pub(super) fn forward(&self, masked: &Tensor, prompts: &Tensor) -> Result<Tensor> {
        // As in the original, the norm sees the masked tokens alone. Attention does not care for
        // the order of keys, so the tokens need not be put back into the grid's.
        let queries = self.norm1.forward(masked)?;
        let all = Tensor::cat(&[prompts, &queries], 1)?;
        let (_, _, dim) = masked.dims3()?;
        let kv = self.kv.forward(&all)?;
        let attended = pad_ops::attention(
            &self.heads(&self.q.forward(&queries)?)?,
            &self.heads(&kv.narrow(2, 0, dim)?)?,
            &self.heads(&kv.narrow(2, dim, dim)?)?,
            None,
            ((dim / self.num_heads) as f64).powf(-0.5),
        )?;
        let attended = attended.transpose(1, 2)?.contiguous()?.reshape(masked.shape())?;
        let x = (masked + self.proj.forward(&attended)?)?;
        Ok((&x + self.mlp.forward(&self.norm2.forward(&x)?)?)?)
    }

    /// (B, N, D) -> (B, H, N, D / H).
    fn heads(&self, x: &Tensor) -> Result<Tensor> {
        let (b, n, dim) = x.dims3()?;
        let split = x.contiguous()?.reshape((b, n, self.num_heads, dim / self.num_heads))?;
        Ok(split.transpose(1, 2)?.contiguous()?)
    }
}

/// Puts kept and masked tokens back into row-major order, behind the class token if there is one:
/// (B, 1 + K, D), (B, M, D) -> (B, 1 + L, D).
pub(super) fn in_grid_order(
    prompts: &Tensor,
    masked: &Tensor,
    mask: &Mask,
    class_token: bool,
) -> Result<Tensor> {
    let class = usize::from(class_token);
    let kept = prompts.dim(1)? - class;
    let shuffled = Tensor::cat(&[&prompts.narrow(1, class, kept)?, masked], 1)?;
    let patches = pad_ops::gather_tokens(&shuffled, &mask.ids_restore)?;
    match class_token {
        true => Ok(Tensor::cat(&[&prompts.narrow(1, 0, 1)?, &patches], 1)?),
        false => Ok(patches),
    }
}
