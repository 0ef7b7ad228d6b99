//! What vision transformers differ in, kind by kind.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::Result;

/// The activation between the two layers of a block's MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Activation {
    /// The exact GELU.
    #[default]
    Gelu,
    /// GELU's approximation by tanh, SigLIP's.
    GeluTanh,
    /// `x * sigmoid(1.702 x)`, CLIP's.
    QuickGelu,
    /// `silu(a) * b` with `a` and `b` the halves of `fc1`'s output, which is twice as wide
    /// (DINOv2's largest models, DINOv3's plus ones, EVA-02; gate before value, as timm packs
    /// them).
    SwiGlu,
}

/// The biases of queries, keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum QkvBias {
    /// `attn.qkv.bias`.
    #[default]
    All,
    /// `attn.q_bias` and `attn.v_bias`: keys have none (BEiT, EVA-02, DINOv3).
    QueryValue,
    /// None.
    None,
}

/// The rows of a position table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Positions {
    /// One for the class token, if there is one, and one a patch.
    #[default]
    Table,
    /// One a patch (DeiT III, timm's DINOv2 with registers).
    Patches,
    /// There is no table.
    None,
}

/// How a position table becomes one of another grid: each family has its own way, and the tokens of
/// another are off by several percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TableResize {
    /// Bicubic: a = -0.75, half-pixel centres, edges repeated (MAE; Hugging Face's ViT, Dinov2,
    /// CLIP, SigLIP).
    #[default]
    Bicubic,
    /// Bicubic with antialiasing: a = -0.5, edges cut off and weights normalised (timm, whatever
    /// the model; DINOv2 with registers).
    BicubicAntialias,
    /// Bilinear (PE's authors).
    Bilinear,
    /// Bilinear with antialiasing (SigLIP 2 NaFlex).
    BilinearAntialias,
    /// Bicubic with steps of `old / (new + 0.1)` (DINOv2 without registers, by its authors).
    Dinov2,
}

/// Relative position biases on the attention's logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RelativeBias {
    /// None.
    #[default]
    None,
    /// A table in each block, `attn.relative_position_bias_table`.
    PerBlock,
    /// One for all, `rel_pos_bias.relative_position_bias_table`.
    Shared,
}

/// How a table of relative positions becomes one of another grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RelativeResize {
    /// A cubic spline through offsets in geometric progression (BEiT's authors, the original's
    /// segmentation).
    #[default]
    Cubic,
    /// Straight lines between the same offsets (timm).
    Linear,
    /// Bilinear on the grid of offsets (Hugging Face).
    Bilinear,
}

/// The tokens in front of the patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// Whether there is a class token, the first.
    pub class: bool,
    /// The number of register tokens behind it.
    pub registers: usize,
}

impl Prefix {
    /// The number of tokens in front of the patches.
    pub const fn len(self) -> usize {
        self.class as usize + self.registers
    }

    /// Whether the patches come first.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The patches among an encoder's tokens.
    ///
    /// # Shapes
    /// `tokens` (B, P + N, D) -> (B, N, D).
    ///
    /// # Errors
    /// Fewer tokens than the prefix has.
    pub fn patches(self, tokens: &Tensor) -> Result<Tensor> {
        let count = tokens.dim(1)?.saturating_sub(self.len());
        Ok(tokens.narrow(1, self.len(), count)?.contiguous()?)
    }

    /// The tokens without registers: the class token, if there is one, and the patches.
    ///
    /// # Shapes
    /// `tokens` (B, P + N, D) -> (B, 1 + N, D) or (B, N, D).
    ///
    /// # Errors
    /// Fewer tokens than the prefix has.
    pub fn without_registers(self, tokens: &Tensor) -> Result<Tensor> {
        if self.registers == 0 {
            return Ok(tokens.clone());
        }
        let patches = self.patches(tokens)?;
        match self.class {
            true => Ok(Tensor::cat(&[&tokens.narrow(1, 0, 1)?, &patches], 1)?),
            false => Ok(patches),
        }
    }
}
