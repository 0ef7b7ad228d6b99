//! 2D convolution.

use candle_core::{Module, Result as CandleResult, Tensor};
use candle_nn::{Conv2dConfig, Init, VarBuilder, init::DEFAULT_KAIMING_NORMAL};

use crate::{Conv2dOptions, Error, ImageSize, Result};

/// A 2D convolution, as `candle_nn::Conv2d`: any stride, dilation and groups, kernels of any sides.
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use pad_ops::{Conv2dOptions, nn::Conv2d};
/// let weight = Tensor::ones((1, 1, 3, 3), DType::F32, &Device::Cpu)?;
/// let conv = Conv2d::new(weight, None, Conv2dOptions::padded(1));
/// let y = conv.forward(&Tensor::ones((1, 1, 2, 2), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [4.0; 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    options: Conv2dOptions,
}

impl Conv2d {
    /// Creates a layer of `weight` (O, C / groups, rows, columns) and `bias` (O); `options` may be
    /// candle's configuration.
    pub fn new(weight: Tensor, bias: Option<Tensor>, options: impl Into<Conv2dOptions>) -> Self {
        Self { weight, bias, options: options.into() }
    }

    /// The weight, (O, C / groups, rows, columns).
    ///
    /// ```
    /// # use candle_core::{DType, Device, Tensor};
    /// use pad_ops::{Conv2dOptions, nn::Conv2d};
    /// let weight = Tensor::ones((2, 1, 3, 3), DType::F32, &Device::Cpu)?;
    /// let conv = Conv2d::new(weight, None, Conv2dOptions::padded(1));
    /// assert_eq!((conv.weight().dims(), conv.bias().is_none()), (&[2, 1, 3, 3][..], true));
    /// assert_eq!(conv.options(), Conv2dOptions::padded(1));
    /// # Ok::<(), pad_ops::Error>(())
    /// ```
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, (O).
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// How it walks over the image.
    pub fn options(&self) -> Conv2dOptions {
        self.options
    }

    /// Applies [`crate::conv2d_with`].
    ///
    /// # Errors
    /// As [`crate::conv2d_with`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        crate::conv2d_with(x, &self.weight, self.bias.as_ref(), self.options)
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        Ok(self.forward(x)?)
    }
}

/// What candle's configuration says; its choice of a cuDNN algorithm is left out.
impl From<Conv2dConfig> for Conv2dOptions {
    fn from(config: Conv2dConfig) -> Self {
        let square = ImageSize::square;
        Self {
            padding: square(config.padding),
            stride: square(config.stride),
            dilation: square(config.dilation),
            groups: config.groups,
        }
    }
}

/// Takes `weight` (`out_channels`, `in_channels` / groups, `kernel_size`, `kernel_size`) and `bias`
/// (`out_channels`) from `vb`, with candle's initial values.
///
/// ```
/// # use candle_core::{DType, Device};
/// use candle_nn::Conv2dConfig;
/// let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let depthwise = Conv2dConfig { groups: 6, padding: 3, ..Default::default() };
/// let conv = pad_ops::nn::conv2d(6, 6, 7, depthwise, vb)?;
/// assert_eq!(conv.weight().dims(), [6, 1, 7, 7]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`] for groups that do not divide the channels; tensors that `vb` lacks.
pub fn conv2d(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    config: impl Into<Conv2dOptions>,
    vb: VarBuilder,
) -> Result<Conv2d> {
    let conv = conv2d_no_bias(in_channels, out_channels, kernel_size, config, vb.clone())?;
    let bound = 1.0 / (in_channels.max(1) as f64).sqrt();
    let uniform = Init::Uniform { lo: -bound, up: bound };
    Ok(Conv2d { bias: Some(vb.get_with_hints(out_channels, "bias", uniform)?), ..conv })
}

/// As [`conv2d()`], without a bias.
///
/// ```
/// # use candle_core::{DType, Device};
/// let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let conv = pad_ops::nn::conv2d_no_bias(3, 8, 2, candle_nn::Conv2dConfig::default(), vb)?;
/// assert!(conv.bias().is_none());
/// # Ok::<(), pad_ops::Error>(())
/// ```
///
/// # Errors
/// As [`conv2d()`].
pub fn conv2d_no_bias(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    config: impl Into<Conv2dOptions>,
    vb: VarBuilder,
) -> Result<Conv2d> {
    let options = config.into();
    let divides = |count: usize| options.groups > 0 && count.is_multiple_of(options.groups);
    if !divides(in_channels) || !divides(out_channels) {
        let expected = format!("a divisor of {in_channels} and {out_channels} channels");
        let found = options.groups.to_string();
        return Err(Error::Value { op: "conv2d", arg: "groups", expected, found });
    }
    let shape = (out_channels, in_channels / options.groups, kernel_size, kernel_size);
    let weight = vb.get_with_hints(shape, "weight", DEFAULT_KAIMING_NORMAL)?;
    Ok(Conv2d { weight, bias: None, options })
}
