//! Low-rank adapters beside a layer, as the operators take them.

use candle_core::Tensor;

use crate::{Error, LowRankUpdate, Mode, Result, check, dropout, low_rank_update};

/// A low-rank adapter beside some rows of a linear layer (LoRA, Hu et al., 2021): these give
/// `f (W x + s B A dropout(x)) + bias`. Nothing of the layer's own size is made: the products are
/// `rank` wide.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_ops::LowRankWeights;
/// let ones = |shape: [usize; 2]| Tensor::ones(&shape[..], DType::F32, &Device::Cpu);
/// let lora = LowRankWeights::new(ones([2, 8])?, ones([8, 2])?, 0.5, 0);
/// assert_eq!((lora.dropout, lora.factor.is_none()), (0.0, true));
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LowRankWeights {
    /// (r, I).
    pub a: Tensor,
    /// (O', r).
    pub b: Tensor,
    /// `s`.
    pub scale: f64,
    /// The first of the O' rows that it adapts.
    pub first_row: usize,
    /// Probability with which `a` does not see a value of its input.
    pub dropout: f64,
    /// Whether values are dropped, and which.
    pub mode: Mode,
    /// `f` (O'), the rows' lengths in units of those of the sum (DoRA). Default: none.
    pub factor: Option<Tensor>,
}

impl LowRankWeights {
    /// An adapter without dropout and factor.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// use pad_ops::{LinearWeights, LowRankWeights};
    /// let tensor = |rows: &[[f32; 2]]| {
    ///     Tensor::from_slice(rows.as_flattened(), (rows.len(), 2), &Device::Cpu)
    /// };
    /// let b = Tensor::new(&[[2_f32]], &Device::Cpu)?;
    /// let layer = LinearWeights::new(tensor(&[[1.0, 0.0], [0.0, 1.0]])?, None)
    ///     .with_low_rank(vec![LowRankWeights::new(tensor(&[[1.0, 10.0]])?, b, 0.5, 1)]);
    /// let merged = layer.merged()?.unwrap();
    /// assert_eq!(merged.weight.to_vec2::<f32>()?, [[1.0, 0.0], [1.0, 11.0]]);
    /// # Ok::<(), pad_ops::Error>(())
    /// ```
    pub fn new(a: Tensor, b: Tensor, scale: f64, first_row: usize) -> Self {
        Self { a, b, scale, first_row, dropout: 0.0, mode: Mode::Eval, factor: None }
    }

    /// Whether its input is dropped in part, so that no weight holds it.
    fn drops(&self) -> bool {
        self.dropout > 0.0 && self.mode != Mode::Eval
    }

    fn check(&self, op: &'static str, x: &Tensor, [outputs, inputs]: [usize; 2]) -> Result<()> {
        check::expect_rank(op, "low-rank a", &self.a, 2, "(r, I)")?;
        let rank = self.a.dim(0)?;
        check::expect_shape(op, "low-rank a", &self.a, &[rank, inputs])?;
        check::expect_rank(op, "low-rank b", &self.b, 2, "(O', r)")?;
        let rows = self.b.dim(0)?;
        check::expect_shape(op, "low-rank b", &self.b, &[rows, rank])?;
        check::expect_like(op, "low-rank a", &self.a, x)?;
        check::expect_like(op, "low-rank b", &self.b, x)?;
        check::expect_finite(op, "low-rank scale", self.scale)?;
        dropout::check_probability(op, self.dropout)?;
        if let Some(factor) = &self.factor {
            check::expect_shape(op, "low-rank factor", factor, &[rows])?;
            check::expect_like(op, "low-rank factor", factor, x)?;
        }
        if rank == 0 || self.first_row.saturating_add(rows) > outputs {
            return Err(Error::Value {
                op,
                arg: "low-rank adapter",
                expected: format!("a rank of at least 1 and rows below {outputs}"),
                found: format!(
                    "rank {rank}, rows {} to {}",
                    self.first_row,
                    self.first_row.saturating_add(rows)
                ),
            });
        }
        Ok(())
    }

    /// In the order of the gradients.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        [&self.a, &self.b].into_iter().chain(&self.factor)
    }

    pub(super) fn contiguous(&self) -> Result<Self> {
        let factor = self.factor.as_ref().map(Tensor::contiguous).transpose()?;
        Ok(Self { a: self.a.contiguous()?, b: self.b.contiguous()?, factor, ..self.clone() })
    }
}

/// Checks the adapters of a layer (O, I) on `x`.
pub(super) fn check(
    op: &'static str,
    x: &Tensor,
    shape: [usize; 2],
    all: &[LowRankWeights],
) -> Result<()> {
    let mut taken: Vec<(usize, usize)> = Vec::with_capacity(all.len());
    for part in all {
        part.check(op, x, shape)?;
        let (first, end) = (part.first_row, part.first_row + part.b.dim(0)?);
        if let Some((from, to)) = taken.iter().find(|(from, to)| first < *to && *from < end) {
            return Err(Error::Value {
                op,
                arg: "low-rank adapters",
                expected: "rows that do not overlap".into(),
                found: format!("{from} to {to} and {first} to {end}"),
            });
        }
        taken.push((first, end));
    }
    Ok(())
}

/// `weight` with the adapters in it; `None` if one drops values of its input, which no weight can
/// hold.
pub(super) fn merged(weight: &Tensor, all: &[LowRankWeights]) -> Result<Option<Tensor>> {
    if all.is_empty() {
        return Ok(Some(weight.clone()));
    }
    if all.iter().any(LowRankWeights::drops) {
        return Ok(None);
    }
    let update = |part: &LowRankWeights| LowRankUpdate {
        a: part.a.clone(),
        b: part.b.clone(),
        scale: part.scale,
        first_row: part.first_row,
    };
    let updates: Vec<LowRankUpdate> = all.iter().map(update).collect();
    let sum = low_rank_update(weight, &updates)?;
    Ok(Some(match factors(weight, all)? {
        Some(factors) => sum.broadcast_mul(&factors.unsqueeze(1)?)?,
        None => sum,
    }))
}

/// What the rows of `weight` (O, I) are multiplied by, (O); `None` without any factor.
pub(super) fn factors(weight: &Tensor, all: &[LowRankWeights]) -> Result<Option<Tensor>> {
    let outputs = weight.dim(0)?;
    let ones = |count: usize| Tensor::ones(count, weight.dtype(), weight.device());
    let found = all.iter().filter_map(|part| Some((part.first_row, part.factor.as_ref()?)));
    let mut found: Vec<(usize, &Tensor)> = found.collect();
    found.sort_by_key(|(first, _)| *first);
    let (mut pieces, mut at) = (Vec::new(), 0);
    for (first, factor) in found {
        if first > at {
            pieces.push(ones(first - at)?);
        }
        pieces.push(factor.clone());
        at = first + factor.dim(0)?;
    }
    if pieces.is_empty() {
        return Ok(None);
    }
    if at < outputs {
        pieces.push(ones(outputs - at)?);
    }
    Ok(Some(Tensor::cat(&pieces, 0)?))
}
