//! Linear layers and layer norms, over pad-ops' differentiable operators.

use std::sync::{Arc, OnceLock};

use candle_core::{Module, Tensor};
use candle_nn::{Init, VarBuilder};
use pad_ops::{LinearWeights, LowRankWeights, Mode, NormWeights};

use crate::{Result, lora::LowRank};

/// `y = x weight^T + bias`, with low-rank adapters beside the weight where it has some.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Init, VarBuilder};
/// use pad_adapter::vit::layers::Linear;
/// let weight = Tensor::new(&[[1_f32, 2.0], [0.0, -1.0]], &Device::Cpu)?;
/// let linear = Linear::from_tensors(weight, None);
/// let x = Tensor::new(&[[3_f32, 4.0]], &Device::Cpu)?;
/// assert_eq!(linear.forward(&x)?.to_vec2::<f32>()?, [[11.0, -4.0]]);
/// assert_eq!(linear.weights().weight.dims(), [2, 2]);
/// // From `weight` and `bias` of a `VarBuilder`.
/// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let linear = Linear::new(2, 3, true, Init::Const(0.0), vb.pp("fc"))?;
/// let module: &dyn candle_core::Module = &linear;
/// assert_eq!(module.forward(&x)?.to_vec2::<f32>()?, [[0.0; 3]]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    weights: LinearWeights,
    low_rank: Option<Arc<Adapted>>,
}

/// A layer's adapters, and what stands beside the layer if nothing of both trains.
#[derive(Debug)]
struct Adapted {
    low_rank: LowRank,
    frozen: OnceLock<Vec<LowRankWeights>>,
}

impl Adapted {
    fn beside(&self, weight: &Tensor) -> Result<Vec<LowRankWeights>> {
        if let Some(frozen) = self.frozen.get() {
            return Ok(frozen.clone());
        }
        let beside = self.low_rank.beside(weight)?;
        if self.low_rank.tracks() || weight.track_op() {
            return Ok(beside);
        }
        Ok(self.frozen.get_or_init(|| beside).clone())
    }
}

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
        Self { weights: LinearWeights::new(weight, bias), low_rank: None }
    }

    /// (O, I).
    pub(crate) fn shape(&self) -> Result<[usize; 2]> {
        let (outputs, inputs) = self.weights.weight.dims2()?;
        Ok([outputs, inputs])
    }

    /// The same layer with low-rank adapters in place of those that it has.
    #[must_use]
    pub(crate) fn with_low_rank(self, low_rank: Option<LowRank>) -> Self {
        let adapted = |low_rank| Arc::new(Adapted { low_rank, frozen: OnceLock::new() });
        Self { low_rank: low_rank.map(adapted), ..self }
    }

    /// Returns its tensors, for operators that take whole layers; low-rank adapters are not in
    /// them.
    pub fn weights(&self) -> LinearWeights {
        self.weights.clone()
    }

    /// Its tensors with the adapters beside them, and with another bias than its own, if there is
    /// one.
    ///
    /// # Errors
    /// Adapters that do not fit the weight.
    pub(super) fn adapted(&self, bias: Option<&Tensor>, mode: Mode) -> Result<LinearWeights> {
        let weights = &self.weights;
        let bias = bias.or(weights.bias.as_ref());
        let Some(adapted) = &self.low_rank else {
            return Ok(weights.with_bias(bias.cloned()));
        };
        let low_rank = &adapted.low_rank;
        let bias = low_rank.bias(weights.weight.dim(0)?, bias)?;
        let beside = low_rank.in_mode(adapted.beside(&weights.weight)?, mode);
        Ok(weights.with_bias(bias).with_low_rank(beside))
    }

    /// The layer as in evaluation: low-rank adapters drop nothing.
    ///
    /// # Shapes
    /// `x` (.., `inputs`) -> (.., `outputs`).
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_in(x, None, Mode::Eval)
    }

    /// [`Linear::forward`] in a forward pass, with another bias than its own, if there is one.
    pub(super) fn forward_in(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        mode: Mode,
    ) -> Result<Tensor> {
        Ok(pad_ops::linear_with(x, &self.adapted(bias, mode)?)?)
    }
}

/// For code that takes any candle module.
impl Module for Linear {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.forward(x)?)
    }
}

/// Layer norm over the last axis.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_adapter::{params::ParamStore, vit::layers::LayerNorm};
/// use pad_ops::rng::Key;
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// let norm = store.build(|vb| LayerNorm::new(2, 0.0, vb.pp("norm")))?;
/// let x = Tensor::new(&[[1_f32, 3.0]], &Device::Cpu)?;
/// assert_eq!(norm.forward(&x)?.to_vec2::<f32>()?, [[-1.0, 1.0]]); // mean 2, variance 1
/// assert_eq!(norm.weights().weight.to_vec1::<f32>()?, [1.0, 1.0]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
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

/// For code that takes any candle module.
impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.forward(x)?)
    }
}

/// Xavier uniform, MAE's initialisation of every linear layer: bound `sqrt(6 / (inputs +
/// outputs))`.
///
/// ```
/// use candle_nn::Init;
/// use pad_adapter::vit::layers::xavier_uniform;
/// let Init::Uniform { lo, up } = xavier_uniform(2, 4) else { panic!("expected uniform") };
/// assert_eq!((lo, up), (-1.0, 1.0)); // sqrt(6 / (2 + 4))
/// ```
pub fn xavier_uniform(inputs: usize, outputs: usize) -> Init {
    let bound = (6.0 / (inputs + outputs) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}
