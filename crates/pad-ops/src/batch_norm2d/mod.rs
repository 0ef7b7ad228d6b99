//! Batch norm of maps (Ioffe & Szegedy, 2015): with the batch's own statistics, or with given ones.
//!
//! An operator has no state: running statistics belong to the layer, which mixes in what
//! [`batch_norm2d`] returns. Saved for the backward: the operands, and two numbers a channel.

mod cpu;
mod reference;
mod synced;

use candle_core::{Result as CandleResult, Tensor};

use crate::{
    Error, Result, check,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
    empty,
    products::{in_f32, is_mixed},
};
use cpu::Channels;
pub use reference::{batch_norm2d_reference, batch_norm2d_with_reference};
pub use synced::{SumOver, batch_norm2d_synced};

/// Mean and variance of every channel, (C) each, without gradient.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::Moments;
/// let one = |value: f32| Tensor::new(&[value], &Device::Cpu);
/// let moments = Moments { mean: one(2.0)?, variance: one(4.0)? };
/// let x = Tensor::new(&[[[[6_f32]]]], &Device::Cpu)?;
/// let y = pad_ops::batch_norm2d_with(&x, &moments, &one(1.0)?, &one(0.0)?, 0.0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Moments {
    /// Means.
    pub mean: Tensor,
    /// Variances: unbiased ones where a batch was measured, as PyTorch's running statistics take
    /// them.
    pub variance: Tensor,
}

/// Computes `(x - mean) / sqrt(variance + eps) * weight + bias` with the batch's own mean and
/// (biased) variance of each channel. Gradients to every operand that tracks something, through the
/// statistics too.
///
/// # Shapes
/// `x` (B, C, H, W); `weight`, `bias` (C); result as `x`, and what was measured, of the dtype of
/// `x`. Any floating dtype; half types go with weights of `f32` and the other way round.
///
/// # Errors
/// [`Error::Shape`], `DType` or `Device` if an operand does not fit `x`; [`Error::Value`] unless a
/// channel has two values or more (its variance would be undefined), so for an empty batch too, and
/// for an `eps` below 0 or not finite.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[[[1_f32, 3.0]]]], &Device::Cpu)?;
/// let (weight, bias) = (Tensor::new(&[2_f32], &Device::Cpu)?, Tensor::new(&[5_f32], &Device::Cpu)?);
/// let (y, moments) = pad_ops::batch_norm2d(&x, &weight, &bias, 0.0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [3.0, 7.0]);
/// assert_eq!(moments.mean.to_vec1::<f32>()?, [2.0]);
/// assert_eq!(moments.variance.to_vec1::<f32>()?, [2.0]); // unbiased, as running statistics take it
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn batch_norm2d(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<(Tensor, Moments)> {
    const OP: &str = "batch_norm2d";
    let (batch, channels, height, width) = check_operands(OP, x, (weight, bias), eps)?;
    let count = batch * height * width;
    if count < 2 {
        return Err(Error::Value {
            op: OP,
            arg: "x",
            expected: "more than one value per channel to take statistics of".into(),
            found: count.to_string(),
        });
    }
    if x.elem_count() == 0 {
        let none = || Tensor::zeros(channels, x.dtype(), x.device());
        let moments = Moments { mean: none()?, variance: none()? };
        return Ok((empty::result(x.shape(), &[x, weight, bias])?, moments));
    }
    if is_mixed(x, &[weight, bias]) {
        let (y, found) = batch_norm2d(&in_f32(x)?, &in_f32(weight)?, &in_f32(bias)?, eps)?;
        let back = |tensor: &Tensor| tensor.to_dtype(x.dtype());
        let moments = Moments { mean: back(&found.mean)?, variance: back(&found.variance)? };
        return Ok((back(&y)?, moments));
    }
    if !has_kernel(x) {
        return batch_norm2d_reference(x, weight, bias, eps);
    }
    let x = x.contiguous()?;
    let channels = Channels { count: channels, area: height * width };
    let (mean, variance) = channels.moments(&slices::borrow(&x)?);
    let unbiased = count as f64 / (count as f64 - 1.0);
    let narrow = |values: &[f64], factor: f64| {
        let values = values.iter().map(|value| (value * factor) as f32).collect();
        slices::tensor(values, channels.count)
    };
    let moments = Moments { mean: narrow(&mean, 1.0)?, variance: narrow(&variance, unbiased)? };
    let y = normalize(OP, &x, weight, bias, (mean, variance), eps, channels, Measured::Here)?;
    Ok((y, moments))
}

/// Computes [`batch_norm2d`] with given statistics, which get no gradient: evaluation, and layers
/// whose statistics are frozen.
///
/// # Shapes
/// As [`batch_norm2d`]; `moments` (C) each.
///
/// # Errors
/// [`Error::Shape`], `DType` or `Device` if an operand does not fit `x`; [`Error::Value`] for an
/// `eps` below 0 or not finite.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::Moments;
/// let one = |value: f32| Tensor::new(&[value], &Device::Cpu);
/// let x = Tensor::new(&[[[[1_f32, 3.0]]]], &Device::Cpu)?;
/// let moments = Moments { mean: one(1.0)?, variance: one(4.0)? };
/// let y = pad_ops::batch_norm2d_with(&x, &moments, &one(1.0)?, &one(0.0)?, 0.0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0.0, 1.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn batch_norm2d_with(
    x: &Tensor,
    moments: &Moments,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    const OP: &str = "batch_norm2d_with";
    let (_, channels, height, width) = check_operands(OP, x, (weight, bias), eps)?;
    for (arg, tensor) in [("mean", &moments.mean), ("variance", &moments.variance)] {
        check::expect_shape(OP, arg, tensor, &[channels])?;
        check::expect_mixable(OP, arg, tensor, x)?;
    }
    if x.elem_count() == 0 {
        return Ok(empty::result(x.shape(), &[x, weight, bias])?);
    }
    if is_mixed(x, &[weight, bias, &moments.mean, &moments.variance]) {
        let moments =
            Moments { mean: in_f32(&moments.mean)?, variance: in_f32(&moments.variance)? };
        let y = batch_norm2d_with(&in_f32(x)?, &moments, &in_f32(weight)?, &in_f32(bias)?, eps)?;
        return Ok(y.to_dtype(x.dtype())?);
    }
    if !has_kernel(x) {
        return batch_norm2d_with_reference(x, moments, weight, bias, eps);
    }
    let wide = |tensor: &Tensor| -> CandleResult<Vec<f64>> {
        slices::read(tensor, |values| values.iter().map(|&value| f64::from(value)).collect())
    };
    let moments = (wide(&moments.mean)?, wide(&moments.variance)?);
    let channels = Channels { count: channels, area: height * width };
    normalize(OP, &x.contiguous()?, weight, bias, moments, eps, channels, Measured::Before)
}

