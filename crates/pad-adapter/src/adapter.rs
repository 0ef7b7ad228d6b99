//! The adapter layer of PAD (section 3.2), for any transformer.

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_ops::{AdapterScale, AdapterWeights, Fusion, Mode};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, Scale, vit::layers};

/// What stands in front of the bottleneck (`layernorm_option` in the original).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterNorm {
    /// The adapter's own layer norm, eps 1e-5.
    #[default]
    In,
    /// Nothing.
    None,
}

/// An adapter's hyperparameters; the default is the paper's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterConfig {
    /// Width of the bottleneck. Default 64.
    pub bottleneck: usize,
    /// Norm in front of it. Default: a layer norm.
    pub norm: AdapterNorm,
    /// Dropout on the bottleneck, probability. Default 0.1.
    pub dropout: f64,
    /// Its scale. Default: patchwise, concat.
    pub scale: Scale,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        Self { bottleneck: 64, norm: AdapterNorm::In, dropout: 0.1, scale: Scale::default() }
    }
}

impl AdapterConfig {
    /// Every fault of the configuration at once.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(&self) -> Result<()> {
        let faults = self.faults();
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::Config { what: "adapter", faults })
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.bottleneck == 0 {
            faults.push("`bottleneck` is 0, expected at least 1".to_string());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            faults.push(format!("`dropout` is {}, expected 0 <= dropout < 1", self.dropout));
        }
        let value = match self.scale {
            Scale::Fixed(value) => value,
            Scale::FixedDecay { last } | Scale::FixedLinear { last } => last,
            Scale::Learnable { init } => init,
            Scale::Patchwise(_) => 0.0,
        };
        if !value.is_finite() {
            faults.push(format!("`scale` is {value}, expected a number"));
        }
        faults
    }

    /// The configuration of block `block` of `depth`: per-block scales resolved.
    #[must_use]
    pub fn at(self, block: usize, depth: usize) -> Self {
        Self { scale: self.scale.at(block, depth), ..self }
    }

    /// Trained values of one adapter for tokens of `embed_dim` values: 102,208 for ViT-B with the default.
    pub fn parameter_count(&self, embed_dim: usize) -> usize {
        let norm = if self.norm == AdapterNorm::In { 2 * embed_dim } else { 0 };
        let scale = match self.scale {
            Scale::Learnable { .. } => 1,
            Scale::Patchwise(fusion) => fusion.gate_width(embed_dim),
            _ => 0,
        };
        norm + 2 * embed_dim * self.bottleneck + self.bottleneck + embed_dim + scale
    }
}

/// `A(x)` = LayerNorm → down → ReLU → dropout → up, and its scale `s`, to stand parallel to a block's MLP:
/// `x + s * A(x) + MLP(LN(x))`.
///
/// At first `up` and all biases are zero, so a network with fresh adapters computes exactly what it did without.
///
/// Tensors it asks its `VarBuilder` for (`vb` stands at the block, names as in the original repository):
/// `adaptmlp.adapter_layer_norm_before.{weight,bias}` (D), `adaptmlp.down_proj.{weight (K, D), bias (K)}`,
/// `adaptmlp.up_proj.{weight (D, K), bias (D)}`, `adaptmlp.scale` (1) for learnable scales (and for
/// fixed ones, where a file has it), `scalar_pred.weight` (1, 2 D) or (1, D) for patchwise ones.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::{Adapter, AdapterConfig, params::ParamStore};
/// use pad_ops::{Mode, rng::Key};
///
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// let config = AdapterConfig::default();
/// let adapter = store.build(|vb| Adapter::new(8, &config, vb))?;
/// let (x, mlp) = (Tensor::ones((2, 5, 8), DType::F32, &Device::Cpu)?, Tensor::zeros((2, 5, 8), DType::F32, &Device::Cpu)?);
/// assert_eq!(adapter.forward(&x, &mlp, Mode::Eval)?.to_vec3::<f32>()?, x.to_vec3::<f32>()?);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adapter {
    norm: Option<layers::LayerNorm>,
    down: layers::Linear,
    up: layers::Linear,
    dropout: f64,
    strength: Strength,
}

/// A [`Scale`] with its tensors.
#[derive(Clone, Debug)]
enum Strength {
    Fixed(f64),
    Learnable(Tensor),
    Patchwise { gate: Tensor, fusion: Fusion },
}

impl Adapter {
    /// Eps of the adapter's own norm: PyTorch's default, unlike the 1e-6 of a ViT's norms.
    const NORM_EPS: f64 = 1e-5;

