//! The low-rank adapters of one linear layer: what stands beside it, and the weight that they make
//! of it.

use candle_core::{D, Tensor};
use candle_nn::{Init, VarBuilder};
use pad_ops::{LinearWeights, LowRankUpdate, LowRankWeights, Mode};

use super::config::{LoraConfig, LoraTarget};
use crate::{Result, params::named};

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
    target: LoraTarget,
}

/// The adapters of one layer, by the rows that they adapt.
#[derive(Clone, Debug)]
pub(crate) struct LowRank {
    parts: Vec<Part>,
    dropout: f64,
}

impl LowRank {
    /// The adapters called `name` that `config` puts on a layer (O, I) of a block, which `vb` stands
    /// at; `None` without any.
    pub(crate) fn new(
        config: &LoraConfig,
        targets: &[LoraTarget],
        [outputs, inputs]: [usize; 2],
        (name, vb): (&str, &VarBuilder),
    ) -> Result<Option<Self>> {
        let mut parts = Vec::new();
        for &target in targets {
            let Some(size) = config.targets.get(target) else { continue };
            let rows = match target.third() {
                Some(third) => (third * outputs / 3, outputs / 3),
                None => (0, outputs),
            };
            let place = vb.pp(target.path());
            let vb = named::segments(name).into_iter().flatten().fold(place, |vb, s| vb.pp(s));
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
                target,
            });
        }
        let dropout = config.dropout;
        Ok((!parts.is_empty()).then_some(Self { parts, dropout }))
    }

    /// Whether any tensor of theirs trains.
    pub(crate) fn tracks(&self) -> bool {
        self.parts.iter().any(|part| {
            let rest = part.magnitude.iter().chain(&part.bias);
            [&part.a, &part.b].into_iter().chain(rest).any(Tensor::track_op)
        })
    }

    /// What stands beside the layer of `weight` (O, I).
    pub(crate) fn beside(&self, weight: &Tensor) -> Result<Vec<LowRankWeights>> {
        self.parts.iter().map(|part| part.beside(weight)).collect()
    }

    /// The same in a forward pass: each drops values of its input by itself.
    pub(crate) fn in_mode(
        &self,
        mut beside: Vec<LowRankWeights>,
        mode: Mode,
    ) -> Vec<LowRankWeights> {
        for (weights, part) in beside.iter_mut().zip(&self.parts) {
            weights.dropout = self.dropout;
            weights.mode = mode.scope(part.target.name());
        }
        beside
    }

    /// The layer's weight (O, I) and bias (O) with the adapters in them.
    pub(crate) fn merged(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let layer = LinearWeights::new(weight.clone(), None).with_low_rank(self.beside(weight)?);
        // Nothing is dropped outside of a forward pass.
        let merged = layer.merged()?.map_or_else(|| weight.clone(), |merged| merged.weight);
        Ok((merged, self.bias(weight.dim(0)?, bias)?))
    }

    /// The layer's bias (O) with what its adapters add.
    pub(crate) fn bias(&self, outputs: usize, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
        let added = self.parts.iter().filter_map(|part| Some((part, part.bias.as_ref()?)));
        let mut updates = Vec::new();
        for (part, added) in added {
            // A column, so that a frozen bias gets no gradient.
            let a = Tensor::ones((1, 1), added.dtype(), added.device())?;
            let b = added.unsqueeze(1)?;
            updates.push(LowRankUpdate { a, b, scale: 1.0, first_row: part.rows.0 });
        }
        let (Some(first), false) = (self.parts.first(), updates.is_empty()) else {
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
    fn beside(&self, weight: &Tensor) -> Result<LowRankWeights> {
        let (a, b) = (self.a.clone(), self.b.clone());
        let beside = LowRankWeights::new(a, b, self.scale, self.rows.0);
        Ok(LowRankWeights { factor: self.factor(weight)?, ..beside })
    }

    /// What the rows of the sum are multiplied by, (rows); `None` without magnitudes. Lengths are
    /// constants in the backward.
    fn factor(&self, weight: &Tensor) -> Result<Option<Tensor>> {
        let Some(magnitude) = &self.magnitude else { return Ok(None) };
        let rows = weight.detach().narrow(0, self.rows.0, self.rows.1)?.contiguous()?;
        let update = LowRankUpdate {
            a: self.a.detach(),
            b: self.b.detach(),
            scale: self.scale,
            first_row: 0,
        };
        let sum = pad_ops::low_rank_update(&rows, &[update])?;
        let lengths = |rows: &Tensor| rows.sqr()?.sum(D::Minus1)?.sqrt();
        // A row of zeros stays one.
        let sum = lengths(&sum)?.maximum(f64::from(f32::MIN_POSITIVE))?;
        Ok(Some((magnitude * (lengths(&rows)? / sum)?)?))
    }
}
