//! The transposed convolution as candle's matrix product and a permutation.

use candle_core::Tensor;

use crate::{
    Result,
    products::{self, matmul},
};

/// [`conv_transpose2x2`](crate::conv_transpose2x2) in candle operations: any device and floating
/// dtype.
///
/// # Shapes
/// `x` (B, C, H, W); `weight` (C, O, 2, 2); `bias` (O).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let x = Tensor::new(&[[[[10_f64]]]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[[[1_f64, 2.0], [3.0, 4.0]]]], &Device::Cpu)?;
/// let y = pad_ops::reference::conv_transpose2x2(&x, &weight, None)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, [10.0, 20.0, 30.0, 40.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn conv_transpose2x2_reference(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let o = weight.dim(1)?;
    let pixels = x.permute((0, 2, 3, 1))?.contiguous()?.reshape((b * h * w, c))?;
    let y = matmul(&pixels, &weight.reshape((c, o * 4))?)?.reshape(vec![b, h, w, o, 2, 2])?;
    let y = y.permute(vec![0, 3, 1, 4, 2, 5])?.contiguous()?.reshape((b, o, 2 * h, 2 * w))?;
    Ok(match bias {
        Some(bias) => products::add_bias(&y, &bias.reshape((1, o, 1, 1))?)?,
        None => y,
    })
}
