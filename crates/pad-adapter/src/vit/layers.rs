//! Linear layers and layer norms, over pad-ops' differentiable operators.

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_ops::{LinearWeights, NormWeights};

use crate::Result;

/// `y = x weight^T + bias`.
#[derive(Clone, Debug)]
pub struct Linear(LinearWeights);

impl Linear {
    /// Builds the layer from `weight` (`outputs`, `inputs`) of `vb`, initialised by `init`, and
    /// `bias` (`outputs`), initialised to zero.
    ///
    /// # Errors
    /// Errors of `vb`: missing tensors or other shapes.
    pub fn new(
        inputs: usize,
        outputs: usize,
        bias: bool,
        init: Init,
        vb: VarBuilder,
    ) -> Result<Self> {
        let weight = vb.get_with_hints((outputs, inputs), "weight", init)?;
        let bias =
            if bias { Some(vb.get_with_hints(outputs, "bias", Init::Const(0.0))?) } else { None };
        Ok(Self::from_tensors(weight, bias))
    }

    /// A layer of given tensors: `weight` (O, I), `bias` (O).
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self(LinearWeights::new(weight, bias))
    }

    /// Returns its tensors, for operators that take whole layers.
    pub fn weights(&self) -> LinearWeights {
        self.0.clone()
    }

    /// # Shapes
    /// `x` (.., `inputs`) -> (.., `outputs`).
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(pad_ops::linear(x, &self.0.weight, self.0.bias.as_ref())?)
    }
}

/// Layer norm over the last axis.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Builds the layer from `weight` (`dim`) of `vb`, initialised to one, and `bias` (`dim`),
    /// initialised to zero.
    ///
    /// # Errors
    /// Errors of `vb`: missing tensors or other shapes.
    pub fn new(dim: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
        let weight = vb.get_with_hints(dim, "weight", Init::Const(1.0))?;
        let bias = vb.get_with_hints(dim, "bias", Init::Const(0.0))?;
        Ok(Self { weight, bias, eps })
    }

    /// Returns its tensors, for operators that take whole layers.
    pub fn weights(&self) -> NormWeights {
        NormWeights { weight: self.weight.clone(), bias: self.bias.clone(), eps: self.eps }
    }

    /// # Shapes
    /// `x` (.., `dim`) -> the same.
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(pad_ops::layer_norm(x, &self.weight, &self.bias, self.eps)?)
    }
}

/// Xavier uniform, MAE's initialisation of every linear layer: bound `sqrt(6 / (inputs +
/// outputs))`.
pub fn xavier_uniform(inputs: usize, outputs: usize) -> Init {
    let bound = (6.0 / (inputs + outputs) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}
