//! Features of boxes, cut out of maps and averaged to one size (RoIAlign, He et al., 2017; aligned by half a pixel, as
//! detectron2's `ROIAlignV2`), from several maps in one operation.
//!
//! A bin is the mean of bilinear samples on a regular grid. The grid is a product of rows and columns, so a region is two
//! small matrix products, `rows x map x columns^T`: see [`sampling`]. Saved for the backward: those weights.

mod cpu;
mod device;
mod reference;
mod sampling;

use candle_core::{Result as CandleResult, Shape, Tensor};

use crate::{
    Error, Result, check,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
    gpu,
};
pub use reference::roi_align_reference;
use sampling::{Region, regions};

/// A box on one of several maps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roi {
    /// Which map.
    pub map: usize,
    /// Which image of the batch.
    pub image: usize,
    /// Left, top, right and bottom edge, pixels of the image.
    pub bbox: [f32; 4],
}

/// How boxes are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoiAlign {
    /// Rows of bins.
    pub height: usize,
    /// Columns of bins.
    pub width: usize,
    /// Samples of a bin along each axis; 0: as many as the bin has pixels of the map, rounded up.
    pub samples: usize,
}

impl RoiAlign {
    /// `side` x `side` bins whose samples are as dense as the map's pixels.
    pub const fn square(side: usize) -> Self {
        Self { height: side, width: side, samples: 0 }
    }
}

/// The features of `rois` in `maps`, whose pixels are `scales` times those of the image. What lies further than a pixel
/// outside a map is 0; so is a box of a negative side. Gradients to every map that tracks something, none to boxes.
///
/// # Shapes
/// `maps` (B, C, H, W) each, of one B and C; result (R, C, `height`, `width`).
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`] or [`Error::Device`] for maps that do not belong together; [`Error::Value`] for no
/// map, no bin, another number of scales, a map or image that there is not, or a box whose edges are no numbers or that
/// spans more than 65,536 samples of a bin.
pub fn roi_align(
    maps: &[Tensor],
    scales: &[f32],
    rois: &[Roi],
    options: RoiAlign,
) -> Result<Tensor> {
    let (images, channels) = expect(maps, scales, rois, options)?;
    let regions = regions(maps, scales, rois, options)?;
    let [first, others @ ..] = maps else { return Err(no_map()) };
    let shape = Shape::from((rois.len(), channels, options.height, options.width));
    let empty = rois.is_empty() || maps.iter().any(|map| map.elem_count() == 0);
    if gpu::has_kernel(first) && !empty {
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

const OP: &str = "roi_align";

fn no_map() -> Error {
    value("maps", "at least one".into(), "none".into())
}

fn value(arg: &'static str, expected: String, found: String) -> Error {
    Error::Value { op: OP, arg, expected, found }
}

/// Checks the operands; returns images and channels.
fn expect(
    maps: &[Tensor],
    scales: &[f32],
    rois: &[Roi],
    options: RoiAlign,
) -> Result<(usize, usize)> {
    let Some(first) = maps.first() else { return Err(no_map()) };
    check::expect_rank(OP, "maps", first, 4, "(B, C, H, W)")?;
    check::expect_float(OP, "maps", first)?;
    let (images, channels, ..) = first.dims4()?;
    for map in &maps[1..] {
        check::expect_rank(OP, "maps", map, 4, "(B, C, H, W)")?;
        let (.., height, width) = map.dims4()?;
        check::expect_shape(OP, "maps", map, &[images, channels, height, width])?;
        check::expect_like(OP, "maps", map, first)?;
    }
    if scales.len() != maps.len() {
        return Err(value("scales", maps.len().to_string(), scales.len().to_string()));
    }
    if options.height == 0 || options.width == 0 {
        let found = format!("{} x {}", options.height, options.width);
        return Err(value("options", "at least 1 x 1 bins".into(), found));
    }
    if let Some(roi) = rois.iter().find(|roi| roi.map >= maps.len() || roi.image >= images) {
        let expected = format!("a map below {} and an image below {images}", maps.len());
        return Err(value("rois", expected, format!("map {}, image {}", roi.map, roi.image)));
    }
    Ok((images, channels))
}

impl Backward for cpu::Kernel {
    fn backward(&self, d_y: &[f32], d_x: bool, wanted: &[bool]) -> CandleResult<Gradients> {
        let gradient = |map: usize, wanted: bool| wanted.then(|| self.d_map(map, d_y));
        let d_params = wanted.iter().enumerate().map(|(i, &wanted)| gradient(i + 1, wanted));
        Ok(Gradients { d_x: gradient(0, d_x), d_params: d_params.collect() })
    }
}
