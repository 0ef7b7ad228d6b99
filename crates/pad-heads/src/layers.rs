//! The layers of heads and pyramids, over pad-ops' differentiable operators. Names and initial
//! values are mmcv's.

use std::sync::Arc;

use candle_core::{Module, Result as CandleResult, Tensor};
use candle_nn::{Init, VarBuilder};
pub use pad_ops::nn::Conv2d;
use pad_ops::{Conv2dOptions, Mode, Moments, SumOver};

use pad_train::Collective;

use crate::error::Result;

/// Returns a convolution of stride 1 that keeps the size of its input: takes `weight` (`outputs`,
/// `inputs`, `kernel`, `kernel`), initialised by `init`, and `bias` (`outputs`), initialised to zero,
/// from `vb`. `kernel` is odd.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Init, VarBuilder};
/// use pad_heads::layers::same_conv2d;
/// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let conv = same_conv2d(3, 8, 5, true, Init::Const(0.0), vb)?;
/// let y = conv.forward(&Tensor::ones((1, 3, 6, 7), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(y.dims(), [1, 8, 6, 7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Tensors that `vb` lacks.
pub fn same_conv2d(
    inputs: usize,
    outputs: usize,
    kernel: usize,
    bias: bool,
    init: Init,
    vb: VarBuilder,
) -> Result<Conv2d> {
    let weight = vb.get_with_hints((outputs, inputs, kernel, kernel), "weight", init)?;
    let bias =
        if bias { Some(vb.get_with_hints(outputs, "bias", Init::Const(0.0))?) } else { None };
    Ok(Conv2d::new(weight, bias, Conv2dOptions::padded(kernel / 2)))
}

/// A transposed convolution that doubles the sides.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_heads::layers::ConvTranspose2x2;
/// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let layer = ConvTranspose2x2::between(4, 2, vb)?;
/// let y = layer.forward(&Tensor::ones((1, 4, 3, 5), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(y.dims(), [1, 2, 6, 10]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConvTranspose2x2 {
    weight: Tensor,
    bias: Tensor,
}

impl ConvTranspose2x2 {
    /// Takes `weight` (`channels`, `channels`, 2, 2) and `bias` (`channels`), initialised as
    /// PyTorch does, from `vb`.
    ///
    /// # Errors
    /// Tensors that `vb` lacks.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::VarBuilder;
    /// use pad_heads::layers::ConvTranspose2x2;
    /// let layer = ConvTranspose2x2::new(4, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
    /// let x = Tensor::ones((1, 4, 3, 5), DType::F32, &Device::Cpu)?;
    /// assert_eq!(layer.forward(&x)?.dims(), [1, 4, 6, 10]);
    /// # Ok::<(), pad_heads::Error>(())
    /// ```
    pub fn new(channels: usize, vb: VarBuilder) -> Result<Self> {
        Self::between(channels, channels, vb)
    }

    /// [`ConvTranspose2x2::new`] from `inputs` to `outputs` channels: `weight` (`inputs`,
    /// `outputs`, 2, 2).
    ///
    /// # Errors
    /// Tensors that `vb` lacks.
    pub fn between(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        // Kaiming uniform with a = sqrt(5) over PyTorch's fan in of this layout, outputs times
        // kernel.
        let bound = 1.0 / (4.0 * outputs as f64).sqrt();
        let uniform = Init::Uniform { lo: -bound, up: bound };
        Ok(Self {
            weight: vb.get_with_hints((inputs, outputs, 2, 2), "weight", uniform)?,
            bias: vb.get_with_hints(outputs, "bias", uniform)?,
        })
    }

    /// # Shapes
    /// `x` (B, `inputs`, H, W) -> (B, `outputs`, 2 H, 2 W).
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(pad_ops::conv_transpose2x2(x, &self.weight, Some(&self.bias))?)
    }
}

impl Module for ConvTranspose2x2 {
    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        Ok(pad_ops::conv_transpose2x2(x, &self.weight, Some(&self.bias))?)
    }
}

/// Layer norm over the channels of every pixel (detectron2's convolutional `LN`), eps 1e-6.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use candle_nn::VarMap;
/// use pad_heads::layers::ChannelNorm;
/// let vars = VarMap::new();
/// let norm = ChannelNorm::new(2, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
/// let y = norm.forward(&Tensor::new(&[[[[1_f32]], [[3.0]]]], &Device::Cpu)?)?;
/// let y = y.flatten_all()?.to_vec1::<f32>()?;
/// assert!((y[0] + 1.0).abs() < 1e-5 && (y[1] - 1.0).abs() < 1e-5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChannelNorm {
    weight: Tensor,
    bias: Tensor,
}

