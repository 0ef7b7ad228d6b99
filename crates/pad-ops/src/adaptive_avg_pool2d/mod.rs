//! Averages over windows that cover the image, for any number of windows: the pooling pyramid of
//! UPerNet.
//!
//! Saved for the backward: nothing.

mod cpu;
mod reference;

use candle_core::{Result as CandleResult, Shape, Tensor};

use crate::{
    ImageSize, Result, check,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
    empty,
};
use cpu::Bins;
pub use reference::adaptive_avg_pool2d_reference;

/// Averages windows: row `i` of the result is the mean of rows
/// `floor(i H / h) .. ceil((i + 1) H / h)`, columns alike (PyTorch's windows, which overlap where
/// sides do not divide; the result may be larger than the image).
///
/// # Shapes
/// `x` (B, C, H, W), floating dtype -> (B, C, `size`).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) or `DType`; [`Error::Value`](crate::Error::Value) for an empty `size`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{ImageSize, adaptive_avg_pool2d};
/// let x = Tensor::new(&[[[[1_f32, 2.0, 6.0]]]], &Device::Cpu)?;
/// let y = adaptive_avg_pool2d(&x, ImageSize::new(1, 2))?; // the middle pixel is in both windows
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1.5, 4.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn adaptive_avg_pool2d(x: &Tensor, size: ImageSize) -> Result<Tensor> {
    const OP: &str = "adaptive_avg_pool2d";
    check::expect_rank(OP, "x", x, 4, "(B, C, H, W)")?;
    check::expect_float(OP, "x", x)?;
    let (batch, channels, height, width) = x.dims4()?;
    if height * width == 0 {
        return Err(check::shape_error(OP, "x", x, "an image of at least one pixel".into()));
    }
    check::expect_size(OP, "size", size, batch * channels)?;
    if x.elem_count() == 0 {
        return Ok(empty::result((batch, channels, size.height, size.width), &[x])?);
    }
    if !has_kernel(x) {
        return adaptive_avg_pool2d_reference(x, size);
    }
    let bins = Bins::new(ImageSize { height, width }, size);
    let y = bins.forward(&slices::borrow(&x.contiguous()?)?);
    let shape = Shape::from((batch, channels, size.height, size.width));
    Ok(nary::apply(OP, x, &[], y, shape, AdaptiveAvgPool(bins))?)
}

struct AdaptiveAvgPool(Bins);

impl Backward for AdaptiveAvgPool {
    fn backward(&self, d_y: &[f32], d_x: bool, _wanted: &[bool]) -> CandleResult<Gradients> {
        Ok(Gradients { d_x: d_x.then(|| self.0.backward(d_y)), d_params: Vec::new() })
    }
}