    /// An adapter for tokens of `embed_dim` values. Per-block scales ([`Scale::FixedDecay`], [`Scale::FixedLinear`])
    /// must have been resolved with [`AdapterConfig::at`]; unresolved they count as the last block's.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::FixedScale`] if a checkpoint holds another fixed scale; whatever `vb` refuses.
    pub fn new(embed_dim: usize, config: &AdapterConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let config = config.at(0, 1);
        let (d, k) = (embed_dim, config.bottleneck);
        let inner = vb.pp("adaptmlp");
        let norm = match config.norm {
            AdapterNorm::In => {
                let vb = inner.pp("adapter_layer_norm_before");
                Some(layers::LayerNorm::new(d, Self::NORM_EPS, vb)?)
            }
            AdapterNorm::None => None,
        };
        // Kaiming uniform with a = sqrt(5): bound 1 / sqrt(fan_in).
        let bound = 1.0 / (d as f64).sqrt();
        let down = Init::Uniform { lo: -bound, up: bound };
        let strength = match config.scale {
            Scale::Fixed(value)
            | Scale::FixedDecay { last: value }
            | Scale::FixedLinear { last: value } => Self::fixed(value, &inner)?,
            Scale::Learnable { init } => {
                Strength::Learnable(inner.get_with_hints(1, "scale", Init::Const(init))?)
            }
            Scale::Patchwise(fusion) => {
                let shape = (1, fusion.gate_width(d));
                let gate =
                    vb.pp("scalar_pred").get_with_hints(shape, "weight", Init::Const(0.0))?;
                Strength::Patchwise { gate, fusion }
            }
        };
        Ok(Self {
            norm,
            down: layers::Linear::new(d, k, true, down, inner.pp("down_proj"))?,
            up: layers::Linear::new(k, d, true, Init::Const(0.0), inner.pp("up_proj"))?,
            dropout: config.dropout,
            strength,
        })
    }

    /// A fixed scale is a constant of the configuration; the original's files hold it too, and must then agree.
    fn fixed(value: f64, vb: &VarBuilder) -> Result<Strength> {
        if !vb.contains_tensor("scale") {
            return Ok(Strength::Fixed(value));
        }
        let stored = vb.get_unchecked("scale")?.to_dtype(candle_core::DType::F64)?;
        let found = stored.flatten_all()?.to_vec1::<f64>()?.first().copied().unwrap_or(f64::NAN);
        // The file has it in f32.
        if (found - value).abs() <= 1e-6 * value.abs().max(1e-6) {
            return Ok(Strength::Fixed(value));
        }
        let tensor = format!("{}.scale", vb.prefix());
        Err(Error::FixedScale { tensor, expected: value, found })
    }

    /// Handles on its tensors, for [`pad_ops::mlp_branch`].
    pub(crate) fn weights(&self) -> AdapterWeights {
        AdapterWeights {
            norm: self.norm.as_ref().map(layers::LayerNorm::weights),
            down: self.down.weights(),
            up: self.up.weights(),
            dropout: self.dropout,
            scale: match &self.strength {
                Strength::Fixed(scale) => AdapterScale::Fixed(*scale),
                Strength::Learnable(scale) => AdapterScale::Learnable(scale.clone()),
                Strength::Patchwise { gate, fusion } => {
                    AdapterScale::Patchwise { gate: gate.clone(), fusion: *fusion }
                }
            },
        }
    }

    /// `A(x)`, before any scale.
    fn branch(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = match &self.norm {
            Some(norm) => norm.forward(x)?,
            None => x.clone(),
        };
        let bottleneck = self.down.forward(&x)?.relu()?;
        self.up.forward(&pad_ops::dropout(&bottleneck, self.dropout, mode)?)
    }

    /// What the adapter adds to the block, `s * A(x)`.
    ///
    /// # Shapes
    /// `x` (.., D), the residual stream after attention; `mlp` (.., D), the *raw* output `MLP(LN(x))`, before layer
    /// scale or drop path (the gate looks at it); result (.., D). Any leading axes.
    ///
    /// # Errors
    /// Shapes, dtypes or devices that do not fit.
    pub fn delta(&self, x: &Tensor, mlp: &Tensor, mode: Mode) -> Result<Tensor> {
        let branch = self.branch(x, mode)?;
        Ok(match &self.strength {
            Strength::Fixed(value) => (branch * *value)?,
            Strength::Learnable(scale) => branch.broadcast_mul(scale)?,
            Strength::Patchwise { gate, fusion } => {
                pad_ops::fuse_patchwise(&branch, mlp, gate, *fusion)?
            }
        })
    }

    /// `x + delta + mlp`: the whole tail of a block that has neither layer scale nor drop path.
    ///
    /// # Shapes
    /// As [`Adapter::delta`].
    ///
    /// # Errors
    /// As [`Adapter::delta`].
    pub fn forward(&self, x: &Tensor, mlp: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(((x + mlp)? + self.delta(x, mlp, mode)?)?)
    }

    /// The patchwise scales `s` in (0, 1); `None` for fixed and learnable scales.
    ///
    /// # Shapes
    /// `x`, `mlp` (.., D) as in [`Adapter::delta`]; result (..).
    ///
    /// # Errors
    /// As [`Adapter::delta`].
    pub fn scales(&self, x: &Tensor, mlp: &Tensor) -> Result<Option<Tensor>> {
        match &self.strength {
            Strength::Patchwise { gate, fusion } => {
                let branch = self.branch(x, Mode::Eval)?;
                Ok(Some(pad_ops::patchwise_scales(&branch, mlp, gate, *fusion)?))
            }
            _ => Ok(None),
        }
    }
}
