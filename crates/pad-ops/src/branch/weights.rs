//! The weights of both branches, as the operators take them: cheap handles on tensors.

use candle_core::Tensor;

use super::{
    layer_weights::{LinearWeights, NormWeights},
    precision::MatmulPrecision,
};
use crate::{Error, Fusion, Result, check, dropout, rope::RopeTables};

/// What a branch's result is multiplied by before it is added to the residual stream.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{Keep, LinearWeights, MlpWeights, Mode, NormWeights, ResidualWeights, mlp_branch};
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// let norm = NormWeights { weight: zeros(&[2])?, bias: zeros(&[2])?, eps: 1e-6 };
/// let (fc1, fc2) = (LinearWeights::new(zeros(&[4, 2])?, None), zeros(&[2, 4])?);
/// let fc2 = LinearWeights::new(fc2, Some((zeros(&[2])? + 8.0)?)); // the MLP gives 8
/// let gamma = Some(Tensor::new(&[0.5_f32, 0.25], &Device::Cpu)?);
/// let residual = ResidualWeights { gamma, factors: None };
/// let weights = MlpWeights { residual, ..MlpWeights::new(norm, fc1, fc2) };
/// let y = mlp_branch(&zeros(&[1, 1, 2])?, &weights, Mode::Eval, Keep::Activations)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[4.0, 2.0]]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ResidualWeights {
    /// Layer scale, (D).
    pub gamma: Option<Tensor>,
    /// A factor for each image, (B): what drop path draws
    /// ([`drop_path_factors`](crate::drop_path_factors)). It gets no gradient.
    pub factors: Option<Tensor>,
}

impl ResidualWeights {
    /// Whether the result is added as it is.
    pub(super) fn is_none(&self) -> bool {
        self.gamma.is_none() && self.factors.is_none()
    }
}

/// The activation between the two layers of an MLP.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{Keep, LinearWeights, MlpActivation, MlpWeights, Mode, NormWeights, mlp_branch};
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// let norm = NormWeights { weight: zeros(&[2])?, bias: zeros(&[2])?, eps: 1e-6 };
/// // One hidden value: the gate 10 and the value 3 come from fc1's bias.
/// let bias = Tensor::new(&[10_f32, 3.0], &Device::Cpu)?;
/// let fc1 = LinearWeights::new(zeros(&[2, 2])?, Some(bias));
/// let fc2 = LinearWeights::new((zeros(&[2, 1])? + 1.0)?, None);
/// let plain = MlpWeights::new(norm, fc1, fc2);
/// let weights = MlpWeights { activation: MlpActivation::SwiGlu, ..plain };
/// let y = mlp_branch(&zeros(&[1, 1, 2])?, &weights, Mode::Eval, Keep::Activations)?;
/// let silu = 10.0 / (1.0 + (-10_f32).exp());
/// assert!((y.to_vec3::<f32>()?[0][0][0] - 3.0 * silu).abs() < 1e-4);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MlpActivation {
    /// The exact GELU.
    #[default]
    Gelu,
    /// [`gelu_tanh`](crate::gelu_tanh).
    GeluTanh,
    /// [`quick_gelu`](crate::quick_gelu).
    QuickGelu,
    /// [`swiglu`](crate::swiglu): the first layer is twice as wide, gate before value.
    SwiGlu,
}

/// The weights of [`attention_branch`](crate::attention_branch).
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{AttentionWeights, LinearWeights, MatmulPrecision, NormWeights};
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// let norm = NormWeights { weight: zeros(&[8])?, bias: zeros(&[8])?, eps: 1e-6 };
/// let (qkv, proj) = (zeros(&[24, 8])?, zeros(&[8, 8])?);
/// let (qkv, proj) = (LinearWeights::new(qkv, None), LinearWeights::new(proj, None));
/// let plain = AttentionWeights::new(norm, qkv, proj, 2); // two heads of four values
/// assert!(plain.rope.is_none() && plain.inner_norm.is_none() && plain.residual.gamma.is_none());
/// let fast = AttentionWeights { precision: MatmulPrecision::Bf16, ..plain };
/// assert_eq!(fast.num_heads, 2);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AttentionWeights {
    /// (D).
    pub norm: NormWeights,
    /// (3 D, D).
    pub qkv: LinearWeights,
    /// Rotary positions of queries and keys. Default: none.
    pub rope: Option<RopeTables>,
    /// A norm in front of `proj` (EVA-CLIP), (D). Default: none.
    pub inner_norm: Option<NormWeights>,
    /// (D, D).
    pub proj: LinearWeights,
    /// Layer scale and drop path. Default: neither.
    pub residual: ResidualWeights,
    /// Whether `x` is added to the branch's result. Default: true.
    pub skip: bool,
    /// Heads; they divide D.
    pub num_heads: usize,
    /// Precision of the products of `qkv` and `proj`. Default: `f32`.
    pub precision: MatmulPrecision,
}

