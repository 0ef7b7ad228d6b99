//! Two dense matrix products for every box.

use candle_core::{Shape, Tensor};

use super::{
    boxes::{ImageBox, RoiAlign, expect},
    sampling::{Bin, Region, regions},
};
use crate::{Result, empty, products::matmul};

/// [`roi_align`](crate::roi_align) in candle operations: any device and floating dtype.
///
/// # Shapes
/// `maps` (B, C, H, W) each -> (R, C, `height`, `width`).
///
/// # Errors
/// As [`roi_align`](crate::roi_align).
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{ImageBox, RoiAlign, reference};
/// let map = Tensor::new(&[[[[1_f64, 2.0], [3.0, 4.0]]]], &Device::Cpu)?;
/// let rois = [ImageBox { map: 0, image: 0, bbox: [0.0, 0.0, 2.0, 2.0] }];
/// let y = reference::roi_align(&[map], &[1.0], &rois, RoiAlign::square(1))?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, [2.5]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn roi_align_reference(
    maps: &[Tensor],
    scales: &[f32],
    rois: &[ImageBox],
    options: RoiAlign,
) -> Result<Tensor> {
    let (_, channels) = expect(maps, scales, rois, options)?;
    let shape = Shape::from((rois.len(), channels, options.height, options.width));
    align(maps, &regions(maps, scales, rois, options)?, shape)
}

pub(super) fn align(maps: &[Tensor], regions: &[Region], shape: Shape) -> Result<Tensor> {
    let pooled: Vec<Tensor> = regions
        .iter()
        .map(|region| {
            let map = &maps[region.map];
            if map.elem_count() == 0 {
                // A map without pixels: nothing is near any box.
                let zeros = Tensor::zeros(&shape.dims()[1..], map.dtype(), map.device())?;
                return Ok(empty::reaching(&zeros, &[map])?);
            }
            let map = map.get(region.image)?.contiguous()?; // (C, H, W)
            let (channels, height, width) = map.dims3()?;
            let rows = dense(&region.rows, height, &map)?;
            let columns = dense(&region.columns, width, &map)?;
            let wide = matmul(&map.reshape((channels * height, width))?, &columns.t()?)?; // (C H, width)
            let wide = wide.reshape((channels, height, columns.dim(0)?))?;
            let rows = rows.broadcast_left(channels)?.contiguous()?;
            Ok(matmul(&rows, &wide)?)
        })
        .collect::<Result<_>>()?;
    if pooled.is_empty() || shape.elem_count() == 0 {
        return Ok(Tensor::zeros(shape, maps[0].dtype(), maps[0].device())?);
    }
    Ok(Tensor::stack(&pooled, 0)?)
}

/// (bins, side).
fn dense(bins: &[Bin], side: usize, like: &Tensor) -> Result<Tensor> {
    let mut weights = vec![0.0_f32; bins.len() * side];
    for (row, bin) in weights.chunks_exact_mut(side.max(1)).zip(bins) {
        row[bin.first..bin.end()].copy_from_slice(&bin.weights);
    }
    Ok(Tensor::from_vec(weights, (bins.len(), side), like.device())?.to_dtype(like.dtype())?)
}
