//! Layer norm.

use candle_core::{Module, Result as CandleResult, Tensor};
use candle_nn::{Init, LayerNormConfig, VarBuilder};

use crate::{Error, Result, check};

/// Layer norm over the last axis, as `candle_nn::LayerNorm`, whose gradients are right on contiguous
/// inputs too.
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use pad_ops::nn::LayerNorm;
/// let one = Tensor::ones(2, DType::F32, &Device::Cpu)?;
/// let norm = LayerNorm::new(one.clone(), one, 0.0);
/// let y = norm.forward(&Tensor::new(&[[1_f32, 3.0]], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[0.0, 2.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Option<Tensor>,
    eps: f64,
}

impl LayerNorm {
    /// Creates a layer of `weight` and `bias` (D).
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias: Some(bias), eps }
    }

    /// Creates a layer without a bias.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// use pad_ops::nn::LayerNorm;
    /// let norm = LayerNorm::new_no_bias(Tensor::new(&[2_f32, 2.0], &Device::Cpu)?, 0.0);
    /// let y = norm.forward(&Tensor::new(&[[1_f32, 3.0]], &Device::Cpu)?)?;
    /// assert_eq!(y.to_vec2::<f32>()?, [[-2.0, 2.0]]);
    /// assert_eq!((norm.weight().dims(), norm.bias().is_none()), (&[2][..], true));
    /// # Ok::<(), pad_ops::Error>(())
    /// ```
    pub fn new_no_bias(weight: Tensor, eps: f64) -> Self {
        Self { weight, bias: None, eps }
    }

    /// The weight, (D).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, (D).
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Applies [`crate::layer_norm`].
    ///
    /// # Errors
    /// As [`crate::layer_norm`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => crate::layer_norm(x, &self.weight, bias, self.eps),
            None => {
                let zero = self.weight.detach().zeros_like()?;
                crate::layer_norm(x, &self.weight, &zero, self.eps)
            }
        }
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        Ok(self.forward(x)?)
    }
}

/// Takes `weight` (or `gamma`) and, if `config.affine`, `bias` (or `beta`) of `size` values from
/// `vb`, initialised to one and zero.
///
/// ```
/// # use candle_core::{DType, Device};
/// let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
/// assert_eq!(pad_ops::nn::layer_norm(8, 1e-6, vb)?.weight().dims(), [8]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`] for a norm that keeps the mean (RMS norm) or an `eps` below 0 or not finite;
/// tensors that `vb` lacks.
pub fn layer_norm(
    size: usize,
    config: impl Into<LayerNormConfig>,
    vb: VarBuilder,
) -> Result<LayerNorm> {
    const OP: &str = "layer_norm";
    let config = config.into();
    if !config.remove_mean {
        let expected = "true (without it, it is an RMS norm)".to_string();
        let found = "false".to_string();
        return Err(Error::Value { op: OP, arg: "remove_mean", expected, found });
    }
    check::expect_eps(OP, config.eps)?;
    let get = |names: [&str; 2], value: f64| {
        let name = names.into_iter().find(|name| vb.contains_tensor(name)).unwrap_or(names[0]);
        vb.get_with_hints(size, name, Init::Const(value))
    };
    let weight = get(["weight", "gamma"], 1.0)?;
    let bias = if config.affine { Some(get(["bias", "beta"], 0.0)?) } else { None };
    Ok(LayerNorm { weight, bias, eps: config.eps })
}

/// As [`layer_norm()`], without a bias.
///
/// ```
/// # use candle_core::{DType, Device};
/// let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
/// assert!(pad_ops::nn::layer_norm_no_bias(8, 1e-6, vb)?.bias().is_none());
/// # Ok::<(), pad_ops::Error>(())
/// ```
///
/// # Errors
/// As [`layer_norm()`].
pub fn layer_norm_no_bias(size: usize, eps: f64, vb: VarBuilder) -> Result<LayerNorm> {
    layer_norm(size, LayerNormConfig { eps, remove_mean: true, affine: false }, vb)
}
