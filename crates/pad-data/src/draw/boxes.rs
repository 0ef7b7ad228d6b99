//! Boxes with names.

use pad_ops::ImageSize;

use super::{Canvas, Color};
use crate::sets::detection::{BoxClasses, LabelledImage};

/// A box to be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrawnBox {
    /// Left, top, right and bottom edge, pixels.
    pub bbox: [f32; 4],
    /// Class, for name and colour.
    pub class: u32,
    /// Score, 0 to 1; none for what a person labelled.
    pub score: Option<f32>,
}

impl DrawnBox {
    /// What a person labelled, crowds left out.
    pub fn truth(labelled: &LabelledImage) -> Vec<Self> {
        let single = labelled.objects.iter().filter(|object| !object.crowd);
        single
            .map(|object| Self {
                bbox: object.bbox.map(|edge| edge as f32),
                class: object.class,
                score: None,
            })
            .collect()
    }

    /// Name and score, as they are written beside the box.
    fn caption(&self, classes: &BoxClasses) -> String {
        let name = classes.name(self.class);
        match self.score {
            Some(score) => format!("{name} {score:.2}"),
            None => name.to_string(),
        }
    }

    /// Rank in drawing: high scores last, so that they lie above; what is no number, first.
    fn rank(&self) -> f32 {
        self.score.filter(|score| !score.is_nan()).unwrap_or(0.0)
    }
}

/// Dark letters on bright colours.
const INK: Color = [10; 3];

impl Canvas {
    /// Draws boxes in the colours of their classes, each with its name and, where it has one, its score: `scale` (0
    /// counts as 1) is the width of lines and of the letters' dots, pixels. Boxes that are none (NaN, reversed) are
    /// left out.
    ///
    /// Lines lie outside a box, so that small objects stay to be seen. A caption stands above its box, below where there
    /// is no room, and moves left where the picture ends.
    pub fn boxes(&mut self, boxes: &[DrawnBox], classes: &BoxClasses, scale: usize) {
        let scale = scale.max(1);
        let mut order: Vec<&DrawnBox> = boxes.iter().collect();
        order.sort_by(|a, b| a.rank().total_cmp(&b.rank()));
        // Captions after all lines: a line through a number makes another number of it.
        for drawn in &order {
            let [x1, y1, x2, y2] = drawn.bbox;
            let out = scale as f32;
            if x1 < x2 && y1 < y2 {
                let around = [x1 - out, y1 - out, x2 + out, y2 + out];
                self.outline(around, BoxClasses::color(drawn.class), scale);
            }
        }
        for drawn in order {
            self.caption(drawn, classes, scale);
        }
    }

    fn caption(&mut self, drawn: &DrawnBox, classes: &BoxClasses, scale: usize) {
        let [x1, y1, x2, y2] = drawn.bbox;
        if !(x1 < x2 && y1 < y2) {
            return;
        }
        let text = drawn.caption(classes);
        let size = Self::text_size(&text, scale);
        let plate = ImageSize::new(size.height + 2 * scale, size.width + 2 * scale);
        // Casts saturate: a box at infinity ends at the picture's edge.
        let edge = |value: f32| value.round().max(0.0) as usize;
        let room_above = edge(y1) >= plate.height + scale;
        let top = if room_above {
            edge(y1) - plate.height - scale
        } else {
            edge(y2).saturating_add(scale).min(self.size().height.saturating_sub(plate.height))
        };
        let left =
            edge(x1).saturating_sub(scale).min(self.size().width.saturating_sub(plate.width));
        self.paste(&Self::new(plate, BoxClasses::color(drawn.class)), top, left);
        self.text(&text, top + scale, left + scale, scale, INK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(bbox: [f32; 4], score: Option<f32>) -> DrawnBox {
        DrawnBox { bbox, class: 1, score }
    }

    #[test]
    fn boxes_have_lines_outside_and_a_caption_above() {
        let classes = BoxClasses::named(["a", "it"]).unwrap();
        let color = BoxClasses::color(1);
        let mut canvas = Canvas::new(ImageSize::new(60, 60), [1; 3]);
        canvas.boxes(&[drawn([20.0, 20.0, 40.0, 40.0], Some(0.5))], &classes, 1);
        // The line around the box, the box itself untouched.
        assert_eq!(canvas.pixel(30, 19), Some(color));
        assert_eq!(canvas.pixel(30, 40), Some(color));
        assert_eq!((canvas.pixel(20, 20), canvas.pixel(30, 18)), (Some([1; 3]), Some([1; 3])));
        // The plate of `it 0.50`: 7 letters, 27 dots and a rim; 5 rows and a rim, above row 19.
        assert_eq!((canvas.pixel(12, 19), canvas.pixel(12, 47)), (Some(color), Some(color)));
        assert_eq!((canvas.pixel(11, 19), canvas.pixel(12, 48)), (Some([1; 3]), Some([1; 3])));
        // The first dot of `i` is ink.
        assert_eq!(canvas.pixel(13, 20), Some(INK));
    }

    #[test]
    fn captions_stay_in_the_picture() {
        let classes = BoxClasses::named(["a", "it"]).unwrap();
        let mut canvas = Canvas::new(ImageSize::new(40, 50), [1; 3]);
        canvas.boxes(&[drawn([45.0, 0.0, 50.0, 10.0], None)], &classes, 1);
        // Below the box and moved left: `it` with its rim is 9 wide.
        let color = BoxClasses::color(1);
        assert_eq!((canvas.pixel(11, 49), canvas.pixel(17, 41)), (Some(color), Some(color)));
        let before = canvas.clone();
        let none =
            [drawn([f32::NAN, 0.0, 9.0, 9.0], None), drawn([9.0, 0.0, 3.0, 9.0], Some(f32::NAN))];
        canvas.boxes(&none, &classes, 2);
        assert_eq!(canvas, before);
        // No panic on what lies far away, or on a canvas too small for any caption.
        canvas.boxes(&[drawn([-1e30, -1e30, 1e30, f32::INFINITY], Some(2.0))], &classes, 3);
        let mut small = Canvas::new(ImageSize::new(2, 2), [1; 3]);
        small.boxes(&[drawn([0.0, 0.0, 1.0, 1.0], Some(0.1))], &classes, 0);
    }

    #[test]
    fn high_scores_lie_above() {
        let classes = BoxClasses::named(["a", "b"]).unwrap();
        let high = DrawnBox { class: 0, ..drawn([10.0, 10.0, 30.0, 30.0], Some(0.9)) };
        let low = drawn([10.0, 10.0, 30.0, 30.0], Some(0.2));
        for boxes in [[high, low], [low, high]] {
            let mut canvas = Canvas::new(ImageSize::new(60, 60), [1; 3]);
            canvas.boxes(&boxes, &classes, 1);
            assert_eq!(canvas.pixel(20, 9), Some(BoxClasses::color(0)));
        }
    }
}
