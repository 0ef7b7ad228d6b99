//! Inputs and outputs of a detector.

pub use pad_data::{
    loader::DetectionBatch,
    transform::detection::{DetectionTargets, Target},
};
use pad_ops::ImageSize;

/// Boxes: left, top, right and bottom edge, pixels, continuous (the box of one pixel has sides of
/// 1).
///
/// ```
/// use pad_heads::detection::Boxes;
/// let boxes: Boxes = vec![[2.0, 3.0, 10.0, 9.0]];
/// let area = |[x1, y1, x2, y2]: [f32; 4]| (x2 - x1) * (y2 - y1);
/// assert_eq!(area(boxes[0]), 48.0); // no pixel is added to the sides
/// ```
pub type Boxes = Vec<[f32; 4]>;

/// A detected object.
///
/// ```
/// use pad_heads::detection::Detection;
/// let found = Detection { bbox: [2.0, 3.0, 10.0, 9.0], score: 0.9, label: 1 };
/// assert_eq!(found.bbox[2] - found.bbox[0], 8.0); // edges: a width of eight pixels
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Left, top, right and bottom edge, pixels of the detector's input, inside the image.
    pub bbox: [f32; 4],
    /// Probability of the class.
    pub score: f32,
    /// Class.
    pub label: u32,
}

/// Returns the detections of an image of size `from` in pixels of the same image at size `to`,
/// clipped to it, without those that have no area left (detectron2's `detector_postprocess`).
///
/// ```
/// use pad_heads::detection::{Detection, rescaled};
/// use pad_ops::ImageSize;
/// let found = [Detection { bbox: [2.0, 4.0, 10.0, 8.0], score: 0.9, label: 1 }];
/// let larger = rescaled(&found, ImageSize::new(10, 10), ImageSize::new(20, 30));
/// assert_eq!(larger[0].bbox, [6.0, 8.0, 30.0, 16.0]);
/// ```
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