impl ChannelNorm {
    const EPS: f64 = 1e-6;

    /// Takes `weight` and `bias` (`channels`) from `vb`.
    ///
    /// # Errors
    /// Tensors that `vb` lacks.
    pub fn new(channels: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(channels, "weight", Init::Const(1.0))?,
            bias: vb.get_with_hints(channels, "bias", Init::Const(0.0))?,
        })
    }

    /// # Shapes
    /// `x` (B, C, H, W) -> the same.
    ///
    /// # Errors
    /// An `x` that does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(pad_ops::channel_norm2d(x, &self.weight, &self.bias, Self::EPS)?)
    }
}

impl Module for ChannelNorm {
    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        Ok(pad_ops::channel_norm2d(x, &self.weight, &self.bias, Self::EPS)?)
    }
}

/// PyTorch's initial values of a convolution's weight: Kaiming uniform with a = sqrt(5) over the
/// fan in.
pub(crate) fn torch_conv(inputs: usize, kernel: usize) -> Init {
    let bound = 1.0 / ((inputs * kernel * kernel).max(1) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// Kaiming normal over the fan out, for a ReLU (Caffe2's MSRA fill).
pub(crate) fn msra(outputs: usize, kernel: usize) -> Init {
    Init::Randn { mean: 0.0, stdev: (2.0 / (outputs * kernel * kernel).max(1) as f64).sqrt() }
}

/// Batch norm. Its running statistics are updated by every forward pass in [`Mode::Train`] and used
/// in [`Mode::Eval`].
///
/// The statistics are tensors of the `VarBuilder` (`running_mean`, `running_var`), updated in
/// place, so a [`ParamStore`](pad_adapter::params::ParamStore) that serves them saves their current
/// values. Clones share them. [`is_running_statistic`] tells them from trained parameters.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use candle_nn::VarMap;
/// use pad_heads::layers::BatchNorm;
/// use pad_ops::{Mode, rng::Key};
/// let vars = VarMap::new();
/// let norm = BatchNorm::new(1, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
/// let x = Tensor::new(&[[[[1_f32, 3.0]]]], &Device::Cpu)?;
/// let trained = norm.forward(&x, Mode::Train(Key::new(0)))?.flatten_all()?.to_vec1::<f32>()?;
/// assert!((trained[1] - 1.0).abs() < 1e-5);
/// // Running mean 0.9 * 0 + 0.1 * 2, variance 0.9 * 1 + 0.1 * 2.
/// let measured = norm.forward(&x, Mode::Eval)?.flatten_all()?.to_vec1::<f32>()?;
/// assert!((measured[1] - 2.8 / 1.1_f32.sqrt()).abs() < 1e-4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    /// The processes that share statistics in training.
    over: Option<SumOver>,
}

impl BatchNorm {
    /// PyTorch's default.
    const EPS: f64 = 1e-5;
    /// Share of the running statistics that a batch replaces.
    const MOMENTUM: f64 = 0.1;

    /// Takes `weight`, `bias`, `running_mean` and `running_var` (`channels`) from `vb`.
    ///
    /// # Errors
    /// Tensors that `vb` lacks.
    pub fn new(channels: usize, vb: VarBuilder) -> Result<Self> {
        let get = |name, value| vb.get_with_hints(channels, name, Init::Const(value));
        Ok(Self {
            weight: get("weight", 1.0)?,
            bias: get("bias", 0.0)?,
            running_mean: get("running_mean", 0.0)?,
            running_var: get("running_var", 1.0)?,
            over: None,
        })
    }

    /// Shares the statistics of training among all processes of a group, as
    /// [`pad_ops::batch_norm2d_synced`] does. Every process must call it.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::{VarBuilder, VarMap};
    /// use pad_heads::layers::BatchNorm;
    /// use pad_ops::{Mode, SumOver, rng::Key};
    /// let vars = VarMap::new();
    /// let mut norm = BatchNorm::new(1, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    /// norm.synchronize(&SumOver::new(|_| Ok(()))); // a group of one, see `sum_over`
    /// let x = Tensor::new(&[[[[1_f32, 3.0]]]], &Device::Cpu)?;
    /// let y = norm.forward(&x, Mode::Train(Key::new(0)))?.flatten_all()?.to_vec1::<f32>()?;
    /// assert!((y[1] - 1.0).abs() < 1e-5);
    /// # Ok::<(), pad_heads::Error>(())
    /// ```
    pub fn synchronize(&mut self, over: &SumOver) {
        self.over = Some(over.clone());
    }

    /// # Shapes
    /// `x` (B, C, H, W) -> the same.
    ///
    /// # Errors
    /// An `x` that does not fit; in training, an `x` with a single value per channel.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        match mode {
            Mode::Train(_) => {
                let (weight, bias) = (&self.weight, &self.bias);
                let (y, batch) = match &self.over {
                    Some(over) => pad_ops::batch_norm2d_synced(x, weight, bias, Self::EPS, over)?,
                    None => pad_ops::batch_norm2d(x, weight, bias, Self::EPS)?,
                };
                for (running, batch) in
                    [(&self.running_mean, batch.mean), (&self.running_var, batch.variance)]
                {
                    let kept = (running.detach() * (1.0 - Self::MOMENTUM))?;
                    running.slice_set(&(kept + (batch * Self::MOMENTUM)?)?, 0, 0)?;
                }
                Ok(y)
            }
            Mode::Eval => {
                let running = Moments {
                    mean: self.running_mean.detach(),
                    variance: self.running_var.detach(),
                };
                let (weight, bias) = (&self.weight, &self.bias);
                Ok(pad_ops::batch_norm2d_with(x, &running, weight, bias, Self::EPS)?)
            }
        }
    }
}

