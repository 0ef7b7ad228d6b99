//! The adapter layer of PAD (section 3.2), for any transformer.

use std::{fmt, str::FromStr};

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_ops::{AdapterScale, AdapterWeights, Mode, text::unknown_name};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    params::named,
    placement::{AdapterActivation, AdapterPlacement},
    scale::{self, Scale},
    vit::layers,
};

/// The norm in front of the bottleneck (`layernorm_option` in the original).
///
/// ```
/// use pad_adapter::AdapterNorm;
/// assert_eq!("none".parse::<AdapterNorm>()?, AdapterNorm::None);
/// assert_eq!(AdapterNorm::default().to_string(), "in");
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AdapterNorm {
    /// The adapter's own layer norm, eps 1e-5.
    #[default]
    In,
    /// No norm.
    None,
}

impl AdapterNorm {
    /// Every norm.
    const ALL: [Self; 2] = [Self::In, Self::None];

    const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::None => "none",
        }
    }
}

/// `in` or `none`, as in files.
impl fmt::Display for AdapterNorm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for AdapterNorm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|norm| norm.name() == name);
        found.ok_or_else(|| {
            Error::UnknownName(unknown_name("adapter norm", name, Self::ALL.map(Self::name)))
        })
    }
}

/// An adapter's hyperparameters; the default is the paper's.
///
/// ```
/// use pad_adapter::AdapterConfig;
/// let config = AdapterConfig { bottleneck: 16, ..AdapterConfig::default() };
/// assert_eq!((AdapterConfig::default().bottleneck, config.parameter_count(384)), (64, 14_224));
/// ```
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
    /// Where it stands in a block. Default: beside the MLP.
    #[serde(skip_serializing_if = "is_default")]
    pub placement: AdapterPlacement,
    /// The activation between its layers. Default: ReLU.
    #[serde(skip_serializing_if = "is_default")]
    pub activation: AdapterActivation,
}

/// Keeps fields that only other kinds of adapters use out of files.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for AdapterConfig {
    fn default() -> Self {
        Self {
            bottleneck: 64,
            norm: AdapterNorm::In,
            dropout: 0.1,
            scale: Scale::default(),
            placement: AdapterPlacement::Parallel,
            activation: AdapterActivation::Relu,
        }
    }
}

impl AdapterConfig {
    /// The widest bottleneck; wider than the widest published transformer.
    const MAX_WIDTH: usize = 1 << 16;

    /// Checks the configuration and reports all faults at once.
    ///
    /// # Errors
    /// [`Error::Config`].
    ///
    /// ```
    /// use pad_adapter::AdapterConfig;
    /// let config = AdapterConfig { bottleneck: 0, dropout: f64::NAN, ..Default::default() };
    /// assert_eq!(
    ///     config.validate().unwrap_err().to_string(),
    ///     "adapter: `bottleneck` is 0, expected at least 1; `dropout` is NaN, expected 0 <= dropout < 1"
    /// );
    /// ```
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
        if self.bottleneck > Self::MAX_WIDTH {
            let (found, most) = (self.bottleneck, Self::MAX_WIDTH);
            faults.push(format!("`bottleneck` is {found}, expected at most {most}"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            faults.push(format!("`dropout` is {}, expected 0 <= dropout < 1", self.dropout));
        }
        faults.extend(self.scale.fault());
        faults
    }

    /// The configuration of block `block` of `depth`: per-block scales resolved.
    ///
    /// ```
    /// use pad_adapter::{AdapterConfig, Scale};
    /// let config = AdapterConfig { scale: Scale::FixedLinear { last: 0.5 }, ..Default::default() };
    /// assert_eq!(config.at(0, 5).scale, Scale::Fixed(0.1));
    /// assert_eq!(config.at(4, 5).scale, Scale::Fixed(0.5));
    /// ```
    #[must_use]
    pub fn at(self, block: usize, depth: usize) -> Self {
        Self { scale: self.scale.at(block, depth), ..self }
    }

    /// The number of trained values of one adapter for tokens of `embed_dim` values: 102,208 for
    /// ViT-B with the default.
    ///
    /// ```
    /// assert_eq!(pad_adapter::AdapterConfig::default().parameter_count(768), 102_208);
    /// ```
    pub fn parameter_count(&self, embed_dim: usize) -> usize {
        let norm = if self.norm == AdapterNorm::In { 2 * embed_dim } else { 0 };
        let scale = self.scale.parameter_count(embed_dim);
        norm + 2 * embed_dim * self.bottleneck + self.bottleneck + embed_dim + scale
    }

    /// The number of trained values of a block's adapters: of one, or of two
    /// ([`AdapterPlacement::AfterBoth`]).
    ///
    /// ```
    /// assert_eq!(pad_adapter::AdapterConfig::default().block_parameter_count(768), 102_208);
    /// ```
    pub fn block_parameter_count(&self, embed_dim: usize) -> usize {
        self.placement.adapters() * self.parameter_count(embed_dim)
    }
}

/// `A(x)` = LayerNorm → down → ReLU → dropout → up, and its scale `s`, to stand parallel to a
/// block's MLP: `x + s * A(x) + MLP(LN(x))`. Behind a branch ([`AdapterPlacement`]) it takes the
/// branch's output for both, `h + delta(h, h)`.
///
/// At first `up` and all biases are zero, so a network with fresh adapters gives the same output as
/// without.
///
/// `x` is the residual stream after attention, not its norm, `mlp` the MLP's raw output; both are
/// (.., D), (B, N, D) tokens or (B, H, W, D) pixels alike. [`Adapter::forward`] is the whole
/// tail of a plain block, [`Adapter::delta`] what to add in a block with layer scale or drop path,
/// [`Adapter::scales`] how strongly it acts on each token. [`ParamStore`](crate::params::ParamStore)
/// makes its tensors variables and leaves the rest of the network frozen.
///
/// Its tensors (`vb` stands at the block, names as in the original repository):
/// `adaptmlp.adapter_layer_norm_before.{weight,bias}` (D), `adaptmlp.down_proj.{weight (K, D), bias
/// (K)}`, `adaptmlp.up_proj.{weight (D, K), bias (D)}`, `adaptmlp.scale` (1) for learnable scales
/// (and for fixed ones, where a file has it), `scalar_pred.weight` (1, 2 D) or (1, D) for patchwise
/// ones.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::{Adapter, AdapterConfig, params::ParamStore};
/// use pad_ops::{Mode, rng::Key};
///
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// let config = AdapterConfig::default();
/// let adapter = store.build(|vb| Adapter::new(8, &config, vb))?;
/// let x = Tensor::ones((2, 5, 8), DType::F32, &Device::Cpu)?;
/// let mlp = x.zeros_like()?;
/// assert_eq!(adapter.forward(&x, &mlp, Mode::Eval)?.to_vec3::<f32>()?, x.to_vec3::<f32>()?);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adapter {
    norm: Option<layers::LayerNorm>,
    down: layers::Linear,
    up: layers::Linear,
    dropout: f64,
    scale: AdapterScale,
    activation: AdapterActivation,
    placement: AdapterPlacement,
}