/// The weights of [`mlp_branch`](crate::mlp_branch).
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{LinearWeights, MlpActivation, MlpWeights, NormWeights};
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// let norm = NormWeights { weight: zeros(&[8])?, bias: zeros(&[8])?, eps: 1e-6 };
/// let (fc1, fc2) = (zeros(&[32, 8])?, zeros(&[8, 32])?);
/// let plain = MlpWeights::new(norm, LinearWeights::new(fc1, None), LinearWeights::new(fc2, None));
/// assert_eq!((plain.activation, plain.adapter.is_none()), (MlpActivation::Gelu, true));
/// let clip = MlpWeights { activation: MlpActivation::QuickGelu, ..plain };
/// assert_eq!(clip.fc1.weight.dims(), [32, 8]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MlpWeights {
    /// (D).
    pub norm: NormWeights,
    /// (H, D), any H; (2 H, D) for [`MlpActivation::SwiGlu`].
    pub fc1: LinearWeights,
    /// Between the layers. Default: GELU.
    pub activation: MlpActivation,
    /// A norm in front of `fc2` (EVA-02), (H). Default: none.
    pub inner_norm: Option<NormWeights>,
    /// (D, H).
    pub fc2: LinearWeights,
    /// Layer scale and drop path of the MLP; the adapter's part has neither. Default: neither.
    pub residual: ResidualWeights,
    /// Whether `x` is added to the branch's result. Default: true.
    pub skip: bool,
    /// PAD's adapter, parallel to the MLP: its gate sees the MLP's result before layer scale.
    /// Default: none.
    pub adapter: Option<AdapterWeights>,
    /// Precision of the products of all linear layers, the adapter's too. Default: `f32`.
    pub precision: MatmulPrecision,
}

/// The weights of an adapter: LayerNorm → down → ReLU → dropout → up, times a scale.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{AdapterScale, AdapterWeights, Keep, LinearWeights, MlpWeights, Mode};
/// use pad_ops::{NormWeights, mlp_branch};
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// // A bottleneck of one value, max(0, 3), from which 2 goes to each value of a token: A(x) = 6.
/// let bias = Some(Tensor::new(&[3_f32], &Device::Cpu)?);
/// let adapter = AdapterWeights {
///     norm: None,
///     down: LinearWeights::new(zeros(&[1, 2])?, bias),
///     up: LinearWeights::new((zeros(&[2, 1])? + 2.0)?, None),
///     dropout: 0.0,
///     scale: AdapterScale::Fixed(0.5),
/// };
/// let norm = NormWeights { weight: zeros(&[2])?, bias: zeros(&[2])?, eps: 1e-6 };
/// let (fc1, fc2) = (zeros(&[4, 2])?, zeros(&[2, 4])?); // an MLP that gives nothing
/// let plain = MlpWeights::new(norm, LinearWeights::new(fc1, None), LinearWeights::new(fc2, None));
/// let weights = MlpWeights { adapter: Some(adapter), ..plain };
/// let x = Tensor::new(&[[[10_f32, 20.0]]], &Device::Cpu)?;
/// let y = mlp_branch(&x, &weights, Mode::Eval, Keep::Activations)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[13.0, 23.0]]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdapterWeights {
    /// (D).
    pub norm: Option<NormWeights>,
    /// (K, D), `K` the bottleneck.
    pub down: LinearWeights,
    /// (D, K).
    pub up: LinearWeights,
    /// Probability, on the bottleneck.
    pub dropout: f64,
    /// The scale `s`.
    pub scale: AdapterScale,
}

/// An adapter's scale.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{AdapterScale, Fusion, fuse_patchwise};
/// // A fresh gate is zero: every patch has the scale sigmoid(0) = 1/2.
/// let gate = Tensor::zeros((1, 4), DType::F32, &Device::Cpu)?;
/// let scale = AdapterScale::Patchwise { gate, fusion: Fusion::Concat };
/// let AdapterScale::Patchwise { gate, fusion } = &scale else { panic!() };
/// let branch = Tensor::new(&[[[2_f32, 4.0]]], &Device::Cpu)?; // A(x)
/// let scaled = fuse_patchwise(&branch, &branch, gate, *fusion)?;
/// assert_eq!(scaled.to_vec3::<f32>()?, [[[1.0, 2.0]]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Debug)]
pub enum AdapterScale {
    /// A constant.
    Fixed(f64),
    /// One trained number, (1).
    Learnable(Tensor),
    /// One for each patch, from `gate` ([`fuse_patchwise`](crate::fuse_patchwise)).
    Patchwise {
        /// (1, 2 D) or (1, D).
        gate: Tensor,
        /// Its input.
        fusion: Fusion,
    },
}

