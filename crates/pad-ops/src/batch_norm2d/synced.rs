//! Batch norm whose statistics are those of all processes that train together.

use std::{error::Error as StdError, fmt, sync::Arc};

use candle_core::{DType, Device, Error as CandleError, Result as CandleResult, Tensor};

use super::{Measured, Moments, check_operands, cpu::Channels, normalize};
use crate::{Error, Result, cpu::slices, empty, products::is_mixed};

/// The error of a sum over processes.
type Refusal = Box<dyn StdError + Send + Sync>;

type Sum = dyn Fn(&mut [f64]) -> std::result::Result<(), Refusal> + Send + Sync;

/// Replaces numbers by their sums over all processes that train together; a value, so that an
/// operator can keep it for its backward.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{SumOver, batch_norm2d_synced};
/// // A group of two processes that hold the same numbers.
/// let twice = SumOver::new(|values| {
///     values.iter_mut().for_each(|value| *value *= 2.0);
///     Ok(())
/// });
/// let x = Tensor::new(&[[[[1_f32, 3.0]]]], &Device::Cpu)?;
/// let (one, zero) = (Tensor::new(&[1_f32], &Device::Cpu)?, Tensor::new(&[0_f32], &Device::Cpu)?);
/// let (y, moments) = batch_norm2d_synced(&x, &one, &zero, 0.0, &twice)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [-1.0, 1.0]);
/// assert!((moments.variance.to_vec1::<f32>()?[0] - 4.0 / 3.0).abs() < 1e-6); // of four values
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone)]
pub struct SumOver(Arc<Sum>);

impl SumOver {
    /// `sum` must give the same sums on every process.
    pub fn new(
        sum: impl Fn(&mut [f64]) -> std::result::Result<(), Refusal> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(sum))
    }

    pub(super) fn sum(&self, values: &mut [f64]) -> CandleResult<()> {
        (self.0)(values).map_err(CandleError::wrap)
    }
}

impl fmt::Debug for SumOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SumOver(..)")
    }
}

/// Computes [`batch_norm2d`](crate::batch_norm2d) of the batch that all processes' `x` make
/// together: one exchange of 2 C + 1 numbers forward (number of values, their sums and sums of
/// squares, in f64), one of 2 C backward.
///
/// The gradients to `weight` and `bias` are this process's part, to be summed with the others' as
/// those of any parameter; the gradient to `x` is that of the sum of all processes' losses. Every
/// process must call it, and its backward, equally often. Tensors that are not f32 on the CPU go
/// through f32 on the CPU.
///
/// # Shapes
/// As [`batch_norm2d`](crate::batch_norm2d); the processes' `x` may differ in B, H and W.
///
/// # Errors
/// As [`batch_norm2d`](crate::batch_norm2d), the count of values being that of all processes; any
/// error of the exchange.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{SumOver, batch_norm2d_synced};
/// // A group of two processes that hold the same numbers.
/// let twice = SumOver::new(|values| {
///     values.iter_mut().for_each(|value| *value *= 2.0);
///     Ok(())
/// });
/// let x = Tensor::new(&[[[[1_f32, 3.0]]]], &Device::Cpu)?;
/// let (one, zero) = (Tensor::new(&[1_f32], &Device::Cpu)?, Tensor::new(&[0_f32], &Device::Cpu)?);
/// let (y, moments) = batch_norm2d_synced(&x, &one, &zero, 0.0, &twice)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [-1.0, 1.0]);
/// assert!((moments.variance.to_vec1::<f32>()?[0] - 4.0 / 3.0).abs() < 1e-6); // of four values
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn batch_norm2d_synced(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    over: &SumOver,
) -> Result<(Tensor, Moments)> {
    const OP: &str = "batch_norm2d_synced";
    let (batch, channels, height, width) = check_operands(OP, x, (weight, bias), eps)?;
    if !x.device().is_cpu() || x.dtype() != DType::F32 || is_mixed(x, &[weight, bias]) {
        let host = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32);
        let back = |tensor: &Tensor| tensor.to_dtype(x.dtype())?.to_device(x.device());
        let (weight, bias) = (host(weight)?, host(bias)?);
        let (y, found) = batch_norm2d_synced(&host(x)?, &weight, &bias, eps, over)?;
        let moments = Moments { mean: back(&found.mean)?, variance: back(&found.variance)? };
        return Ok((back(&y)?, moments));
    }
    let x = x.contiguous()?;
    let local = (batch * height * width) as f64;
    let layout = Channels { count: channels, area: height * width };
    let mut sums = vec![local];
    if x.elem_count() == 0 {
        sums.resize(1 + 2 * channels, 0.0);
    } else {
        let (mean, variance) = layout.moments(&slices::borrow(&x)?);
        sums.extend(mean.iter().map(|mean| local * mean));
        // In f64 the mean's square costs no digits that f32 values have.
        sums.extend(mean.iter().zip(&variance).map(|(mean, var)| local * (var + mean * mean)));
    }
    over.sum(&mut sums)?;
    let count = sums[0];
    if count < 2.0 {
        return Err(Error::Value {
            op: OP,
            arg: "x",
            expected: "more than one value per channel, over all processes, to take statistics of"
                .into(),
            found: count.to_string(),
        });
    }
    let mean: Vec<f64> = sums[1..=channels].iter().map(|sum| sum / count).collect();
    let squares = sums[1 + channels..].iter().zip(&mean);
    let variance: Vec<f64> =
        squares.map(|(square, mean)| (square / count - mean * mean).max(0.0)).collect();
    let unbiased = count / (count - 1.0);
    let narrow = |values: &[f64], factor: f64| {
        let values = values.iter().map(|value| (value * factor) as f32).collect();
        slices::tensor(values, channels)
    };
    let moments = Moments { mean: narrow(&mean, 1.0)?, variance: narrow(&variance, unbiased)? };
    if x.elem_count() == 0 {
        return Ok((empty::result(x.shape(), &[&x, weight, bias])?, moments));
    }
    let measured = Measured::Everywhere { values: count, over: over.clone() };
    let y = normalize(OP, &x, weight, bias, (mean, variance), eps, layout, measured)?;
    Ok((y, moments))
}
