//! Lion (Chen et al., arXiv 2302.06675).

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    ByRule,
    rule::{RuleFaults, UpdateNumbers, UpdateRule},
};

/// Settings of [`Lion`]; rates and decays come with the parameters.
///
/// ```
/// use pad_train::LionConfig;
/// assert_eq!(LionConfig::default(), LionConfig { beta1: 0.9, beta2: 0.99 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LionConfig {
    /// Share of the mean of gradients in the direction of the update. 0.9.
    pub beta1: f64,
    /// Decay of the mean of gradients. 0.99.
    pub beta2: f64,
}

impl Default for LionConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.99 }
    }
}

/// Lion: every value moves by the same step, in the direction of a sign.
/// ```text
/// p ← p · (1 − lr · weight_decay)
/// p ← p − lr · sign(β1 · m + (1 − β1) · g)
/// m ← β2 · m + (1 − β2) · g
/// ```
/// Rates are 3 to 10 times lower than AdamW's, decays as many times higher.
///
/// ```
/// use candle_core::{Device, Var};
/// use pad_train::{Gradients, Lion, LionConfig, Parameter};
/// let x = Var::new(&[1_f32, -2.0], &Device::Cpu)?;
/// let mut lion = Lion::new(vec![Parameter::new("x", x.clone())], LionConfig::default())?;
/// let gradient = x.as_tensor().clone();
/// lion.step(&Gradients::new(vec![Some(gradient)]), 0.25, 0)?;
/// assert_eq!(x.to_vec1::<f32>()?, [0.75, -1.75]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Lion = ByRule<LionConfig>;

impl UpdateRule for LionConfig {
    fn name(&self) -> &'static str {
        "Lion"
    }

    fn faults(&self) -> RuleFaults {
        let mut faults = RuleFaults::default();
        faults.share("beta1", self.beta1);
        faults.share("beta2", self.beta2);
        faults
    }

    fn buffers(&self) -> Vec<&'static str> {
        vec!["exp_avg"]
    }

    fn update(
        &self,
        p: &Tensor,
        g: &Tensor,
        buffers: &mut [Tensor],
        numbers: &UpdateNumbers,
    ) -> Result<Tensor> {
        let [m] = buffers else { candle_core::bail!("expected one buffer") };
        let direction = ((&*m * self.beta1)? + (g * (1.0 - self.beta1))?)?.sign()?;
        let p = (p * (1.0 - numbers.lr * numbers.weight_decay))?;
        let p = (p - (direction * numbers.lr)?)?;
        *m = ((&*m * self.beta2)? + (g * (1.0 - self.beta2))?)?;
        Ok(p)
    }
}
