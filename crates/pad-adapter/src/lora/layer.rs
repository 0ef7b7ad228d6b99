//! The low-rank adapters of one linear layer, and the weight that they make of it.

use candle_core::{D, Tensor};
use candle_nn::{Init, VarBuilder};

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
        let by_rows =
            |start: usize, count: usize| -> Result<Tensor> { Ok(weight.narrow(0, start, count)?) };
        let (mut rows, mut at) = (Vec::new(), 0);
        for part in &self.0 {
            let (start, count) = part.rows;
            if start > at {
                rows.push(by_rows(at, start - at)?);
            }
            rows.push(part.weight(&by_rows(start, count)?)?);
            at = start + count;
        }
        if at < outputs {
            rows.push(by_rows(at, outputs - at)?);
        }
        let merged = match &rows[..] {
            [all] => all.clone(),
            _ => Tensor::cat(&rows, 0)?,
        };
        Ok((merged, self.bias(outputs, bias)?))
    }

    fn bias(&self, outputs: usize, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
        let mut sum = bias.cloned();
        for part in &self.0 {
            let Some(added) = &part.bias else { continue };
            let (start, count) = part.rows;
            let added = added.pad_with_zeros(0, start, outputs - start - count)?;
            sum = Some(match sum {
                Some(bias) => (bias + added)?,
                None => added,
            });
        }
        Ok(sum)
    }
}

impl Part {
    /// The adapted rows.
    fn weight(&self, weight: &Tensor) -> Result<Tensor> {
        let sum = (weight + (self.b.matmul(&self.a)? * self.scale)?)?;
        let Some(magnitude) = &self.magnitude else { return Ok(sum) };
        let lengths = |weight: &Tensor| weight.detach().sqr()?.sum(D::Minus1)?.sqrt();
        let factor = (magnitude * (lengths(weight)? / lengths(&sum)?)?)?;
        Ok(sum.broadcast_mul(&factor.unsqueeze(1)?)?)
    }
}
