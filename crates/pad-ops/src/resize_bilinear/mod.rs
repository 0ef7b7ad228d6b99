//! Bilinear resizing of maps, PyTorch's `interpolate(mode="bilinear", antialias=False)`.
//!
//! Saved for the backward: nothing.

mod cpu;
mod device;
mod reference;

use candle_core::{Result as CandleResult, Shape, Tensor};

use crate::{
    ImageSize, Result, check,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
    empty, gpu,
};
use cpu::Resize;
pub use reference::resize_bilinear_reference;

/// Resizes `x`. Without `align_corners` pixels are areas (half-pixel centres, edges repeated), with
/// it the corners' centres stay where they are. No antialiasing when shrinking.
///
/// # Shapes
/// `x` (B, C, H, W), floating dtype -> (B, C, `size`).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) or `DType`, and `Shape` for maps without a pixel; [`Error::Value`](crate::Error::Value) for an empty
/// `size`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{ImageSize, resize_bilinear};
/// let x = Tensor::new(&[[[[0_f32, 4.0]]]], &Device::Cpu)?;
/// let resized = |corners| -> pad_ops::Result<Vec<f32>> {
///     Ok(resize_bilinear(&x, ImageSize::new(1, 4), corners)?.flatten_all()?.to_vec1()?)
/// };
/// assert_eq!(resized(false)?, [0.0, 1.0, 3.0, 4.0]); // half-pixel centres
/// assert!((resized(true)?[1] - 4.0 / 3.0).abs() < 1e-6); // corners stay
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn resize_bilinear(x: &Tensor, size: ImageSize, align_corners: bool) -> Result<Tensor> {
    const OP: &str = "resize_bilinear";
    check::expect_rank(OP, "x", x, 4, "(B, C, H, W)")?;
    check::expect_float(OP, "x", x)?;
    let (batch, channels, height, width) = x.dims4()?;
    if height * width == 0 {
        return Err(check::shape_error(OP, "x", x, "an image of at least one pixel".into()));
    }
    check::expect_size(OP, "size", size, batch * channels)?;
    let from = ImageSize { height, width };
    if from == size {
        return Ok(x.clone());
    }
    if gpu::has_kernel([x]) {
        return Ok(device::apply(&x.contiguous()?, size, align_corners)?);
    }
    if x.elem_count() == 0 {
        return Ok(empty::result((batch, channels, size.height, size.width), &[x])?);
    }
    if !has_kernel(x) {
        return resize_bilinear_reference(x, size, align_corners);
    }
    let resize = Resize::new(from, size, align_corners);
    let y = resize.forward(&slices::borrow(&x.contiguous()?)?);
    let shape = Shape::from((batch, channels, size.height, size.width));
    Ok(nary::apply(OP, x, &[], y, shape, ResizeBilinear(resize))?)
}

struct ResizeBilinear(Resize);

impl Backward for ResizeBilinear {
    fn backward(&self, d_y: &[f32], d_x: bool, _wanted: &[bool]) -> CandleResult<Gradients> {
        Ok(Gradients { d_x: d_x.then(|| self.0.backward(d_y)), d_params: Vec::new() })
    }
}
