//! The weights of both branches, as the operators take them: cheap handles on tensors.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use candle_core::Tensor;

use super::low_rank_weights::{self, LowRankWeights};
use crate::{Error, Fusion, Result, check, cpu::bf16::Packed, dropout, rope::RopeTables};

/// The tensors that a branch keeps from forward to backward.
///
/// ```
/// use pad_ops::Keep;
/// assert_eq!(Keep::default(), Keep::Activations);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All that the backward needs.
    #[default]
    Activations,
    /// Its input alone; the backward computes the forward again (activation checkpointing): a third
    /// more time, a fraction of the memory.
    Nothing,
}

/// The precision of the matrix products of linear layers. Everything else (residual stream, norms,
/// attention, gradients between operators) stays `f32`.
///
/// ```
/// use pad_ops::MatmulPrecision;
/// assert_eq!("bf16".parse::<MatmulPrecision>()?, MatmulPrecision::Bf16);
/// assert_eq!(MatmulPrecision::default().to_string(), "f32");
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatmulPrecision {
    /// That of the tensors.
    #[default]
    F32,
    /// Operands rounded to bf16, sums in `f32` (PyTorch's autocast): AVX512-BF16 where the
    /// processor has it.
    Bf16,
}

/// `f32` or `bf16`.
impl fmt::Display for MatmulPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// Parses what [`Display`](fmt::Display) writes.
///
/// ```
/// use pad_ops::MatmulPrecision;
/// assert_eq!("bf16".parse::<MatmulPrecision>().unwrap(), MatmulPrecision::Bf16);
/// assert_eq!(
///     "fp16".parse::<MatmulPrecision>().unwrap_err().to_string(),
///     "precision: expected f32 or bf16, found `fp16`"
/// );
/// ```
impl FromStr for MatmulPrecision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(Error::UnknownName {
                what: "precision",
                known: &["f32", "bf16"],
                found: name.to_string(),
            }),
        }
    }
}

/// `weight` (O, I) and `bias` (O) of a linear layer, and the low-rank adapters beside it.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::LinearWeights;
/// let layer = LinearWeights::new(Tensor::zeros((3, 2), DType::F32, &Device::Cpu)?, None);
/// let bias = Tensor::zeros(3, DType::F32, &Device::Cpu)?;
/// let layer = layer.with_bias(Some(bias));
/// assert_eq!((layer.weight.dims(), layer.bias.unwrap().dims()), (&[3, 2][..], &[3][..]));
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LinearWeights {
    /// (O, I), PyTorch's layout.
    pub weight: Tensor,
    /// (O).
    pub bias: Option<Tensor>,
    /// Low-rank adapters, on rows that do not overlap. Default: none.
    pub low_rank: Vec<LowRankWeights>,
    /// The weight as products in bf16 read it, if it is kept.
    packed: PackedWeight,
}

/// A lazily packed bf16 copy of a weight that never changes, in the order in which the forward
/// reads it: shared by clones, made by the first product. The backward packs its own order each
/// time: that costs a percent of a step's time and saves as much memory again.
#[derive(Clone, Default)]
pub(super) struct PackedWeight(Option<Arc<Copies>>);

/// The copies of a weight that never changes: for the CPU's products, for a device's.
#[derive(Default)]
struct Copies {
    packed: OnceLock<Packed>,
    narrow: OnceLock<Tensor>,
}

impl PackedWeight {
    /// The packed weight, made by `pack` once; `None` if it is not kept.
    pub(super) fn get(&self, pack: impl FnOnce() -> Packed) -> Option<&Packed> {
        let packed = &self.0.as_deref()?.packed;
        if packed.get().is_none() {
            // Not `get_or_init`: packing works in parallel, and a thread that waits for its own
            // work would wait for ever.
            let _ = packed.set(pack());
        }
        packed.get()
    }
}

impl PackedWeight {
    /// The weight in the type of a device's products, made by `narrow` once; each time anew if it is
    /// not kept.
    pub(super) fn narrow(
        &self,
        narrow: impl FnOnce() -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        let Some(copies) = self.0.as_deref() else { return narrow() };
        if let Some(kept) = copies.narrow.get() {
            return Ok(kept.clone());
        }
        let made = narrow()?;
        Ok(copies.narrow.get_or_init(|| made).clone())
    }

    /// Whether copies are kept.
    pub(super) fn keeps(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for PackedWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = self.0.as_deref().map(|copies| copies.packed.get().is_some());
        f.debug_tuple("PackedWeight").field(&filled).finish()
    }
}

