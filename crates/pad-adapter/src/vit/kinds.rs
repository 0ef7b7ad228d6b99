//! What vision transformers differ in, kind by kind.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::Result;

/// The activation between the two layers of a block's MLP.
///
/// ```
/// use pad_adapter::vit::Activation;
/// assert_eq!(Activation::Gelu.fc1_outputs(3072), 3072);
/// assert_eq!(Activation::SwiGlu.fc1_outputs(2048), 2 * 2048); // gate and value
/// ```
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
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::{params::ParamStore, vit::{QkvBias, ViT, ViTConfig}};
/// use pad_ops::rng::Key;
/// let values = |qkv_bias| -> pad_adapter::Result<usize> {
///     let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
///     store.build(|vb| ViT::new(&ViTConfig { qkv_bias, ..ViTConfig::new(16, 8, 1, 1) }, vb))?;
///     Ok(store.summary().frozen)
/// };
/// let none = values(QkvBias::None)?;
/// assert_eq!(values(QkvBias::All)? - none, 3 * 8);
/// assert_eq!(values(QkvBias::QueryValue)? - none, 2 * 8);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
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
///
/// ```
/// use pad_adapter::vit::{Positions, ViTConfig};
/// // Rows of the table in front of those of the patches.
/// let rows = |positions| ViTConfig { positions, ..ViTConfig::base(16) }.table_prefix();
/// assert_eq!([Positions::Table, Positions::Patches, Positions::None].map(rows), [1, 0, 0]);
/// ```
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
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_adapter::vit::{PatchGrid, TableResize};
/// let table = Tensor::new(&[[[0_f32], [4.0]]], &Device::Cpu)?; // two patches in a row
/// let (from, to) = (PatchGrid::new(1, 2), PatchGrid::new(1, 4));
/// let wider = TableResize::Bilinear.table(&table, 0, from, to)?;
/// assert_eq!(wider.flatten_all()?.to_vec1::<f32>()?, [0.0, 1.0, 3.0, 4.0]); // half-pixel centres
/// # Ok::<(), pad_adapter::Error>(())
/// ```
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
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::{params::ParamStore, vit::{RelativeBias, ViT, ViTConfig}};
/// use pad_ops::{ImageSize, rng::Key};
/// // Values of the tables of 3 blocks with 2 heads, for a grid of 2 x 2.
/// let values = |relative_bias| -> pad_adapter::Result<usize> {
///     let plain = ViTConfig::new(16, 8, 3, 2);
///     let config = ViTConfig { relative_bias, image_size: ImageSize::square(32), ..plain };
///     let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
///     store.build(|vb| ViT::new(&config, vb))?;
///     Ok(store.summary().frozen)
/// };
/// let table = (3 * 3 + 3) * 2;
/// let none = values(RelativeBias::None)?;
/// assert_eq!(values(RelativeBias::PerBlock)? - none, 3 * table);
/// assert_eq!(values(RelativeBias::Shared)? - none, table);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
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
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_adapter::vit::{PatchGrid, RelativeResize};
/// // (2 h - 1)(2 w - 1) + 3 rows, one head: a bias that is the same everywhere stays it.
/// let (from, to) = (PatchGrid::new(2, 2), PatchGrid::new(3, 3));
/// let table = Tensor::full(0.5_f32, (12, 1), &Device::Cpu)?;
/// let larger = RelativeResize::Linear.table(&table, from, to)?;
/// assert_eq!(larger.flatten_all()?.to_vec1::<f32>()?, [0.5; 28]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
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
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_adapter::vit::Prefix;
/// // A class token, two registers, two patches.
/// let tokens = Tensor::new(&[[[0_f32], [1.0], [2.0], [3.0], [4.0]]], &Device::Cpu)?;
/// let prefix = Prefix { class: true, registers: 2 };
/// let values = |tokens: &Tensor| tokens.flatten_all()?.to_vec1::<f32>();
/// assert_eq!((prefix.len(), prefix.is_empty()), (3, false));
/// assert_eq!(values(&prefix.patches(&tokens)?)?, [3.0, 4.0]);
/// assert_eq!(values(&prefix.without_registers(&tokens)?)?, [0.0, 3.0, 4.0]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
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
