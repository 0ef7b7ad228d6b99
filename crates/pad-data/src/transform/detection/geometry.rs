//! Where a pixel, and so a box, goes.

use pad_ops::ImageSize;

use crate::{rect::Rect, sets::detection::Object, transform::Flip};

/// What is seen of an image, and how large: it is mirrored, scaled, and cut.
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
    /// A box of the image as one of what is kept, cut to it: nothing may be left of it.
    fn place(&self, [x1, y1, x2, y2]: [f64; 4]) -> [f64; 4] {
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

    /// The boxes of single objects that the kept part shows by more than `min_side` pixels each way, and their
    /// classes.
    pub fn boxes(&self, objects: &[Object], min_side: f64) -> (Vec<[f32; 4]>, Vec<u32>) {
        let single = objects.iter().filter(|object| !object.crowd);
        single
            .map(|object| (self.place(object.bbox), object.class))
            .filter(|([x1, y1, x2, y2], _)| x2 - x1 > min_side && y2 - y1 > min_side)
            .map(|(bbox, class)| (bbox.map(|edge| edge as f32), class))
            // Sides that f32 cannot tell from none are none.
            .filter(|([x1, y1, x2, y2], _)| x1 < x2 && y1 < y2)
            .unzip()
    }

    /// A box of what is kept as one of the image, cut to it.
    pub fn undo(&self, bbox: [f32; 4]) -> [f32; 4] {
        let (height, width) = (self.from.height as f64, self.from.width as f64);
        let wide = width / self.scaled.width as f64;
        let high = height / self.scaled.height as f64;
        let x = |x: f32| ((f64::from(x) + self.window.left as f64) * wide).clamp(0.0, width);
        let y = |y: f32| ((f64::from(y) + self.window.top as f64) * high).clamp(0.0, height);
        let [x1, y1, x2, y2] = bbox;
        let (x1, x2) = match self.flip {
            Flip::None => (x(x1), x(x2)),
            Flip::Horizontal => (width - x(x2), width - x(x1)),
        };
        [x1, y(y1), x2, y(y2)].map(|edge| edge as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bbox: [f64; 4], class: u32) -> Object {
        Object { bbox, class, area: 1.0, crowd: false, id: 1 }
    }

    const GEOMETRY: Geometry = Geometry {
        from: ImageSize::new(50, 100),
        flip: Flip::Horizontal,
        scaled: ImageSize::new(100, 300),
        window: Rect { top: 10, left: 30, height: 60, width: 120 },
    };

    #[test]
    fn boxes_are_mirrored_scaled_moved_and_cut() {
        // Mirrored: 70 to 90 of 100; times 3: 210 to 270; minus 30: 180 to 240, beyond 120: outside.
        let outside = object([10.0, 10.0, 30.0, 20.0], 0);
        // Mirrored: 20 to 60; 60 to 180; 30 to 150, cut to 120. Rows 10 to 20: 20 to 40; 10 to 30.
        let cut = object([40.0, 10.0, 80.0, 20.0], 1);
        let crowd = Object { crowd: true, ..cut };
        let (boxes, labels) = GEOMETRY.boxes(&[outside, crowd, cut], 1e-5);
        assert_eq!((boxes, labels), (vec![[30.0, 10.0, 120.0, 30.0]], vec![1]));
        // 20 pixels of its height remain; more than 20 are asked for.
        assert_eq!(GEOMETRY.boxes(&[cut], 20.0).0.len(), 0);
        assert_eq!(GEOMETRY.boxes(&[cut], 19.0).0.len(), 1);
    }

    #[test]
    fn boxes_go_back() {
        let inside = object([55.0, 10.0, 75.0, 20.0], 1);
        let (boxes, _) = GEOMETRY.boxes(&[inside], 1e-5);
        let back = GEOMETRY.undo(boxes[0]);
        for (back, edge) in back.iter().zip(inside.bbox) {
            assert!((f64::from(*back) - edge).abs() < 1e-4, "{back} {edge}");
        }
        let whole = Geometry::whole(ImageSize::new(50, 100), ImageSize::new(100, 200));
        assert_eq!(whole.undo([-4.0, 10.0, 500.0, 30.0]), [0.0, 5.0, 100.0, 15.0]);
    }
}