/// `weight` and `bias` (D) of a layer norm.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::NormWeights;
/// let vector = |values: &[f32]| Tensor::new(values, &Device::Cpu);
/// let norm = NormWeights { weight: vector(&[2.0, 2.0])?, bias: vector(&[0.0, 1.0])?, eps: 0.0 };
/// let x = vector(&[1.0, 3.0])?.reshape((1, 2))?;
/// let y = pad_ops::layer_norm(&x, &norm.weight, &norm.bias, norm.eps)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[-2.0, 3.0]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NormWeights {
    /// (D).
    pub weight: Tensor,
    /// (D).
    pub bias: Tensor,
    /// Added to the variance.
    pub eps: f64,
}

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

impl LinearWeights {
    /// Creates a layer of `weight` (O, I) and `bias` (O). A weight that tracks no gradient must not
    /// change: products in [bf16](MatmulPrecision::Bf16) pack it once for the forward of this value
    /// and its clones, which takes 2 bytes a value.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        let packed = match weight.track_op() {
            true => PackedWeight::default(),
            false => PackedWeight(Some(Default::default())),
        };
        Self { weight, bias, low_rank: Vec::new(), packed }
    }

    /// The same layer with low-rank adapters beside it; a packed weight stays shared.
    #[must_use]
    pub fn with_low_rank(self, low_rank: Vec<LowRankWeights>) -> Self {
        Self { low_rank, ..self }
    }

    /// The layer as one without adapters: their products are added to a copy of the weight.
    /// `None` if one of them drops values of its input, which no weight can hold.
    ///
    /// # Errors
    /// Adapters that do not fit the weight.
    pub fn merged(&self) -> Result<Option<Self>> {
        let merged = low_rank_weights::merged(&self.weight, &self.low_rank)?;
        Ok(merged.map(|weight| match self.low_rank.is_empty() {
            true => self.clone(),
            false => Self::new(weight, self.bias.clone()),
        }))
    }

    /// Whether a gradient of the layer's tensors, the bias apart, reads its input.
    pub(super) fn reads_input(&self) -> bool {
        let adapters = self.low_rank.iter().flat_map(LowRankWeights::tensors);
        std::iter::once(&self.weight).chain(adapters).any(Tensor::track_op)
    }

    /// The same layer with another bias (O); a packed weight stays shared.
    #[must_use]
    pub fn with_bias(&self, bias: Option<Tensor>) -> Self {
        Self { bias, ..self.clone() }
    }

    pub(super) fn packed(&self) -> &PackedWeight {
        &self.packed
    }

    fn check(
        &self,
        op: &'static str,
        args: [&'static str; 2],
        x: &Tensor,
        shape: [usize; 2],
    ) -> Result<()> {
        check::expect_shape(op, args[0], &self.weight, &shape)?;
        check::expect_like(op, args[0], &self.weight, x)?;
        if let Some(bias) = &self.bias {
            check::expect_shape(op, args[1], bias, &shape[..1])?;
            check::expect_like(op, args[1], bias, x)?;
        }
        low_rank_weights::check(op, x, shape, &self.low_rank)
    }

    fn push<'a>(&'a self, into: &mut Vec<&'a Tensor>) {
        into.push(&self.weight);
        into.extend(&self.bias);
        into.extend(self.low_rank.iter().flat_map(LowRankWeights::tensors));
    }

    fn contiguous(&self) -> Result<Self> {
        let bias = self.bias.as_ref().map(Tensor::contiguous).transpose()?;
        let (weight, packed) = (self.weight.contiguous()?, self.packed.clone());
        let low_rank =
            self.low_rank.iter().map(LowRankWeights::contiguous).collect::<Result<_>>()?;
        Ok(Self { weight, bias, low_rank, packed })
    }
}

impl NormWeights {
    fn check(
        &self,
        op: &'static str,
        args: [&'static str; 2],
        x: &Tensor,
        width: usize,
    ) -> Result<()> {
        check::expect_eps(op, self.eps)?;
        for (arg, tensor) in args.into_iter().zip([&self.weight, &self.bias]) {
            check::expect_shape(op, arg, tensor, &[width])?;
            check::expect_like(op, arg, tensor, x)?;
        }
        Ok(())
    }

    fn push<'a>(&'a self, into: &mut Vec<&'a Tensor>) {
        into.extend([&self.weight, &self.bias]);
    }

    fn contiguous(&self) -> Result<Self> {
        let (weight, bias) = (self.weight.contiguous()?, self.bias.contiguous()?);
        Ok(Self { weight, bias, eps: self.eps })
    }
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