impl ResidualWeights {
    fn check(&self, op: &'static str, x: &Tensor, d: usize) -> Result<()> {
        if let Some(gamma) = &self.gamma {
            check::expect_shape(op, "gamma", gamma, &[d])?;
            check::expect_like(op, "gamma", gamma, x)?;
        }
        if let Some(factors) = &self.factors {
            check::expect_shape(op, "factors", factors, &[x.dim(0)?])?;
            check::expect_like(op, "factors", factors, x)?;
        }
        Ok(())
    }

    fn contiguous(&self) -> Result<Self> {
        let of = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::contiguous).transpose();
        // Drawn numbers, no parameter: never part of the graph.
        let factors = of(&self.factors)?.map(|factors| factors.detach());
        Ok(Self { gamma: of(&self.gamma)?, factors })
    }
}

impl AttentionWeights {
    /// The weights of a branch with everything else at its default.
    pub fn new(
        norm: NormWeights,
        qkv: LinearWeights,
        proj: LinearWeights,
        num_heads: usize,
    ) -> Self {
        Self {
            norm,
            qkv,
            rope: None,
            inner_norm: None,
            proj,
            residual: ResidualWeights::default(),
            skip: true,
            num_heads,
            precision: MatmulPrecision::F32,
        }
    }

    /// The weights with layers without adapters; `None` if no weight can hold them.
    pub(super) fn merged(&self) -> Result<Option<Self>> {
        let (Some(qkv), Some(proj)) = (self.qkv.merged()?, self.proj.merged()?) else {
            return Ok(None);
        };
        Ok(Some(Self { qkv, proj, ..self.clone() }))
    }

    pub(super) fn check(&self, op: &'static str, x: &Tensor) -> Result<()> {
        let d = check::last_dim(op, "x", x)?;
        self.norm.check(op, ["norm.weight", "norm.bias"], x, d)?;
        self.qkv.check(op, ["qkv.weight", "qkv.bias"], x, [3 * d, d])?;
        if let Some(norm) = &self.inner_norm {
            norm.check(op, ["inner norm.weight", "inner norm.bias"], x, d)?;
        }
        self.proj.check(op, ["proj.weight", "proj.bias"], x, [d, d])?;
        self.residual.check(op, x, d)?;
        if self.num_heads == 0 || !d.is_multiple_of(self.num_heads) {
            return Err(Error::Value {
                op,
                arg: "num_heads",
                expected: format!("a divisor of embed_dim ({d})"),
                found: self.num_heads.to_string(),
            });
        }
        match &self.rope {
            Some(tables) => tables.expect(op, x, (x.dim(0)?, x.dim(1)?, d / self.num_heads)),
            None => Ok(()),
        }
    }

    /// The same weights as the kernels need them; no copy of what is contiguous already.
    pub(super) fn contiguous(&self) -> Result<Self> {
        Ok(Self {
            norm: self.norm.contiguous()?,
            qkv: self.qkv.contiguous()?,
            rope: self.rope.as_ref().map(RopeTables::contiguous).transpose()?,
            inner_norm: self.inner_norm.as_ref().map(NormWeights::contiguous).transpose()?,
            proj: self.proj.contiguous()?,
            residual: self.residual.contiguous()?,
            skip: self.skip,
            num_heads: self.num_heads,
            precision: self.precision,
        })
    }

    /// All tensors, in the order of the gradients: norm, qkv, inner norm, proj, gamma, weight
    /// before bias.
    pub(super) fn tensors(&self) -> Vec<&Tensor> {
        let mut all = Vec::with_capacity(9);
        self.norm.push(&mut all);
        self.qkv.push(&mut all);
        if let Some(norm) = &self.inner_norm {
            norm.push(&mut all);
        }
        self.proj.push(&mut all);
        all.extend(&self.residual.gamma);
        all
    }
}

impl MlpWeights {
    /// The weights of a branch with everything else at its default.
    pub fn new(norm: NormWeights, fc1: LinearWeights, fc2: LinearWeights) -> Self {
        Self {
            norm,
            fc1,
            activation: MlpActivation::Gelu,
            inner_norm: None,
            fc2,
            residual: ResidualWeights::default(),
            skip: true,
            adapter: None,
            precision: MatmulPrecision::F32,
        }
    }

    /// The weights with layers without adapters; `None` if no weight can hold them.
    pub(super) fn merged(&self) -> Result<Option<Self>> {
        let (Some(fc1), Some(fc2)) = (self.fc1.merged()?, self.fc2.merged()?) else {
            return Ok(None);
        };
        Ok(Some(Self { fc1, fc2, ..self.clone() }))
    }

