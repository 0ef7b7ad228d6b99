//! The numbers and the results of one parameter's step.

use candle_core::Tensor;

/// Numbers of a parameter's step, its `t`-th with the rate `lr`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// `1 − lr · weight_decay`.
    pub keep: f64,
    /// `1 − β1`.
    pub toward: f64,
    /// `β2`.
    pub beta2: f64,
    /// `lr / (1 − β1^t)`.
    pub step_size: f64,
    /// `√(1 − β2^t)`.
    pub root_correction: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Factor of the gradient, applied first.
    pub gradient_factor: f64,
}

/// A parameter and its moments after a step.
#[derive(Clone, Debug)]
pub struct AdamWUpdate {
    /// The parameter.
    pub p: Tensor,
    /// Mean of gradients.
    pub exp_avg: Tensor,
    /// Mean of squared gradients.
    pub exp_avg_sq: Tensor,
}
