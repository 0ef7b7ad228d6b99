//! The numbers and the results of one parameter's step.

use candle_core::Tensor;

/// Numbers of a parameter's step, its `t`-th with the rate `lr`.
///
/// ```
/// use pad_ops::AdamWStep;
/// // Step t at the rate lr, with weight decay 0.05.
/// let (t, lr, beta1, beta2) = (2, 0.001, 0.9_f64, 0.95_f64);
/// let step = AdamWStep {
///     keep: 1.0 - lr * 0.05,
///     toward: 1.0 - beta1,
///     beta2,
///     step_size: lr / (1.0 - beta1.powi(t)),
///     root_correction: (1.0 - beta2.powi(t)).sqrt(),
///     eps: 1e-8,
///     gradient_factor: 1.0,
/// };
/// assert!((step.step_size - 0.001 / 0.19).abs() < 1e-12);
/// ```
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
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{AdamWStep, AdamWUpdate, adamw_step};
/// # let step = AdamWStep {
/// #     keep: 1.0,
/// #     toward: 0.1,
/// #     beta2: 0.99,
/// #     step_size: 5.0,
/// #     root_correction: 0.1,
/// #     eps: 0.0,
/// #     gradient_factor: 1.0,
/// # };
/// let (two, zero) = (Tensor::new(&[2_f64], &Device::Cpu)?, Tensor::new(&[0_f64], &Device::Cpu)?);
/// // `step` is the first one; b1 = 0.9, b2 = 0.99.
/// let AdamWUpdate { exp_avg, exp_avg_sq, .. } = adamw_step(&two, &two, &zero, &zero, &step)?;
/// assert!((exp_avg.to_vec1::<f64>()?[0] - 0.1 * 2.0).abs() < 1e-12);
/// assert!((exp_avg_sq.to_vec1::<f64>()?[0] - 0.01 * 4.0).abs() < 1e-12);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdamWUpdate {
    /// The parameter.
    pub p: Tensor,
    /// Mean of gradients.
    pub exp_avg: Tensor,
    /// Mean of squared gradients.
    pub exp_avg_sq: Tensor,
}