fn check_operands(
    op: &'static str,
    x: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    eps: f64,
) -> Result<(usize, usize, usize, usize)> {
    check::expect_rank(op, "x", x, 4, "(B, C, H, W)")?;
    check::expect_float(op, "x", x)?;
    let sizes = x.dims4()?;
    for (arg, tensor) in [("weight", weight), ("bias", bias)] {
        check::expect_shape(op, arg, tensor, &[sizes.1])?;
        check::expect_mixable(op, arg, tensor, x)?;
    }
    check::expect_eps(op, eps)?;
    Ok(sizes)
}

#[allow(clippy::too_many_arguments)] // the operator's operands
fn normalize(
    op: &'static str,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    (mean, variance): (Vec<f64>, Vec<f64>),
    eps: f64,
    channels: Channels,
    measured: Measured,
) -> Result<Tensor> {
    let mean: Vec<f32> = mean.into_iter().map(|mean| mean as f32).collect();
    let scale: Vec<f32> = variance.into_iter().map(|v| (1.0 / (v + eps).sqrt()) as f32).collect();
    let (weight, bias) = (weight.contiguous()?, bias.contiguous()?);
    let y = {
        let (x, weight) = (slices::borrow(x)?, slices::borrow(&weight)?);
        channels.forward(&x, (&mean, &scale), &weight, &slices::borrow(&bias)?)
    };
    let backward =
        BatchNorm { x: x.clone(), weight: weight.clone(), mean, scale, channels, measured };
    Ok(nary::apply(op, x, &[&weight, &bias], y, x.shape().clone(), backward)?)
}

struct BatchNorm {
    x: Tensor,
    weight: Tensor,
    mean: Vec<f32>,
    scale: Vec<f32>,
    channels: Channels,
    measured: Measured,
}

/// Where the statistics come from, and so what their gradient is.
enum Measured {
    /// Given: none.
    Before,
    /// From `x`.
    Here,
    /// From every process's `x`.
    Everywhere { values: f64, over: SumOver },
}

/// Two numbers a channel.
type Means = (Vec<f32>, Vec<f32>);

impl BatchNorm {
    /// Means over a channel's values of `d_y xhat` and `d_y`, from this process's sums; nothing
    /// where the statistics did not come from values.
    fn means(&self, d_weight: &[f32], d_bias: &[f32], len: usize) -> CandleResult<Option<Means>> {
        let share = |sums: &[f32], values: f32| sums.iter().map(|sum| sum / values).collect();
        Ok(match &self.measured {
            Measured::Before => None,
            Measured::Here => {
                let values = (len / self.channels.count) as f32;
                Some((share(d_weight, values), share(d_bias, values)))
            }
            Measured::Everywhere { values, over } => {
                let mut sums: Vec<f64> =
                    d_weight.iter().chain(d_bias).map(|&sum| f64::from(sum)).collect();
                over.sum(&mut sums)?;
                let means: Vec<f32> = sums.iter().map(|sum| (sum / values) as f32).collect();
                let (d_weight, d_bias) = means.split_at(self.channels.count);
                Some((d_weight.to_vec(), d_bias.to_vec()))
            }
        })
    }
}

impl Backward for BatchNorm {
    fn backward(&self, d_y: &[f32], d_x: bool, wanted: &[bool]) -> CandleResult<Gradients> {
        let (x, weight) = (slices::borrow(&self.x)?, slices::borrow(&self.weight)?);
        let moments = (&self.mean[..], &self.scale[..]);
        let (d_weight, d_bias) = self.channels.d_params(&x, moments, d_y);
        let d_x = match d_x {
            true => {
                let means = self.means(&d_weight, &d_bias, x.len())?;
                let means = means.as_ref().map(|(d_weight, d_bias)| (&d_weight[..], &d_bias[..]));
                Some(self.channels.d_x(&x, moments, &weight, d_y, means))
            }
            false => None,
        };
        let d_params = vec![wanted[0].then_some(d_weight), wanted[1].then_some(d_bias)];
        Ok(Gradients { d_x, d_params })
    }
}
