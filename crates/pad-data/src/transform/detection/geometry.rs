//! Where a pixel, and so a box, is moved to.

use pad_ops::ImageSize;

use crate::{rect::Rect, transform::Flip};

/// The part of an image that a sample shows, and its scale: the image is mirrored, scaled, and
/// cropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size of the image.
    pub from: ImageSize,
    /// Whether it is mirrored first.
    pub flip: Flip,
    /// Size it is scaled to.
    pub scaled: ImageSize,
    /// Part of the scaled image that is kept.
    pub window: Rect,
}

impl Geometry {
    /// A box of the image in pixels of the kept part, clipped to it; its area may be 0.
    pub(super) fn place(&self, [x1, y1, x2, y2]: [f64; 4]) -> [f64; 4] {
        let width = self.from.width as f64;
        let (x1, x2) = match self.flip {
            Flip::None => (x1, x2),
            Flip::Horizontal => (width - x2, width - x1),
        };
        let wide = self.scaled.width as f64 / width;
        let high = self.scaled.height as f64 / self.from.height as f64;
        let Rect { top, left, height, width } = self.window;
        let x = |x: f64| (x * wide - left as f64).clamp(0.0, width as f64);
        let y = |y: f64| (y * high - top as f64).clamp(0.0, height as f64);
        [x(x1), y(y1), x(x2), y(y2)]
    }

    /// The place of a point of the kept part in the image, pixels: column, row. It may be outside
    /// of the image.
    pub fn source(&self, x: f64, y: f64) -> [f64; 2] {
        let (height, width) = (self.from.height as f64, self.from.width as f64);
        let x = (x + self.window.left as f64) * (width / self.scaled.width as f64);
        let y = (y + self.window.top as f64) * (height / self.scaled.height as f64);
        [if self.flip == Flip::Horizontal { width - x } else { x }, y]
    }

    /// A box of the kept part in pixels of the image, clipped to it.
    pub fn undo(&self, bbox: [f32; 4]) -> [f32; 4] {
        let (height, width) = (self.from.height as f64, self.from.width as f64);
        let [x1, y1, x2, y2] = bbox.map(f64::from);
        let ([x1, y1], [x2, y2]) = (self.source(x1, y1), self.source(x2, y2));
        let (x1, x2) = if self.flip == Flip::Horizontal { (x2, x1) } else { (x1, x2) };
        let x = |x: f64| x.clamp(0.0, width) as f32;
        let y = |y: f64| y.clamp(0.0, height) as f32;
        [x(x1), y(y1), x(x2), y(y2)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{sets::detection::Object, transform::detection::Target};

    fn object(bbox: [f64; 4], class: u32) -> Object {
        Object { bbox, class, area: 1.0, crowd: false, difficult: false, id: 1, mask: None }
    }

    const GEOMETRY: Geometry = Geometry {
        from: ImageSize::new(50, 100),
        flip: Flip::Horizontal,
        scaled: ImageSize::new(100, 300),
        window: Rect { top: 10, left: 30, height: 60, width: 120 },
    };

    #[test]
    fn boxes_are_mirrored_scaled_moved_and_cut() {
        // Mirrored: 70 to 90 of 100; times 3: 210 to 270; minus 30: 180 to 240, beyond 120:
        // outside.
        let outside = object([10.0, 10.0, 30.0, 20.0], 0);
        // Mirrored: 20 to 60; 60 to 180; 30 to 150, cut to 120. Rows 10 to 20: 20 to 40; 10 to 30.
        let cut = object([40.0, 10.0, 80.0, 20.0], 1);
        let crowd = Object { crowd: true, ..cut.clone() };
        let target = GEOMETRY.target(&[outside, crowd.clone(), crowd, cut.clone()], 1e-5);
        assert_eq!((target.boxes, target.labels), (vec![[30.0, 10.0, 120.0, 30.0]], vec![1]));
        assert_eq!(target.ignored, [[30.0, 10.0, 120.0, 30.0]]);
        // 20 pixels of its height remain; more than 20 are required.
        assert_eq!(GEOMETRY.target(std::slice::from_ref(&cut), 20.0).boxes.len(), 0);
        assert_eq!(GEOMETRY.target(&[cut], 19.0).boxes.len(), 1);
    }

    #[test]
    fn boxes_go_back() {
        let inside = object([55.0, 10.0, 75.0, 20.0], 1);
        let Target { boxes, .. } = GEOMETRY.target(std::slice::from_ref(&inside), 1e-5);
        let back = GEOMETRY.undo(boxes[0]);
        for (back, edge) in back.iter().zip(inside.bbox) {
            assert!((f64::from(*back) - edge).abs() < 1e-4, "{back} {edge}");
        }
        let whole = Geometry::whole(ImageSize::new(50, 100), ImageSize::new(100, 200));
        assert_eq!(whole.undo([-4.0, 10.0, 500.0, 30.0]), [0.0, 5.0, 100.0, 15.0]);
    }

    proptest! {
        /// What a decision shows of a box is inside the window, and goes back into the box; a box
        /// that is shown whole goes back to itself.
        #[test]
        fn shown_boxes_go_back(
            from in (1_usize..200, 1_usize..200),
            scaled in (1_usize..300, 1_usize..300),
            window in (0.0_f64..1.0, 0.0_f64..1.0, 0.0_f64..1.0, 0.0_f64..1.0),
            corners in (0.0_f64..1.0, 0.0_f64..1.0, 0.0_f64..1.0, 0.0_f64..1.0),
            flipped: bool,
        ) {
            let from = ImageSize::new(from.0, from.1);
            let scaled = ImageSize::new(scaled.0, scaled.1);
            let part = |whole: usize, start: f64, length: f64| {
                let length = 1 + ((whole - 1) as f64 * length) as usize;
                (((whole - length) as f64 * start) as usize, length)
            };
            let (top, height) = part(scaled.height, window.0, window.1);
            let (left, width) = part(scaled.width, window.2, window.3);
            let window = Rect { top, left, height, width };
            let flip = if flipped { Flip::Horizontal } else { Flip::None };
            let geometry = Geometry { from, flip, scaled, window };
            let (wide, high) = (from.width as f64, from.height as f64);
            let bbox = [
                corners.0.min(corners.1) * wide,
                corners.2.min(corners.3) * high,
                corners.0.max(corners.1) * wide,
                corners.2.max(corners.3) * high,
            ];
            let Target { boxes, .. } = geometry.target(&[object(bbox, 0)], 1e-3);
            for shown in boxes {
                let [x1, y1, x2, y2] = shown.map(f64::from);
                prop_assert!(0.0 <= x1 && x1 < x2 && x2 <= width as f64, "{shown:?}");
                prop_assert!(0.0 <= y1 && y1 < y2 && y2 <= height as f64, "{shown:?}");
                let back = geometry.undo(shown).map(f64::from);
                // f32 knows these numbers to 1e-5 or better; scaling back makes it up to 200 times
                // more.
                let slack = 1e-4 * (wide / scaled.width as f64 + high / scaled.height as f64 + 1.0);
                for (place, (back, edge)) in back.iter().zip(bbox).enumerate() {
                    let inside = if place < 2 { *back >= edge - slack } else { *back <= edge + slack };
                    prop_assert!(inside, "{back} {edge}");
                }
                let cut = x1 == 0.0 || y1 == 0.0 || x2 == width as f64 || y2 == height as f64;
                for (back, edge) in back.iter().zip(bbox) {
                    prop_assert!(cut || (back - edge).abs() <= slack, "{back} {edge}");
                }
            }
        }
    }
}
