//! The convolution as matrix products with the pixels under the kernel.

use candle_core::{DType, Device, Tensor};

use super::options::Conv2dOptions;
use crate::{ImageSize, Result, products};

/// [`conv2d`](crate::conv2d) in candle operations: any device and floating dtype. Computes every
/// gradient.
///
/// # Shapes
/// `x` (B, C, H, W); `weight` (O, C, kernel rows, kernel columns); `bias` (O).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let x = Tensor::new(&[[[[1_f64, 2.0, 3.0]]]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[[[1_f64, 10.0]]]], &Device::Cpu)?;
/// let y = pad_ops::reference::conv2d(&x, &weight, None, 0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, [21.0, 32.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn conv2d_reference(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    padding: usize,
) -> Result<Tensor> {
    conv2d_with_reference(x, weight, bias, Conv2dOptions::padded(padding))
}

/// [`conv2d_with`](crate::conv2d_with) in candle operations: any device and floating dtype. Computes
/// every gradient.
///
/// # Shapes
/// As [`conv2d_with`](crate::conv2d_with).
///
/// # Errors
/// As [`conv2d_with`](crate::conv2d_with); any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{Conv2dOptions, ImageSize, reference};
/// let x = Tensor::new(&[[[[1_f64, 2.0, 3.0]]]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[[[5_f64]]]], &Device::Cpu)?;
/// let options = Conv2dOptions { stride: ImageSize::square(2), ..Default::default() };
/// let y = reference::conv2d_with(&x, &weight, None, options)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, [5.0, 15.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn conv2d_with_reference(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: Conv2dOptions,
) -> Result<Tensor> {
    let (outputs, _, rows, columns) = weight.dims4()?;
    let y = if is_candles(x, ImageSize::new(rows, columns), options) {
        x.conv2d(weight, options.padding.height, 1, 1, 1)?
    } else {
        unfolded(x, weight, options)?
    };
    Ok(match bias {
        Some(bias) => products::add_bias(&y, &bias.reshape((1, outputs, 1, 1))?)?,
        None => y,
    })
}

/// Whether candle's own convolution computes it, forward and backward. Its backward derives the
/// padding of the transposed convolution from the rows alone, which is right for all sizes only
/// without a stride; on the CPU it has no half precision.
fn is_candles(x: &Tensor, kernel: ImageSize, options: Conv2dOptions) -> bool {
    let one = ImageSize::square(1);
    let dense = options.stride == one && options.dilation == one && options.groups == 1;
    let square = kernel.height == kernel.width && options.padding.height == options.padding.width;
    let half = matches!(x.dtype(), DType::BF16 | DType::F16);
    dense && square && !(half && x.device().is_cpu())
}

fn unfolded(x: &Tensor, weight: &Tensor, options: Conv2dOptions) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (outputs, in_group, rows, columns) = weight.dims4()?;
    let (image, kernel) = (ImageSize { height, width }, ImageSize::new(rows, columns));
    let out = options.output_size(image, kernel)?;
    let (padding, groups) = (options.padding, options.groups);
    let x = x.pad_with_zeros(2, padding.height, padding.height)?;
    let x = x.pad_with_zeros(3, padding.width, padding.width)?.contiguous()?;
    let mut taps = Vec::with_capacity(kernel.area());
    for row in 0..rows {
        let (first, stride) = (row * options.dilation.height, options.stride.height);
        let band = x.index_select(&places(first, stride, out.height, x.device())?, 2)?;
        for column in 0..columns {
            let (first, stride) = (column * options.dilation.width, options.stride.width);
            taps.push(band.index_select(&places(first, stride, out.width, x.device())?, 3)?);
        }
    }
    // (B, C, taps, out rows, out columns) -> (B, groups, channels of a group * taps, pixels).
    let pixels = out.area();
    let taps = Tensor::stack(&taps, 2)?;
    let taps = taps.reshape((batch * groups, channels / groups * kernel.area(), pixels))?;
    let weight = weight.reshape((1, groups, outputs / groups, in_group * kernel.area()))?;
    let weight =
        weight.broadcast_as((batch, groups, outputs / groups, in_group * kernel.area()))?;
    let weight = weight.contiguous()?.reshape((
        batch * groups,
        outputs / groups,
        in_group * kernel.area(),
    ))?;
    let y = products::matmul(&weight, &taps)?;
    Ok(y.reshape((batch, outputs, out.height, out.width))?)
}

/// The pixels under one value of the kernel along an axis.
fn places(first: usize, stride: usize, count: usize, device: &Device) -> Result<Tensor> {
    let places: Vec<u32> = (0..count).map(|at| (first + at * stride) as u32).collect();
    Ok(Tensor::new(places, device)?)
}
