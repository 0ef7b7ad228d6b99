//! An encoder of all patches of an image, with a learnt token in place of the removed ones (SimMIM,
//! BEiT).

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_adapter::vit::{ViT, ViTConfig};
use pad_ops::{MatmulPrecision, Mode};

use crate::{Mask, Result};

/// A ViT and the token that stands for removed patches.
#[derive(Clone, Debug)]
pub(crate) struct MaskedEncoder {
    vit: ViT,
    mask_token: Tensor,
}

impl MaskedEncoder {
    pub(crate) fn new(config: &ViTConfig, vb: VarBuilder) -> Result<Self> {
        let normal = Init::Randn { mean: 0.0, stdev: 0.02 };
        let mask_token = vb.get_with_hints((1, 1, config.embed_dim), "mask_token", normal)?;
        Ok(Self { vit: ViT::new(config, vb)?, mask_token })
    }

    pub(crate) fn vit(&self) -> &ViT {
        &self.vit
    }

    pub(crate) fn with_checkpointing(self, checkpointing: bool) -> Self {
        Self { vit: self.vit.with_checkpointing(checkpointing), ..self }
    }

    pub(crate) fn with_matmul_precision(self, precision: MatmulPrecision) -> Self {
        Self { vit: self.vit.with_matmul_precision(precision), ..self }
    }

    /// Encodes every place: (B, C, H, W) -> (B, P + L, D), `P` the tokens in front of the patches.
    pub(crate) fn forward(&self, images: &Tensor, mask: &Mask, mode: Mode) -> Result<Tensor> {
        let (tokens, grid) = self.vit.embed(images, None)?;
        mask.expect_patches(grid.len())?;
        // A black patch embeds to the bias and its position: the token is learnt on top of both.
        let (b, _, dim) = tokens.dims3()?;
        let (empty, _) = self.vit.embed(&images.narrow(0, 0, 1)?.zeros_like()?, None)?;
        let fill = empty.broadcast_add(&self.mask_token)?.broadcast_as((b, grid.len(), dim))?;
        let kept = pad_ops::gather_tokens(&tokens, &mask.ids_keep)?;
        let fill = pad_ops::gather_tokens(&fill.contiguous()?, &mask.ids_removed)?;
        let shuffled = Tensor::cat(&[&kept, &fill], 1)?;
        let tokens = pad_ops::gather_tokens(&shuffled, &mask.ids_restore)?;
        Ok(self.vit.encode_at(&tokens, &self.vit.places(grid, None)?, mode)?)
    }
}
