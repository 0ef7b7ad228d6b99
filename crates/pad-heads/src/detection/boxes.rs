//! Clipping of boxes, and the encoding of one box relative to another (R-CNN's, with the clamp of
//! detectron2).

use pad_ops::ImageSize;

/// Largest logarithm of a decoded side over its reference's: that of 1000 / 16.
const LARGEST_GROWTH: f32 = 4.135_166_6;

/// Returns `bbox` clipped to an image of size `size`.
pub fn clipped(bbox: [f32; 4], size: ImageSize) -> [f32; 4] {
    let (width, height) = (size.width as f32, size.height as f32);
    let [x1, y1, x2, y2] = bbox;
    [x1.clamp(0.0, width), y1.clamp(0.0, height), x2.clamp(0.0, width), y2.clamp(0.0, height)]
}

/// Returns whether both sides are longer than 0.
pub fn has_area([x1, y1, x2, y2]: [f32; 4]) -> bool {
    x2 > x1 && y2 > y1
}

/// Returns width times height, whatever their signs.
pub fn area([x1, y1, x2, y2]: [f32; 4]) -> f32 {
    (x2 - x1) * (y2 - y1)
}

/// Encodes boxes relative to others: centre offsets in units of the reference's sides and
/// logarithms of the ratios of sides, each times its weight.
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
