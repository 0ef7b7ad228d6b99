//! Boxes as numbers: clipping, and the coding of one box relative to another (R-CNN's, with the clamp of detectron2).

use pad_ops::ImageSize;

/// Largest logarithm by which a decoded side may exceed its reference: of 1000 / 16.
const LARGEST_GROWTH: f32 = 4.135_166_6;

/// `bbox` inside an image of size `size`.
pub fn clipped(bbox: [f32; 4], size: ImageSize) -> [f32; 4] {
    let (width, height) = (size.width as f32, size.height as f32);
    let [x1, y1, x2, y2] = bbox;
    [x1.clamp(0.0, width), y1.clamp(0.0, height), x2.clamp(0.0, width), y2.clamp(0.0, height)]
}

/// Whether both sides are longer than 0.
pub fn has_area([x1, y1, x2, y2]: [f32; 4]) -> bool {
    x2 > x1 && y2 > y1
}

/// Width times height, whatever their signs.
pub fn area([x1, y1, x2, y2]: [f32; 4]) -> f32 {
    (x2 - x1) * (y2 - y1)
}

/// How boxes are written relative to others: centre offsets in the reference's sides and logarithms of the sides' ratios,
/// each times its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxCoder {
    /// Weights of dx, dy, dw, dh.
    pub weights: [f32; 4],
}

impl BoxCoder {
    /// Of anchors: no weights.
    pub const ANCHORS: Self = Self { weights: [1.0; 4] };

    /// `target` relative to `reference`; both with areas above 0, else the numbers are not finite.
    pub fn encode(&self, reference: [f32; 4], target: [f32; 4]) -> [f32; 4] {
        let ((x, y, w, h), (tx, ty, tw, th)) = (centred(reference), centred(target));
        let [wx, wy, ww, wh] = self.weights;
        [wx * (tx - x) / w, wy * (ty - y) / h, ww * (tw / w).ln(), wh * (th / h).ln()]
    }

    /// The box that `deltas` describe relative to `reference`. Sides grow to 62.5 times the reference's at the most.
    pub fn decode(&self, reference: [f32; 4], deltas: &[f32; 4]) -> [f32; 4] {
        let (x, y, w, h) = centred(reference);
        let [wx, wy, ww, wh] = self.weights;
        let (dx, dy) = (deltas[0] / wx, deltas[1] / wy);
        // `min` would swallow a NaN that callers look for.
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