impl Adapter {
    /// Eps of the adapter's own norm: PyTorch's default, unlike the 1e-6 of a ViT's norms.
    const NORM_EPS: f64 = 1e-5;

    /// An adapter for tokens of `embed_dim` values. Per-block scales ([`Scale::FixedDecay`],
    /// [`Scale::FixedLinear`]) must have been resolved with [`AdapterConfig::at`]; unresolved they
    /// count as the last block's.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::FixedScale`] if a checkpoint holds another fixed scale; errors
    /// of `vb`.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{Adapter, AdapterConfig, params::ParamStore};
    /// use pad_ops::rng::Key;
    /// let config = AdapterConfig { bottleneck: 4, ..Default::default() };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// store.build(|vb| Adapter::new(8, &config, vb.pp("layer.0")))?;
    /// let tensors = store.tensors(|_| true);
    /// assert_eq!(tensors["layer.0.adaptmlp.down_proj.weight"].dims(), [4, 8]);
    /// assert_eq!(tensors["layer.0.scalar_pred.weight"].dims(), [1, 16]);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn new(embed_dim: usize, config: &AdapterConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        if embed_dim == 0 {
            let faults = vec!["`embed_dim` is 0, expected at least 1".to_string()];
            return Err(Error::Config { what: "adapter", faults });
        }
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
        Ok(Self {
            norm,
            down: layers::Linear::new(d, k, true, down, inner.pp("down_proj"))?,
            up: layers::Linear::new(k, d, true, Init::Const(0.0), inner.pp("up_proj"))?,
            dropout: config.dropout,
            scale: config.scale.build(d, &vb)?,
            activation: config.activation,
            placement: config.placement,
        })
    }

    /// An adapter with a name, so that several can stand at one place: its tensors are
    /// `adapters.{name}.adaptmlp.*` and `adapters.{name}.scalar_pred.*` below `vb`.
    /// [`DEFAULT_ADAPTER`](crate::params::DEFAULT_ADAPTER) stands for no name, as in
    /// [`Adapter::new`].
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::{Adapter, AdapterConfig, params::ParamStore};
    /// use pad_ops::{Mode, rng::Key};
    ///
    /// let config = AdapterConfig { bottleneck: 2, ..Default::default() };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// let [day, night] = store.build(|vb| {
    ///     let vb = vb.pp("layer.0");
    ///     Ok::<_, pad_adapter::Error>([
    ///         Adapter::named("day", 8, &config, vb.clone())?,
    ///         Adapter::named("night", 8, &config, vb)?,
    ///     ])
    /// })?;
    /// assert_eq!(store.adapter_names(), ["day", "night"]);
    /// let x = Tensor::ones((1, 3, 8), DType::F32, &Device::Cpu)?;
    /// let which = |is_night: bool| if is_night { &night } else { &day };
    /// assert_eq!(which(true).forward(&x, &x, Mode::Eval)?.dims(), [1, 3, 8]);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Adapter::new`]; [`Error::Config`] for an invalid name: expected is a letter,
    /// then letters, digits, `-` or `_`.
    pub fn named(
        name: &str,
        embed_dim: usize,
        config: &AdapterConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        named::check_name(name)?;
        let segments = named::segments(name).into_iter().flatten();
        Self::new(embed_dim, config, segments.fold(vb, |vb, segment| vb.pp(segment)))
    }

    /// Whether [`pad_ops::mlp_branch`] takes it: beside the MLP, with ReLU.
    pub(crate) fn is_fused(&self) -> bool {
        self.placement == AdapterPlacement::Parallel && self.activation == AdapterActivation::Relu
    }

    /// Whether it adapts what a branch gives, not the residual stream.
    pub(crate) fn is_sequential(&self) -> bool {
        self.placement != AdapterPlacement::Parallel
    }

    /// Handles on its tensors, for [`pad_ops::mlp_branch`].
    pub(crate) fn weights(&self) -> AdapterWeights {
        AdapterWeights {
            norm: self.norm.as_ref().map(layers::LayerNorm::weights),
            down: self.down.weights(),
            up: self.up.weights(),
            dropout: self.dropout,
            scale: self.scale.clone(),
        }
    }

    /// `A(x)`, before any scale.
    fn branch(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = match &self.norm {
            Some(norm) => norm.forward(x)?,
            None => x.clone(),
        };
        let down = self.down.forward(&x)?;
        let bottleneck = match self.activation {
            AdapterActivation::Relu => down.relu()?,
            AdapterActivation::Gelu => pad_ops::gelu(&down)?,
        };
        self.up.forward(&pad_ops::dropout(&bottleneck, self.dropout, mode)?)
    }

    /// What the adapter adds to the block, `s * A(x)`.
    ///
    /// # Shapes
    /// `x` (.., D), the residual stream after attention; `mlp` (.., D), the *raw* output
    /// `MLP(LN(x))`, before layer scale or drop path (the gate looks at it); result (.., D). Any
    /// leading axes.
    ///
    /// # Errors
    /// Shapes, dtypes or devices that do not fit.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::{Adapter, AdapterConfig, params::ParamStore};
    /// use pad_ops::{Mode, rng::Key};
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0))
    ///     .with_value("adaptmlp.up_proj.bias", Tensor::ones(8, DType::F32, &Device::Cpu)?);
    /// let adapter = store.build(|vb| Adapter::new(8, &AdapterConfig::default(), vb))?;
    /// // A(x) is its last bias, 1, and an untrained gate gives 1/2.
    /// let x = Tensor::ones((1, 2, 8), DType::F32, &Device::Cpu)?;
    /// let delta = adapter.delta(&x, &x, Mode::Eval)?;
    /// assert_eq!(delta.flatten_all()?.to_vec1::<f32>()?, [0.5; 16]);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn delta(&self, x: &Tensor, mlp: &Tensor, mode: Mode) -> Result<Tensor> {
        scale::apply(&self.scale, &self.branch(x, mode)?, mlp)
    }

    /// `x + delta + mlp`: the whole tail of a block that has neither layer scale nor drop path.
    ///
    /// # Shapes
    /// As [`Adapter::delta`].
    ///
    /// # Errors
    /// As [`Adapter::delta`].
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::{Adapter, AdapterConfig, params::ParamStore};
    /// use pad_ops::{Mode, rng::Key};
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// let adapter = store.build(|vb| Adapter::new(8, &AdapterConfig::default(), vb))?;
    /// let x = Tensor::full(3_f32, (1, 2, 8), &Device::Cpu)?;
    /// let y = adapter.forward(&x, &x.ones_like()?, Mode::Eval)?; // a fresh adapter adds nothing
    /// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [4.0; 16]);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
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
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::{Adapter, AdapterConfig, Scale, params::ParamStore};
    /// use pad_ops::rng::Key;
    /// let x = Tensor::ones((1, 2, 8), DType::F32, &Device::Cpu)?;
    /// let scales = |scale| {
    ///     let config = AdapterConfig { scale, ..Default::default() };
    ///     let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    ///     store.build(|vb| Adapter::new(8, &config, vb))?.scales(&x, &x)
    /// };
    /// assert_eq!(scales(Scale::default())?.unwrap().to_vec2::<f32>()?, [[0.5, 0.5]]);
    /// assert!(scales(Scale::Fixed(0.1))?.is_none());
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn scales(&self, x: &Tensor, mlp: &Tensor) -> Result<Option<Tensor>> {
        scale::patchwise(&self.scale, |mode| self.branch(x, mode), mlp)
    }
}
