//! Maximum over square windows.
//!
//! Saved for the backward: the operand; the places of the maxima are looked for again.

mod cpu;
mod reference;

use candle_core::{Result as CandleResult, Shape, Tensor};

use crate::{
    Error, Result, check,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
    empty,
};
use cpu::Windows;
pub use reference::max_pool2d_reference;

/// Computes the maximum of every `kernel` x `kernel` window, windows `stride` apart, no padding;
/// pixels that do not fill a window at the right and the bottom are left out. The gradient goes to
/// the first of equal maxima; NaN stays NaN.
///
/// # Shapes
/// `x` (B, C, H, W), floating dtype -> (B, C, (H - kernel) / stride + 1, (W - kernel) / stride +
/// 1).
///
/// # Errors
/// [`Error::Shape`] or `DType`; [`Error::Value`] for a kernel or stride of 0, or a kernel larger
/// than the image.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[[[1_f32, 2.0, 9.0], [4.0, 3.0, 9.0]]]], &Device::Cpu)?;
/// let y = pad_ops::max_pool2d(&x, 2, 2)?; // the third column fills no window
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [4.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize) -> Result<Tensor> {
    const OP: &str = "max_pool2d";
    check::expect_rank(OP, "x", x, 4, "(B, C, H, W)")?;
    check::expect_float(OP, "x", x)?;
    let (batch, channels, height, width) = x.dims4()?;
    let value = |arg, expected: String, found: usize| Error::Value {
        op: OP,
        arg,
        expected,
        found: found.to_string(),
    };
    let smallest = height.min(width);
    if kernel == 0 || kernel > smallest {
        let expected = format!("between 1 and the image's smaller side {smallest}");
        return Err(value("kernel", expected, kernel));
    }
    if stride == 0 {
        return Err(value("stride", "at least 1".into(), stride));
    }
    let windows = Windows { height, width, kernel, stride };
    if x.elem_count() == 0 {
        let shape = (batch, channels, windows.out_height(), windows.out_width());
        return Ok(empty::result(shape, &[x])?);
    }
    if !has_kernel(x) {
        return max_pool2d_reference(x, kernel, stride);
    }
    let x = x.contiguous()?;
    let y = windows.forward(&slices::borrow(&x)?);
    let shape = Shape::from((batch, channels, windows.out_height(), windows.out_width()));
    let backward = MaxPool { x: x.clone(), windows };
    Ok(nary::apply(OP, &x, &[], y, shape, backward)?)
}

struct MaxPool {
    x: Tensor,
    windows: Windows,
}

impl Backward for MaxPool {
    fn backward(&self, d_y: &[f32], d_x: bool, _wanted: &[bool]) -> CandleResult<Gradients> {
        let x = slices::borrow(&self.x)?;
        Ok(Gradients { d_x: d_x.then(|| self.windows.backward(&x, d_y)), d_params: Vec::new() })
    }
}