/// Returns the sum over the processes of `group`, for [`BatchNorm::synchronize`].
///
/// ```
/// use std::sync::Arc;
/// use candle_core::{DType, Device};
/// use candle_nn::VarBuilder;
/// use pad_heads::layers::{ConvNormRelu, sum_over};
/// use pad_train::{Collective, SingleProcess};
/// let group: Arc<dyn Collective> = Arc::new(SingleProcess); // or threads, MPI, NCCL
/// let mut layer = ConvNormRelu::new(2, 4, 3, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
/// layer.synchronize(&sum_over(&group));
/// assert_eq!(group.world_size(), 1);
/// # Ok::<(), pad_heads::Error>(())
/// ```
pub fn sum_over(group: &Arc<dyn Collective>) -> SumOver {
    let group = Arc::clone(group);
    SumOver::new(move |values| Ok(group.all_reduce_sum(values)?))
}

/// Returns whether a parameter of this name holds running statistics of a batch norm, which are
/// never trained.
///
/// ```
/// use pad_heads::layers::is_running_statistic;
/// assert!(is_running_statistic("decode_head.bn.running_mean"));
/// assert!(!is_running_statistic("decode_head.bn.weight"));
/// ```
pub fn is_running_statistic(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}

/// Convolution without bias, batch norm, ReLU: mmcv's `ConvModule` (`conv.weight`, `bn.*`).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use candle_nn::VarMap;
/// use pad_heads::layers::ConvNormRelu;
/// use pad_ops::Mode;
/// let vars = VarMap::new();
/// let layer = ConvNormRelu::new(2, 4, 3, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
/// let y = layer.forward(&Tensor::ones((1, 2, 5, 5), DType::F32, &Device::Cpu)?, Mode::Eval)?;
/// assert_eq!(y.dims(), [1, 4, 5, 5]);
/// assert!(y.min_all()?.to_scalar::<f32>()? >= 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConvNormRelu {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNormRelu {
    /// Takes `conv.weight` and `bn.*` from `vb`.
    ///
    /// # Errors
    /// Tensors that `vb` lacks.
    pub fn new(inputs: usize, outputs: usize, kernel: usize, vb: VarBuilder) -> Result<Self> {
        let init = msra(outputs, kernel);
        Ok(Self {
            conv: same_conv2d(inputs, outputs, kernel, false, init, vb.pp("conv"))?,
            norm: BatchNorm::new(outputs, vb.pp("bn"))?,
        })
    }

    /// See [`BatchNorm::synchronize`].
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::VarBuilder;
    /// use pad_heads::layers::ConvNormRelu;
    /// use pad_ops::{Mode, SumOver};
    /// let mut layer = ConvNormRelu::new(2, 4, 3, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
    /// layer.synchronize(&SumOver::new(|_| Ok(())));
    /// let x = Tensor::ones((1, 2, 5, 5), DType::F32, &Device::Cpu)?;
    /// assert_eq!(layer.forward(&x, Mode::Eval)?.dims(), [1, 4, 5, 5]);
    /// # Ok::<(), pad_heads::Error>(())
    /// ```
    pub fn synchronize(&mut self, over: &SumOver) {
        self.norm.synchronize(over);
    }

    /// # Shapes
    /// `x` (B, `inputs`, H, W) -> (B, `outputs`, H, W).
    ///
    /// # Errors
    /// As [`BatchNorm::forward`].
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.norm.forward(&self.conv.forward(x)?, mode)?.relu()?)
    }
}
