//! Stochastic gradient descent with momentum, as `torch.optim.SGD`.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    ByRule,
    rule::{RuleFaults, UpdateNumbers, UpdateRule},
};

const MOMENTUM: &str = "momentum_buffer";

/// Settings of [`Sgd`]; rates and decays come with the parameters.
///
/// ```
/// use pad_train::SgdConfig;
/// assert_eq!(SgdConfig::default(), SgdConfig { momentum: 0.9, dampening: 0.0, nesterov: false });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SgdConfig {
    /// Share of the last step's direction in the next one's. 0.9.
    pub momentum: f64,
    /// Share of the gradient that does not enter the momentum. 0.
    pub dampening: f64,
    /// Whether the gradient is taken ahead of the momentum (Nesterov). False.
    pub nesterov: bool,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { momentum: 0.9, dampening: 0.0, nesterov: false }
    }
}

/// Stochastic gradient descent, with PyTorch's momentum:
/// ```text
/// g ← g + weight_decay · p
/// b ← momentum · b + (1 − dampening) · g        (b ← g in the first update)
/// p ← p − lr · b                                (Nesterov: p − lr · (g + momentum · b))
/// ```
/// Without momentum `b` is `g`, and nothing is kept.
///
/// ```
/// use candle_core::{Device, Var};
/// use pad_train::{Gradients, Parameter, Sgd, SgdConfig};
/// let x = Var::new(&[1_f32], &Device::Cpu)?;
/// let mut sgd = Sgd::new(vec![Parameter::new("x", x.clone())], SgdConfig { momentum: 0.5, ..Default::default() })?;
/// for expected in [0.75, 0.375] {
///     let gradient = x.ones_like()?;
///     sgd.step(&Gradients::new(vec![Some(gradient)]), 0.25, 0)?; // b: 1, 1.5
///     assert_eq!(x.to_vec1::<f32>()?, [expected]);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Sgd = ByRule<SgdConfig>;

impl UpdateRule for SgdConfig {
    fn name(&self) -> &'static str {
        "SGD"
    }

    fn faults(&self) -> RuleFaults {
        let mut faults = RuleFaults::default();
        faults.share("momentum", self.momentum);
        faults.share("dampening", self.dampening);
        if self.nesterov && !(self.momentum > 0.0 && self.dampening == 0.0) {
            faults.add("`nesterov` is true, expected a momentum > 0 and no dampening");
        }
        faults
    }

    fn buffers(&self) -> Vec<&'static str> {
        if self.momentum > 0.0 { vec![MOMENTUM] } else { Vec::new() }
    }

    fn update(
        &self,
        p: &Tensor,
        g: &Tensor,
        buffers: &mut [Tensor],
        numbers: &UpdateNumbers,
    ) -> Result<Tensor> {
        let g = decayed(g, p, numbers.weight_decay)?;
        let direction = match buffers {
            [momentum] => {
                *momentum = match numbers.step {
                    1 => g.clone(),
                    _ => ((&*momentum * self.momentum)? + (&g * (1.0 - self.dampening))?)?,
                };
                match self.nesterov {
                    true => (g + (&*momentum * self.momentum)?)?,
                    false => momentum.clone(),
                }
            }
            _ => g,
        };
        p - (direction * numbers.lr)?
    }
}

/// The gradient with the decay of the weights added, as PyTorch's optimisers without a `W` have it.
pub(super) fn decayed(g: &Tensor, p: &Tensor, weight_decay: f64) -> Result<Tensor> {
    if weight_decay == 0.0 { Ok(g.clone()) } else { g + (p * weight_decay)? }
}
