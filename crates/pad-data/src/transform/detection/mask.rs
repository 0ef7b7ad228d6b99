//! Masks of objects where a crop shows them.

use std::sync::Arc;

use super::Geometry;
use crate::{rect::Rect, rle::Rle};

/// The pixels of an object as a crop shows them. The mask itself stays as it was labelled; it is
/// sampled once, straight into the requested box.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectMask {
    mask: Arc<Rle>,
    geometry: Geometry,
}

impl ObjectMask {
    /// `mask` of an image of which `geometry` shows a part.
    pub fn new(mask: Arc<Rle>, geometry: Geometry) -> Self {
        Self { mask, geometry }
    }

    /// The mask in a box of the crop, `side` rows of `side` bins: 1 where it covers at least half
    /// of a bin, else 0. A bin is the mean of bilinear samples, one a pixel of the image or more
    /// (RoIAlign of the mask, as detectron2 takes it).
    pub fn within(&self, [x1, y1, x2, y2]: [f32; 4], side: usize) -> Vec<f32> {
        let (x1, y1) = (f64::from(x1), f64::from(y1));
        let bin = [(f64::from(x2) - x1) / side as f64, (f64::from(y2) - y1) / side as f64];
        let (first, last) =
            (self.geometry.source(x1, y1), self.geometry.source(f64::from(x2), f64::from(y2)));
        // Samples of a bin along each axis, and bins in all.
        let samples = [0, 1].map(|axis: usize| {
            let pixels = (last[axis] - first[axis]).abs() / side as f64;
            // Boxes of the network lie inside the crop; one that does not must not cost more for
            // it. NaN becomes 0 in the conversion.
            (pixels.ceil().min(64.0) as usize).max(1)
        });
        let window = self.window(first, last);
        let pixels = self.mask.window(window);
        let value = |row: usize, column: usize| {
            let at = row * window.width + column;
            f64::from(u8::from(pixels.get(at).copied().unwrap_or_default()))
        };
        let sample = |[x, y]: [f64; 2]| {
            let (x0, x1, right) = neighbours(x - window.left as f64, window.width);
            let (y0, y1, down) = neighbours(y - window.top as f64, window.height);
            let above = value(y0, x0) * (1.0 - right) + value(y0, x1) * right;
            let below = value(y1, x0) * (1.0 - right) + value(y1, x1) * right;
            above * (1.0 - down) + below * down
        };
        let offset =
            |bin: f64, sample: usize, samples: usize| bin * (sample as f64 + 0.5) / samples as f64;
        let covered = |place: usize| {
            let (row, column) = (place / side, place % side);
            let mut sum = 0.0;
            for down in 0..samples[1] {
                let y = y1 + row as f64 * bin[1] + offset(bin[1], down, samples[1]);
                for right in 0..samples[0] {
                    let x = x1 + column as f64 * bin[0] + offset(bin[0], right, samples[0]);
                    sum += sample(self.geometry.source(x, y));
                }
            }
            f32::from(u8::from(sum >= 0.5 * (samples[0] * samples[1]) as f64))
        };
        (0..side * side).map(covered).collect()
    }

    /// The part of the image that a box between two corners needs.
    fn window(&self, first: [f64; 2], last: [f64; 2]) -> Rect {
        let size = self.mask.size();
        let range = |axis: usize, whole: usize| {
            let (low, high) = (first[axis].min(last[axis]), first[axis].max(last[axis]));
            let low = (low - 1.0).floor().clamp(0.0, whole.saturating_sub(1) as f64) as usize;
            let high = (high + 1.0).ceil().clamp(low as f64 + 1.0, whole.max(1) as f64) as usize;
            (low, high - low)
        };
        let ((left, width), (top, height)) = (range(0, size.width), range(1, size.height));
        Rect { top, left, height, width }
    }
}

/// The two pixels beside a point and the weight of the second; points beyond the outer ones take
/// these.
fn neighbours(at: f64, count: usize) -> (usize, usize, f64) {
    let last = count.saturating_sub(1);
    let at = (at - 0.5).clamp(0.0, last as f64);
    let first = at as usize;
    (first, (first + 1).min(last), at - first as f64)
}

#[cfg(test)]
mod tests {
    use pad_ops::ImageSize;

    use super::*;
    use crate::transform::Flip;

    /// A rectangle of 20 x 10 pixels in an image of 60 x 40.
    fn rectangle() -> Arc<Rle> {
        let window = Rect { top: 10, left: 30, height: 10, width: 20 };
        Arc::new(Rle::within(ImageSize::new(40, 60), window, |_, _| true).unwrap())
    }

    fn share(values: &[f32]) -> f32 {
        values.iter().sum::<f32>() / values.len() as f32
    }

    #[test]
    fn a_mask_follows_its_image() {
        let geometry = Geometry {
            from: ImageSize::new(40, 60),
            flip: Flip::Horizontal,
            scaled: ImageSize::new(80, 180),
            window: Rect { top: 8, left: 12, height: 60, width: 140 },
        };
        let mask = ObjectMask::new(rectangle(), geometry);
        // Mirrored 10 to 30; 30 to 90; 18 to 78. Rows 20 to 40; 12 to 32.
        assert_eq!(share(&mask.within([18.0, 12.0, 78.0, 32.0], 28)), 1.0);
        assert_eq!(share(&mask.within([80.0, 12.0, 120.0, 32.0], 28)), 0.0);
        // Twice as wide and high a box around it: the middle quarter.
        let around = mask.within([-12.0, 2.0, 108.0, 42.0], 28);
        let expected: Vec<f32> = (0..28 * 28)
            .map(|at| {
                let inside = |at: usize| (7..21).contains(&at);
                f32::from(u8::from(inside(at / 28) && inside(at % 28)))
            })
            .collect();
        assert_eq!(around, expected);
        // Its left half.
        let half = mask.within([-12.0, 12.0, 48.0, 32.0], 4);
        assert_eq!(half, [0.0, 0.0, 1.0, 1.0].repeat(4));
    }

    #[test]
    fn large_objects_are_averaged_and_boxes_elsewhere_are_empty() {
        let size = ImageSize::new(64, 64);
        // Every other column: a bin of eight columns is half covered.
        let stripes = Rle::within(size, Rect::whole(size), |_, column| column % 2 == 0).unwrap();
        let mask = ObjectMask::new(Arc::new(stripes), Geometry::whole(size, size));
        assert_eq!(mask.within([0.0, 0.0, 64.0, 64.0], 8), [1.0; 64]);
        assert_eq!(share(&mask.within([1.0, 0.0, 2.0, 1.0], 1)), 0.0);
        assert_eq!(mask.within([5.0, 5.0, 5.0, 5.0], 2).len(), 4);
        let rectangle = ObjectMask::new(rectangle(), Geometry::whole(ImageSize::new(40, 60), size));
        assert_eq!(share(&rectangle.within([f32::NAN, 0.0, 9.0, 9.0], 3)), 0.0);
        assert_eq!(share(&rectangle.within([-1e30, -1e30, 1e30, 1e30], 3)), 0.0);
    }
}
