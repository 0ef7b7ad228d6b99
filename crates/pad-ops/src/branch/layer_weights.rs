//! The weights of linear layers and norms, as the operators take them.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use candle_core::Tensor;

use super::low_rank_weights::{self, LowRankWeights};
use crate::{Result, check, cpu::bf16::Packed};

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

impl LinearWeights {
    /// Creates a layer of `weight` (O, I) and `bias` (O). A weight that tracks no gradient must not
    /// change: products in [bf16](crate::MatmulPrecision::Bf16) pack it once for the forward of this value
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

    pub(super) fn check(
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

    pub(super) fn push<'a>(&'a self, into: &mut Vec<&'a Tensor>) {
        into.push(&self.weight);
        into.extend(&self.bias);
        into.extend(self.low_rank.iter().flat_map(LowRankWeights::tensors));
    }

    pub(super) fn contiguous(&self) -> Result<Self> {
        let bias = self.bias.as_ref().map(Tensor::contiguous).transpose()?;
        let (weight, packed) = (self.weight.contiguous()?, self.packed.clone());
        let low_rank =
            self.low_rank.iter().map(LowRankWeights::contiguous).collect::<Result<_>>()?;
        Ok(Self { weight, bias, low_rank, packed })
    }
}

impl NormWeights {
    pub(super) fn check(
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

    pub(super) fn push<'a>(&'a self, into: &mut Vec<&'a Tensor>) {
        into.extend([&self.weight, &self.bias]);
    }

    pub(super) fn contiguous(&self) -> Result<Self> {
        let (weight, bias) = (self.weight.contiguous()?, self.bias.contiguous()?);
        Ok(Self { weight, bias, eps: self.eps })
    }
}
