//! 2D convolution as matrix products, forward and backward: columns in blocks of rows, or
//! Winograd's tiles for 3 x 3 kernels of stride 1 with enough channels.
//!
//! Saved for the backward: the operands; columns and tiles are gathered again.

mod cpu;
mod geometry;
mod options;
mod reference;
mod winograd;

use candle_core::{Result as CandleResult, Tensor};

use crate::{
    Result,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
    empty,
    products::{self, in_f32},
};
use geometry::Geometry;
pub use options::Conv2dOptions;
use options::OP;
pub use reference::{conv2d_reference, conv2d_with_reference};

/// Computes `y[b, o] = bias[o] + sum_c weight[o, c] * x[b, c]`, cross-correlated, stride 1, zeros
/// around the image. Gradients to every operand that tracks something.
///
/// # Shapes
/// `x` (B, C, H, W); `weight` (O, C, k, l), of any sides; `bias` (O); result (B, O, H + 2 padding -
/// k + 1, W + 2 padding - l + 1), of the dtype of `x`. Any floating dtype; half types go with
/// weights of `f32` and the other way round.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), `DType` or `Device` if an operand does not fit `x`;
/// `Value` for a kernel that is larger than the padded image.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[[[1_f32, 2.0, 3.0]]]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[[[1_f32, 10.0]]]], &Device::Cpu)?; // one row, two columns
/// let y = pad_ops::conv2d(&x, &weight, None, 0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [21.0, 32.0]); // not mirrored
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    padding: usize,
) -> Result<Tensor> {
    conv2d_with(x, weight, bias, Conv2dOptions::padded(padding))
}

/// Computes [`conv2d`] with strides, dilation and groups.
///
/// # Shapes
/// `x` (B, C, H, W); `weight` (O, C / groups, kernel rows, kernel columns); `bias` (O); result
/// (B, O, [`Conv2dOptions::output_size`]), of the dtype of `x`. Any floating dtype; half types go
/// with weights of `f32` and the other way round.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), `DType` or `Device` if an operand does not fit `x`;
/// `Value` for a stride or dilation of 0, groups that do not divide the channels of both sides, or a
/// kernel that is larger than the padded image.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{Conv2dOptions, ImageSize, conv2d_with};
/// let x = Tensor::new(&[[[[1_f32, 2.0, 3.0, 4.0]], [[5.0, 6.0, 7.0, 8.0]]]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[[[1_f32]]], [[[10.0]]]], &Device::Cpu)?;
/// let stride = ImageSize::new(1, 2);
/// let depthwise = Conv2dOptions { stride, groups: 2, ..Default::default() };
/// let y = conv2d_with(&x, &weight, None, depthwise)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1.0, 3.0, 50.0, 70.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn conv2d_with(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: Conv2dOptions,
) -> Result<Tensor> {
    let geometry = options.expect(x, weight, bias)?;
    let outputs = geometry.outputs * geometry.groups;
    let shape = [geometry.batch, outputs, geometry.out_height(), geometry.out_width()];
    let mut operands = vec![x, weight];
    operands.extend(bias);
    if empty::is_empty(&shape) {
        return Ok(empty::result(shape.to_vec(), &operands)?);
    }
    if x.elem_count() == 0 || weight.elem_count() == 0 {
        // No channel, or padding around an image without pixels: sums of nothing or of zeros.
        let y = Tensor::zeros(shape.to_vec(), x.dtype(), x.device())?;
        let y = empty::reaching(&y, &operands[..2])?;
        return Ok(match bias {
            Some(bias) => products::add_bias(&y, &bias.reshape((1, outputs, 1, 1))?)?,
            None => y,
        });
    }
    if products::is_mixed(x, &operands[1..]) {
        let bias = bias.map(in_f32).transpose()?;
        let y = conv2d_with(&in_f32(x)?, &in_f32(weight)?, bias.as_ref(), options)?;
        return Ok(y.to_dtype(x.dtype())?);
    }
    if !has_kernel(x) {
        return conv2d_with_reference(x, weight, bias, options);
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let y = {
        let bias = bias.as_ref().map(slices::borrow).transpose()?;
        geometry.forward(&slices::borrow(&x)?, &slices::borrow(&weight)?, bias.as_deref())
    };
    let mut params = vec![&weight];
    params.extend(&bias);
    let backward = Conv2d { x: x.clone(), weight: weight.clone(), geometry };
    Ok(nary::apply(OP, &x, &params, y, shape.to_vec().into(), backward)?)
}

struct Conv2d {
    x: Tensor,
    weight: Tensor,
    geometry: Geometry,
}

impl Backward for Conv2d {
    fn backward(&self, d_y: &[f32], d_x: bool, wanted: &[bool]) -> CandleResult<Gradients> {
        let x = slices::borrow(&self.x)?;
        let weight = slices::borrow(&self.weight)?;
        let (d_x, d_weight) = self.geometry.backward(&x, &weight, d_y, d_x, wanted[0]);
        let mut d_params = vec![d_weight];
        if let Some(&bias) = wanted.get(1) {
            d_params.push(bias.then(|| self.geometry.d_bias(d_y)));
        }
        Ok(Gradients { d_x, d_params })
    }
}
