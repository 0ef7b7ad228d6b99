//! The low-rank adapters of one linear layer, and the weight that they make of it.

use candle_core::{D, Tensor};
use candle_nn::{Init, VarBuilder};
use pad_ops::LowRankUpdate;

use super::config::{LoraConfig, LoraTarget};
use crate::Result;

/// The names of an adapter's tensors.
pub(crate) const A: &str = "lora_A.weight";
pub(crate) const B: &str = "lora_B.weight";
/// The rows' lengths, as multiples of those of the frozen weight.
pub(crate) const MAGNITUDE: &str = "lora_magnitude";
/// What is added to the frozen bias.
pub(crate) const BIAS: &str = "lora_bias";

/// One adapter of a layer.
#[derive(Clone, Debug)]
struct Part {
    a: Tensor,
    b: Tensor,
    scale: f64,
    magnitude: Option<Tensor>,
    bias: Option<Tensor>,
    /// First row of the layer that it adapts, and their number.
    rows: (usize, usize),
}

/// The adapters of one layer, by the rows that they adapt.
#[derive(Clone, Debug)]
pub(crate) struct LowRank(Vec<Part>);

impl LowRank {
    /// The adapters that `config` puts on a layer (O, I) of a block, which `vb` stands at; `None`
    /// without any.
    pub(crate) fn new(
        config: &LoraConfig,
        targets: &[LoraTarget],
        [outputs, inputs]: [usize; 2],
        vb: &VarBuilder,
    ) -> Result<Option<Self>> {
        let mut parts = Vec::new();
        for &target in targets {
            let Some(size) = config.targets.get(target) else { continue };
            let rows = match target.third() {
                Some(third) => (third * outputs / 3, outputs / 3),
                None => (0, outputs),
            };
            let vb = vb.pp(target.path());
            // Kaiming uniform with a = sqrt(5): bound 1 / sqrt(fan_in).
            let bound = 1.0 / (inputs as f64).sqrt();
            let uniform = Init::Uniform { lo: -bound, up: bound };
            let zero = Init::Const(0.0);
            let optional = |is_there: bool, name: &str, init| {
                is_there.then(|| vb.get_with_hints(rows.1, name, init)).transpose()
            };
            parts.push(Part {
                a: vb.get_with_hints((size.rank, inputs), A, uniform)?,
                b: vb.get_with_hints((rows.1, size.rank), B, zero)?,
                scale: config.scale(size),
                magnitude: optional(config.dora, MAGNITUDE, Init::Const(1.0))?,
                bias: optional(config.bias, BIAS, zero)?,
                rows,
            });
        }
        Ok((!parts.is_empty()).then_some(Self(parts)))
    }

    /// Whether any tensor of theirs trains.
    pub(crate) fn tracks(&self) -> bool {
        self.0.iter().any(|part| {
            let rest = part.magnitude.iter().chain(&part.bias);
            [&part.a, &part.b].into_iter().chain(rest).any(Tensor::track_op)
        })
    }

    /// The layer's weight (O, I) and bias (O) with the adapters in them.
    pub(crate) fn merged(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let outputs = weight.dim(0)?;
        let updates: Vec<LowRankUpdate> = self.0.iter().map(Part::update).collect();
        let sum = pad_ops::low_rank_update(weight, &updates)?;
        let mut factors = Vec::new();
        for part in &self.0 {
            factors.extend(part.factor(weight, &sum)?.map(|factor| (part.rows, factor)));
        }
        let merged = match factors.is_empty() {
            true => sum,
            false => sum.broadcast_mul(&by_rows(outputs, &factors, weight)?)?,
        };
        Ok((merged, self.bias(outputs, bias)?))
    }

    fn bias(&self, outputs: usize, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
        let added = self.0.iter().filter_map(|part| Some((part, part.bias.as_ref()?)));
        let mut updates = Vec::new();
        for (part, added) in added {
            // A column, so that a frozen bias gets no gradient.
            let a = Tensor::ones((1, 1), added.dtype(), added.device())?;
            let b = added.unsqueeze(1)?;
            updates.push(LowRankUpdate { a, b, scale: 1.0, first_row: part.rows.0 });
        }
        let (Some(first), false) = (self.0.first(), updates.is_empty()) else {
            return Ok(bias.cloned());
        };
        let column = match bias {
            Some(bias) => bias.unsqueeze(1)?,
            None => Tensor::zeros((outputs, 1), first.a.dtype(), first.a.device())?,
        };
        let sum = Some(pad_ops::low_rank_update(&column, &updates)?.squeeze(1)?);
        Ok(sum)
    }
}

impl Part {
    /// What is added to the weight.
    fn update(&self) -> LowRankUpdate {
        let (a, b) = (self.a.clone(), self.b.clone());
        LowRankUpdate { a, b, scale: self.scale, first_row: self.rows.0 }
    }

    /// What the rows of the sum are multiplied by, (rows); `None` without magnitudes. Lengths are
    /// constants in the backward.
    fn factor(&self, weight: &Tensor, sum: &Tensor) -> Result<Option<Tensor>> {
        let Some(magnitude) = &self.magnitude else { return Ok(None) };
        let lengths = |weight: &Tensor| -> Result<Tensor> {
            let rows = weight.detach().narrow(0, self.rows.0, self.rows.1)?;
            Ok(rows.sqr()?.sum(D::Minus1)?.sqrt()?)
        };
        Ok(Some((magnitude * (lengths(weight)? / lengths(sum)?)?)?))
    }
}

/// Factors of runs of rows as one of all rows, (O, 1); rows without one are multiplied by 1.
fn by_rows(outputs: usize, factors: &[((usize, usize), Tensor)], like: &Tensor) -> Result<Tensor> {
    let ones = |count: usize| Tensor::ones(count, like.dtype(), like.device());
    let (mut all, mut at) = (Vec::new(), 0);
    for ((start, count), factor) in factors {
        if *start > at {
            all.push(ones(start - at)?);
        }
        all.push(factor.clone());
        at = start + count;
    }
    if at < outputs {
        all.push(ones(outputs - at)?);
    }
    Ok(Tensor::cat(&all, 0)?.unsqueeze(1)?)
}
