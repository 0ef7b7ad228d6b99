//! Clipping of boxes, and the encoding of one box relative to another (R-CNN's, with the clamp of
//! detectron2).

use pad_ops::ImageSize;

/// Largest logarithm of a decoded side over its reference's: that of 1000 / 16.
const LARGEST_GROWTH: f32 = 4.135_166_6;

/// Returns `bbox` clipped to an image of size `size`.
///
/// ```
/// use pad_heads::detection::boxes::clipped;
/// use pad_ops::ImageSize;
/// assert_eq!(clipped([-3.0, 2.0, 50.0, 8.0], ImageSize::new(10, 20)), [0.0, 2.0, 20.0, 8.0]);
/// ```
pub fn clipped(bbox: [f32; 4], size: ImageSize) -> [f32; 4] {
    let (width, height) = (size.width as f32, size.height as f32);
    let [x1, y1, x2, y2] = bbox;
    [x1.clamp(0.0, width), y1.clamp(0.0, height), x2.clamp(0.0, width), y2.clamp(0.0, height)]
}

/// Returns whether both sides are longer than 0.
///
/// ```
/// use pad_heads::detection::boxes::has_area;
/// assert!(has_area([0.0, 0.0, 1.0, 1.0]) && !has_area([3.0, 0.0, 3.0, 9.0]));
/// ```
pub fn has_area([x1, y1, x2, y2]: [f32; 4]) -> bool {
    x2 > x1 && y2 > y1
}

/// Returns width times height, whatever their signs.
///
/// ```
/// assert_eq!(pad_heads::detection::boxes::area([1.0, 2.0, 4.0, 6.0]), 12.0);
/// ```
pub fn area([x1, y1, x2, y2]: [f32; 4]) -> f32 {
    (x2 - x1) * (y2 - y1)
}

/// Encodes boxes relative to others: centre offsets in units of the reference's sides and
/// logarithms of the ratios of sides, each times its weight.
///
/// ```
/// use pad_heads::detection::boxes::BoxCoder;
/// let (anchor, object) = ([0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 25.0, 10.0]);
/// let deltas = BoxCoder::ANCHORS.encode(anchor, object);
/// assert_eq!(deltas, [1.0, 0.0, 2_f32.ln(), 0.0]);
/// let decoded = BoxCoder::ANCHORS.decode(anchor, &deltas);
/// assert!(decoded.iter().zip(object).all(|(a, b)| (a - b).abs() < 1e-5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxCoder {
    /// Weights of dx, dy, dw, dh.
    pub weights: [f32; 4],
}

impl BoxCoder {
    /// The coder of anchors: all weights 1.
    pub const ANCHORS: Self = Self { weights: [1.0; 4] };

    /// Returns `target` relative to `reference`. Both must have an area above 0, else the result is
    /// not finite.
    pub fn encode(&self, reference: [f32; 4], target: [f32; 4]) -> [f32; 4] {
        let ((x, y, w, h), (tx, ty, tw, th)) = (centred(reference), centred(target));
        let [wx, wy, ww, wh] = self.weights;
        [wx * (tx - x) / w, wy * (ty - y) / h, ww * (tw / w).ln(), wh * (th / h).ln()]
    }

    /// Returns the box that `deltas` describe relative to `reference`. Sides are at most 62.5 times
    /// the reference's.
    pub fn decode(&self, reference: [f32; 4], deltas: &[f32; 4]) -> [f32; 4] {
        let (x, y, w, h) = centred(reference);
        let [wx, wy, ww, wh] = self.weights;
        let (dx, dy) = (deltas[0] / wx, deltas[1] / wy);
        // `min` would hide a NaN that callers check for.
        let limited = |d: f32| if d > LARGEST_GROWTH { LARGEST_GROWTH } else { d };
        let (dw, dh) = (limited(deltas[2] / ww), limited(deltas[3] / wh));
        let (cx, cy) = (dx * w + x, dy * h + y);
        let (half_w, half_h) = (0.5 * dw.exp() * w, 0.5 * dh.exp() * h);
        [cx - half_w, cy - half_h, cx + half_w, cy + half_h]
    }
}

/// Centre and sides.
fn centred([x1, y1, x2, y2]: [f32; 4]) -> (f32, f32, f32, f32) {
    let (w, h) = (x2 - x1, y2 - y1);
    (x1 + 0.5 * w, y1 + 0.5 * h, w, h)
}
