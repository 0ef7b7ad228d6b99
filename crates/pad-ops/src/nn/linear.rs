//! `y = x weight^T + bias`.

use candle_core::{Module, Result as CandleResult, Tensor};
use candle_nn::{Init, VarBuilder, init::DEFAULT_KAIMING_NORMAL};

use crate::Result;

/// A linear layer, as `candle_nn::Linear`.
///
/// ```
/// use candle_core::{Device, Module, Tensor};
/// use pad_ops::nn::Linear;
/// let layer = Linear::new(Tensor::new(&[[3_f32, 4.0]], &Device::Cpu)?, None);
/// let y = layer.forward(&Tensor::new(&[[1_f32, 2.0]], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[11.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Creates a layer of `weight` (O, I) and `bias` (O).
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// The weight, (O, I).
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// use pad_ops::nn::Linear;
    /// let bias = Tensor::new(&[5_f32], &Device::Cpu)?;
    /// let layer = Linear::new(Tensor::new(&[[3_f32, 4.0]], &Device::Cpu)?, Some(bias));
    /// assert_eq!(layer.weight().to_vec2::<f32>()?, [[3.0, 4.0]]);
    /// assert_eq!(layer.bias().unwrap().to_vec1::<f32>()?, [5.0]);
    /// # Ok::<(), pad_ops::Error>(())
    /// ```
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, (O).
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Applies [`crate::linear`].
    ///
    /// # Errors
    /// As [`crate::linear`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        crate::linear(x, &self.weight, self.bias.as_ref())
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        Ok(self.forward(x)?)
    }
}

/// Takes `weight` (`out_dim`, `in_dim`) and `bias` (`out_dim`) from `vb`, with candle's initial
/// values.
///
/// ```
/// # use candle_core::{DType, Device};
/// let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let layer = pad_ops::nn::linear(4, 3, vb)?;
/// assert_eq!(layer.weight().dims(), [3, 4]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
///
/// # Errors
/// Tensors that `vb` lacks.
pub fn linear(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    linear_b(in_dim, out_dim, true, vb)
}

/// As [`linear()`], without a bias.
///
/// ```
/// # use candle_core::{DType, Device};
/// let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
/// assert!(pad_ops::nn::linear_no_bias(4, 3, vb)?.bias().is_none());
/// # Ok::<(), pad_ops::Error>(())
/// ```
///
/// # Errors
/// Tensors that `vb` lacks.
pub fn linear_no_bias(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    linear_b(in_dim, out_dim, false, vb)
}

/// As [`linear()`], with a bias or without one.
///
/// ```
/// # use candle_core::{DType, Device};
/// let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
/// assert_eq!(pad_ops::nn::linear_b(4, 3, true, vb)?.bias().map(|bias| bias.dims().to_vec()), Some(vec![3]));
/// # Ok::<(), pad_ops::Error>(())
/// ```
///
/// # Errors
/// Tensors that `vb` lacks.
pub fn linear_b(in_dim: usize, out_dim: usize, bias: bool, vb: VarBuilder) -> Result<Linear> {
    let weight = vb.get_with_hints((out_dim, in_dim), "weight", DEFAULT_KAIMING_NORMAL)?;
    let bound = 1.0 / (in_dim.max(1) as f64).sqrt();
    let uniform = Init::Uniform { lo: -bound, up: bound };
    let bias = if bias { Some(vb.get_with_hints(out_dim, "bias", uniform)?) } else { None };
    Ok(Linear::new(weight, bias))
}
