//! What goes into a detector and what comes out of it.

use candle_core::Tensor;
use pad_data::transform::detection::ObjectMask;
use pad_ops::ImageSize;

/// Boxes: left, top, right and bottom edge, pixels, continuous (the box of one pixel has sides of 1).
pub type Boxes = Vec<[f32; 4]>;

/// What there is to find in an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Boxes inside the image, of an area above 0; maybe none.
    pub boxes: Boxes,
    /// Class of each box, below the detector's number of classes.
    pub labels: Vec<u32>,
    /// Pixels of each box's object; needed by a detector with a head on masks only.
    pub masks: Vec<ObjectMask>,
}

/// Images with the boxes that are to be found in them.
#[derive(Clone, Debug)]
pub struct DetectionBatch {
    /// (B, C, H, W), normalised; each image at the upper left, zeros beside and below.
    pub images: Tensor,
    /// Height and width of each image in its place.
    pub sizes: Vec<ImageSize>,
    /// What to find in each.
    pub targets: Vec<Target>,
}

/// An object found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Left, top, right and bottom edge, pixels of the detector's input, inside the image.
    pub bbox: [f32; 4],
    /// Probability of the class.
    pub score: f32,
    /// Class.
    pub label: u32,
}

/// Detections of an image of size `from` in the pixels of the same image at size `to`, clipped to it, those left
/// without an area dropped (detectron2's `detector_postprocess`).
pub fn rescaled(detections: &[Detection], from: ImageSize, to: ImageSize) -> Vec<Detection> {
    let horizontal = to.width as f32 / from.width as f32;
    let vertical = to.height as f32 / from.height as f32;
    let moved = detections.iter().map(|found| {
        let [x1, y1, x2, y2] = found.bbox;
        let scaled = [x1 * horizontal, y1 * vertical, x2 * horizontal, y2 * vertical];
        Detection { bbox: super::boxes::clipped(scaled, to), ..*found }
    });
    moved.filter(|found| super::boxes::has_area(found.bbox)).collect()
}
