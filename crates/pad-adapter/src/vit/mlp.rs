//! The MLP of a block.

use candle_core::{Module, Tensor};
use candle_nn::VarBuilder;
use pad_ops::{MlpActivation, MlpWeights, Mode, NormWeights, ResidualWeights};

use super::{
    Activation, ViTConfig,
    layers::{LayerNorm, Linear, xavier_uniform},
};
use crate::{
    LoraConfig, Result,
    lora::{LoraTarget, LowRank},
};

impl Activation {
    /// The same for the operators.
    fn of_branch(self) -> MlpActivation {
        match self {
            Self::Gelu => MlpActivation::Gelu,
            Self::GeluTanh => MlpActivation::GeluTanh,
            Self::QuickGelu => MlpActivation::QuickGelu,
            Self::SwiGlu => MlpActivation::SwiGlu,
        }
    }

    fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Gelu => pad_ops::gelu(x)?,
            Self::GeluTanh => pad_ops::gelu_tanh(x)?,
            Self::QuickGelu => pad_ops::quick_gelu(x)?,
            Self::SwiGlu => pad_ops::swiglu(x)?,
        })
    }

    /// Outputs of `fc1` for an MLP whose `fc2` takes `hidden` values.
    pub fn fc1_outputs(self, hidden: usize) -> usize {
        if self == Self::SwiGlu { 2 * hidden } else { hidden }
    }
}

/// `fc2(GELU(fc1(x)))`, or another activation between, and a norm behind it where it has one.
///
/// ```
/// use std::collections::HashMap;
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_adapter::vit::{Activation, Mlp};
/// // One value in, one hidden value, one out: 2 gelu(x) + 1, and gelu(10) is 10.
/// let values = [("fc1.weight", 1.0), ("fc1.bias", 0.0), ("fc2.weight", 2.0), ("fc2.bias", 1.0)];
/// let tensor = |(name, value): (&str, f32)| {
///     let shape = if name.ends_with("bias") { vec![1] } else { vec![1, 1] };
///     Ok((name.to_string(), Tensor::full(value, shape, &Device::Cpu)?))
/// };
/// let tensors: pad_adapter::Result<HashMap<_, _>> = values.into_iter().map(tensor).collect();
/// let vb = VarBuilder::from_tensors(tensors?, DType::F32, &Device::Cpu);
/// let x = Tensor::new(&[[10_f32]], &Device::Cpu)?;
/// assert_eq!(Mlp::new(1, 1, vb.clone())?.forward(&x)?.to_vec2::<f32>()?, [[21.0]]);
/// let quick = Mlp::with_activation(1, 1, Activation::QuickGelu, vb)?;
/// assert!((quick.forward(&x)?.to_vec2::<f32>()?[0][0] - 21.0).abs() < 1e-5);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mlp {
    fc1: Linear,
    norm: Option<LayerNorm>,
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
        let wide = activation.fc1_outputs(hidden);
        Ok(Self {
            fc1: Linear::new(dim, wide, true, xavier_uniform(dim, wide), vb.pp("fc1"))?,
            norm: None,
            fc2: Linear::new(hidden, dim, true, xavier_uniform(hidden, dim), vb.pp("fc2"))?,
            activation,
        })
    }

    /// The MLP of a block that `config` describes; `block` stands at the block.
    pub(super) fn of_block(config: &ViTConfig, block: &VarBuilder) -> Result<Self> {
        let (dim, hidden, vb) = (config.embed_dim, config.hidden_dim(), block.pp("mlp"));
        let plain = Self::with_activation(dim, hidden, config.activation, vb.clone())?;
        Ok(Self {
            norm: match config.mlp_norm {
                true => Some(LayerNorm::new(hidden, config.norm_eps, vb.pp("norm"))?),
                false => None,
            },
            ..plain
        })
    }

    /// The same MLP with the low-rank adapters called `name` of `lora`; `block` stands at the block.
    pub(super) fn with_low_rank(
        self,
        lora: Option<&LoraConfig>,
        name: &str,
        block: &VarBuilder,
    ) -> Result<Self> {
        let low_rank = |target: LoraTarget, layer: &Linear| match lora {
            Some(lora) => LowRank::new(lora, &[target], layer.shape()?, (name, block)),
            None => Ok(None),
        };
        let (fc1, fc2) =
            (low_rank(LoraTarget::Fc1, &self.fc1)?, low_rank(LoraTarget::Fc2, &self.fc2)?);
        Ok(Self { fc1: self.fc1.with_low_rank(fc1), fc2: self.fc2.with_low_rank(fc2), ..self })
    }

    /// The weights of the fused branch.
    pub(super) fn weights(
        &self,
        norm: NormWeights,
        residual: ResidualWeights,
        mode: Mode,
    ) -> Result<MlpWeights> {
        let (fc1, fc2) = (self.fc1.adapted(None, mode)?, self.fc2.adapted(None, mode)?);
        Ok(MlpWeights {
            activation: self.activation.of_branch(),
            inner_norm: self.norm.as_ref().map(LayerNorm::weights),
            residual,
            ..MlpWeights::new(norm, fc1, fc2)
        })
    }

    /// The MLP as in evaluation: low-rank adapters of its layers drop nothing.
    ///
    /// # Shapes
    /// `x` (.., D) -> the same.
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.activation.apply(&self.fc1.forward(x)?)?;
        match &self.norm {
            Some(norm) => self.fc2.forward(&norm.forward(&hidden)?),
            None => self.fc2.forward(&hidden),
        }
    }
}

/// For code that takes any candle module.
impl Module for Mlp {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.forward(x)?)
    }
}
