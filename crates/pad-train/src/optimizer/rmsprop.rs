//! RMSprop, as `torch.optim.RMSprop`.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    ByRule,
    rule::{RuleFaults, UpdateNumbers, UpdateRule},
    sgd::decayed,
};

/// Settings of [`RmsProp`]; rates and decays come with the parameters.
///
/// ```
/// use pad_train::RmsPropConfig;
/// let pytorch = RmsPropConfig::default();
/// assert_eq!((pytorch.alpha, pytorch.eps, pytorch.momentum, pytorch.centered), (0.99, 1e-8, 0.0, false));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RmsPropConfig {
    /// Decay of the mean of squared gradients. 0.99.
    pub alpha: f64,
    /// Added to the root of the second moment. 1e-8.
    pub eps: f64,
    /// Share of the last step's direction in the next one's. 0.
    pub momentum: f64,
    /// Whether the squared mean of gradients is taken off the mean of their squares. False.
    pub centered: bool,
}

impl Default for RmsPropConfig {
    fn default() -> Self {
        Self { alpha: 0.99, eps: 1e-8, momentum: 0.0, centered: false }
    }
}

/// RMSprop, with PyTorch's order of operations:
/// ```text
/// g ← g + weight_decay · p
/// v ← α · v + (1 − α) · g · g
/// a ← α · a + (1 − α) · g                       (centred)
/// d ← g / (√v + ε)                              (centred: g / (√(v − a · a) + ε))
/// b ← momentum · b + d                          (without momentum: b ← d)
/// p ← p − lr · b
/// ```
///
/// ```
/// use candle_core::{Device, Var};
/// use pad_train::{Gradients, Parameter, RmsProp, RmsPropConfig};
/// let x = Var::new(&[1_f32], &Device::Cpu)?;
/// let config = RmsPropConfig { alpha: 0.75, ..Default::default() };
/// let mut rmsprop = RmsProp::new(vec![Parameter::new("x", x.clone())], config)?;
/// let gradient = x.as_tensor().clone();
/// rmsprop.step(&Gradients::new(vec![Some(gradient)]), 0.25, 0)?; // v = 1/4, so d = 2
/// assert!((x.to_vec1::<f32>()?[0] - 0.5).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type RmsProp = ByRule<RmsPropConfig>;

impl UpdateRule for RmsPropConfig {
    fn name(&self) -> &'static str {
        "RMSprop"
    }

    fn faults(&self) -> RuleFaults {
        let mut faults = RuleFaults::default();
        faults.share("alpha", self.alpha);
        faults.positive("eps", self.eps);
        faults.share("momentum", self.momentum);
        faults
    }

    fn buffers(&self) -> Vec<&'static str> {
        let mut buffers = vec!["square_avg"];
        buffers.extend((self.momentum > 0.0).then_some("momentum_buffer"));
        buffers.extend(self.centered.then_some("grad_avg"));
        buffers
    }

    fn update(
        &self,
        p: &Tensor,
        g: &Tensor,
        buffers: &mut [Tensor],
        numbers: &UpdateNumbers,
    ) -> Result<Tensor> {
        let g = decayed(g, p, numbers.weight_decay)?;
        let mean = |old: &Tensor, new: &Tensor| (old * self.alpha)? + (new * (1.0 - self.alpha))?;
        let Some((v, rest)) = buffers.split_first_mut() else {
            candle_core::bail!("expected a buffer of squares")
        };
        *v = mean(v, &g.sqr()?)?;
        let mut variance = v.clone();
        if self.centered {
            let Some(a) = rest.last_mut() else { candle_core::bail!("expected a buffer of means") };
            *a = mean(a, &g)?;
            // Rounding may leave less than nothing.
            variance = (variance - a.sqr()?)?.relu()?;
        }
        let mut direction = (g / (variance.sqrt()? + self.eps)?)?;
        if self.momentum > 0.0 {
            let Some(b) = rest.first_mut() else {
                candle_core::bail!("expected a buffer of momentum")
            };
            *b = ((&*b * self.momentum)? + direction)?;
            direction = b.clone();
        }
        p - (direction * numbers.lr)?
    }
}
