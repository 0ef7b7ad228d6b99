//! Features of boxes, cut out of maps and averaged to one size (RoIAlign, He et al., 2017; aligned
//! by half a pixel, as detectron2's `ROIAlignV2`), from several maps in one operation.
//!
//! A bin is the mean of bilinear samples on a regular grid. The grid is a product of rows and
//! columns, so a region is two small matrix products, `rows x map x columns^T`: see [`sampling`].
//! Saved for the backward: those weights.

mod boxes;
mod cpu;
mod device;
mod reference;
mod sampling;

use candle_core::{Result as CandleResult, Shape, Tensor};

use crate::{
    Result,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
    empty, gpu,
};
pub use boxes::{ImageBox, RoiAlign};
use boxes::{OP, expect, no_map};
pub use reference::roi_align_reference;
use sampling::regions;

/// Pools the features of `rois` from `maps`, whose pixels are `scales` times those of the image.
/// What lies further than a pixel outside a map is 0; with an adaptive sampling ratio so is a box of
/// a negative side. Gradients to every map that tracks something, none to boxes.
///
/// Boxes are aligned by half a pixel: the value at coordinate 0 is at the corner of the first pixel,
/// not at its centre, so a box over one whole pixel gives that pixel (detectron2's
/// `ROIAlignV2`, torchvision's `aligned=True`; torchvision's default is `False`).
///
/// # Shapes
/// `maps` (B, C, H, W) each, of one B and C; result (R, C, `height`, `width`).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), `DType` or `Device` for maps that do not belong together;
/// `Value` for no map, no bin, another number of scales, a map or image that does not exist, or a
/// box whose edges are not finite or that spans more than 65,536 samples of a bin, or scales that
/// are not finite and above 0.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{ImageBox, RoiAlign, roi_align};
/// let map = Tensor::new(&[[[[1_f32, 2.0], [3.0, 4.0]]]], &Device::Cpu)?;
/// let pooled = |bbox| -> pad_ops::Result<Vec<f32>> {
///     let rois = [ImageBox { map: 0, image: 0, bbox }];
///     Ok(roi_align(&[map.clone()], &[1.0], &rois, RoiAlign::square(1))?.flatten_all()?.to_vec1()?)
/// };
/// assert_eq!(pooled([1.0, 0.0, 2.0, 1.0])?, [2.0]); // the upper right pixel, exactly
/// assert_eq!(pooled([0.0, 0.0, 2.0, 2.0])?, [2.5]); // the mean of all four
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn roi_align(
    maps: &[Tensor],
    scales: &[f32],
    rois: &[ImageBox],
    options: RoiAlign,
) -> Result<Tensor> {
    let (images, channels) = expect(maps, scales, rois, options)?;
    let regions = regions(maps, scales, rois, options)?;
    let [first, others @ ..] = maps else { return Err(no_map()) };
    let shape = Shape::from((rois.len(), channels, options.height, options.width));
    if shape.elem_count() == 0 {
        return Ok(empty::result(shape, &maps.iter().collect::<Vec<_>>())?);
    }
    let empty = maps.iter().any(|map| map.elem_count() == 0);
    if gpu::has_kernel(maps) && !empty {
        return Ok(device::apply(maps, &regions, options)?);
    }
    if !has_kernel(first) || empty {
        return reference::align(maps, &regions, shape);
    }
    let maps: Vec<Tensor> = maps.iter().map(Tensor::contiguous).collect::<CandleResult<_>>()?;
    let sizes: Vec<(usize, usize)> =
        maps.iter().map(|map| Ok((map.dim(2)?, map.dim(3)?))).collect::<CandleResult<_>>()?;
    let kernel = cpu::Kernel { images, channels, sizes, options, regions };
    let y = {
        let values = maps.iter().map(slices::borrow).collect::<CandleResult<Vec<_>>>()?;
        let values: Vec<&[f32]> = values.iter().map(|values| &**values).collect();
        kernel.forward(&values)
    };
    let params: Vec<&Tensor> = maps[1..].iter().collect();
    debug_assert_eq!(params.len(), others.len());
    Ok(nary::apply(OP, &maps[0], &params, y, shape, kernel)?)
}

impl Backward for cpu::Kernel {
    fn backward(&self, d_y: &[f32], d_x: bool, wanted: &[bool]) -> CandleResult<Gradients> {
        let gradient = |map: usize, wanted: bool| wanted.then(|| self.d_map(map, d_y));
        let d_params = wanted.iter().enumerate().map(|(i, &wanted)| gradient(i + 1, wanted));
        Ok(Gradients { d_x: gradient(0, d_x), d_params: d_params.collect() })
    }
}
