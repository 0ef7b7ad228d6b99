//! The boxes and options of RoIAlign, and their checks.

use candle_core::Tensor;

use crate::{Error, Result, check};

/// A box of an image, and the map that it is pooled from.
///
/// ```
/// use pad_ops::ImageBox;
/// // Columns 2 and 3, rows 0 to 4 of the first image: edges, not pixel centres.
/// let roi = ImageBox { map: 0, image: 0, bbox: [2.0, 0.0, 4.0, 5.0] };
/// assert_eq!(roi.bbox[2] - roi.bbox[0], 2.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageBox {
    /// Index of the map.
    pub map: usize,
    /// Index of the image in the batch.
    pub image: usize,
    /// Left, top, right and bottom edge, pixels of the image.
    pub bbox: [f32; 4],
}

/// How boxes are sampled.
///
/// ```
/// use pad_ops::RoiAlign;
/// let options = RoiAlign { sampling_ratio: Some(2), ..RoiAlign::square(7) };
/// assert_eq!((options.height, options.width), (7, 7));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoiAlign {
    /// Rows of bins.
    pub height: usize,
    /// Columns of bins.
    pub width: usize,
    /// Samples of a bin along each axis, at least 1; `None`: as many as the bin has pixels of the
    /// map, rounded up.
    pub sampling_ratio: Option<usize>,
}

impl RoiAlign {
    /// `side` x `side` bins whose samples are as dense as the map's pixels.
    pub const fn square(side: usize) -> Self {
        Self { height: side, width: side, sampling_ratio: None }
    }
}

pub(super) const OP: &str = "roi_align";

pub(super) fn no_map() -> Error {
    value("maps", "at least one".into(), "none".into())
}

pub(super) fn value(arg: &'static str, expected: String, found: String) -> Error {
    Error::Value { op: OP, arg, expected, found }
}

/// Checks the operands; returns images and channels.
pub(super) fn expect(
    maps: &[Tensor],
    scales: &[f32],
    rois: &[ImageBox],
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
    if let Some(scale) = scales.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
        return Err(value("scales", "finite numbers above 0".into(), scale.to_string()));
    }
    if options.height == 0 || options.width == 0 {
        let found = format!("{} x {}", options.height, options.width);
        return Err(value("options", "at least 1 x 1 bins".into(), found));
    }
    if options.sampling_ratio == Some(0) {
        return Err(value("sampling_ratio", "at least 1".into(), "0".into()));
    }
    if let Some(roi) = rois.iter().find(|roi| roi.map >= maps.len() || roi.image >= images) {
        let expected = format!("a map below {} and an image below {images}", maps.len());
        return Err(value("rois", expected, format!("map {}, image {}", roi.map, roi.image)));
    }
    Ok((images, channels))
}