    pub(super) fn check(&self, op: &'static str, x: &Tensor) -> Result<()> {
        let d = check::last_dim(op, "x", x)?;
        self.norm.check(op, ["norm.weight", "norm.bias"], x, d)?;
        check::expect_rank(op, "fc2.weight", &self.fc2.weight, 2, "(D, H)")?;
        let hidden = self.fc2.weight.dim(1)?;
        let wide = if self.activation == MlpActivation::SwiGlu { 2 * hidden } else { hidden };
        self.fc1.check(op, ["fc1.weight", "fc1.bias"], x, [wide, d])?;
        if let Some(norm) = &self.inner_norm {
            norm.check(op, ["inner norm.weight", "inner norm.bias"], x, hidden)?;
        }
        self.fc2.check(op, ["fc2.weight", "fc2.bias"], x, [d, hidden])?;
        self.residual.check(op, x, d)?;
        match &self.adapter {
            Some(adapter) => adapter.check(op, x, d),
            None => Ok(()),
        }
    }

    /// The same weights as the kernels need them; no copy of what is contiguous already.
    pub(super) fn contiguous(&self) -> Result<Self> {
        Ok(Self {
            norm: self.norm.contiguous()?,
            fc1: self.fc1.contiguous()?,
            activation: self.activation,
            inner_norm: self.inner_norm.as_ref().map(NormWeights::contiguous).transpose()?,
            fc2: self.fc2.contiguous()?,
            residual: self.residual.contiguous()?,
            skip: self.skip,
            adapter: self.adapter.as_ref().map(AdapterWeights::contiguous).transpose()?,
            precision: self.precision,
        })
    }

    /// All tensors, in the order of the gradients: norm, fc1, inner norm, fc2, gamma, the
    /// adapter's.
    pub(super) fn tensors(&self) -> Vec<&Tensor> {
        let mut all = Vec::with_capacity(16);
        self.norm.push(&mut all);
        self.fc1.push(&mut all);
        if let Some(norm) = &self.inner_norm {
            norm.push(&mut all);
        }
        self.fc2.push(&mut all);
        all.extend(&self.residual.gamma);
        if let Some(adapter) = &self.adapter {
            adapter.push(&mut all);
        }
        all
    }
}

impl AdapterWeights {
    fn check(&self, op: &'static str, x: &Tensor, d: usize) -> Result<()> {
        if let Some(norm) = &self.norm {
            norm.check(op, ["adapter norm.weight", "adapter norm.bias"], x, d)?;
        }
        check::expect_rank(op, "down.weight", &self.down.weight, 2, "(K, D)")?;
        let k = self.down.weight.dim(0)?;
        self.down.check(op, ["down.weight", "down.bias"], x, [k, d])?;
        self.up.check(op, ["up.weight", "up.bias"], x, [d, k])?;
        dropout::check_probability(op, self.dropout)?;
        match &self.scale {
            AdapterScale::Fixed(scale) => check::expect_finite(op, "scale", *scale),
            AdapterScale::Learnable(scale) => {
                check::expect_shape(op, "scale", scale, &[1])?;
                check::expect_like(op, "scale", scale, x)
            }
            AdapterScale::Patchwise { gate, fusion } => {
                check::expect_shape(op, "gate", gate, &[1, fusion.gate_width(d)])?;
                check::expect_like(op, "gate", gate, x)
            }
        }
    }

    fn contiguous(&self) -> Result<Self> {
        let scale = match &self.scale {
            AdapterScale::Fixed(scale) => AdapterScale::Fixed(*scale),
            AdapterScale::Learnable(scale) => AdapterScale::Learnable(scale.contiguous()?),
            AdapterScale::Patchwise { gate, fusion } => {
                AdapterScale::Patchwise { gate: gate.contiguous()?, fusion: *fusion }
            }
        };
        Ok(Self {
            norm: self.norm.as_ref().map(NormWeights::contiguous).transpose()?,
            down: self.down.contiguous()?,
            up: self.up.contiguous()?,
            dropout: self.dropout,
            scale,
        })
    }

    /// In the order of the gradients: norm, down, up, scale or gate.
    fn push<'a>(&'a self, into: &mut Vec<&'a Tensor>) {
        if let Some(norm) = &self.norm {
            norm.push(into);
        }
        self.down.push(into);
        self.up.push(into);
        match &self.scale {
            AdapterScale::Fixed(_) => {}
            AdapterScale::Learnable(scale) => into.push(scale),
            AdapterScale::Patchwise { gate, .. } => into.push(gate),
        }
    }
}
