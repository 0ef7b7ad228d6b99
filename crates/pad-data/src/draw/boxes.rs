//! Boxes with names.

use pad_ops::ImageSize;

use super::{Canvas, Color};
use crate::{
    rect::Rect,
    sets::detection::{BoxClasses, LabelledImage},
};

/// A box to be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrawnBox {
    /// Left, top, right and bottom edge, pixels.
    pub bbox: [f32; 4],
    /// Class, for name and colour.
    pub class: u32,
    /// Score, 0 to 1; `None` for ground truth.
    pub score: Option<f32>,
}

impl DrawnBox {
    /// Returns the ground truth boxes of an image, without crowds.
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

    /// Returns the caption: name and score.
    fn caption(&self, classes: &BoxClasses) -> String {
        let name = classes.name(self.class);
        match self.score {
            Some(score) => format!("{name} {score:.2}"),
            None => name.to_string(),
        }
    }

    /// Returns whether the box has an area; false for NaN.
    fn is_box(&self) -> bool {
        let [x1, y1, x2, y2] = self.bbox;
        x1 < x2 && y1 < y2
    }

    /// Returns the drawing order: high scores last, so that they are on top; NaN first.
    fn rank(&self) -> f32 {
        self.score.filter(|score| !score.is_nan()).unwrap_or(0.0)
    }
}

/// Dark letters on bright colours.
const INK: Color = [10; 3];

impl Canvas {
    /// Draws boxes in the colours of their classes, each with its name and, if present, its score.
    /// `scale` (0 counts as 1) is the width of lines and of the letters' dots, pixels. Invalid
    /// boxes (NaN, reversed) are skipped.
    ///
    /// Lines lie outside the box, so that small objects stay visible. A caption is placed above,
    /// below, right or left of its box, where it hides no other object or caption; the highest
    /// scores are placed first.
    pub fn boxes(&mut self, boxes: &[DrawnBox], classes: &BoxClasses, scale: usize) {
        let scale = scale.max(1);
        let mut order: Vec<&DrawnBox> = boxes.iter().filter(|drawn| drawn.is_box()).collect();
        order.sort_by(|a, b| a.rank().total_cmp(&b.rank()));
        // Captions after all lines: a line through a digit changes it.
        for drawn in &order {
            let [x1, y1, x2, y2] = drawn.bbox;
            let out = scale as f32;
            let around = [x1 - out, y1 - out, x2 + out, y2 + out];
            self.outline(around, BoxClasses::color(drawn.class), scale);
        }
        let objects: Vec<Rect> = order.iter().map(|drawn| self.pixels_of(drawn.bbox)).collect();
        let mut captions: Vec<(Rect, &DrawnBox)> = Vec::with_capacity(order.len());
        for (index, drawn) in order.iter().enumerate().rev() {
            let plate = self.plate(&drawn.caption(classes), scale);
            let places = self.places(objects[index], plate, scale);
            let hidden = |place: &Rect| {
                let others = objects.iter().enumerate().filter(|(other, _)| *other != index);
                let objects: usize = others.map(|(_, object)| common(place, object)).sum();
                // Overlapping captions are unreadable; a partly hidden object can still be
                // recognised.
                objects + 4 * captions.iter().map(|(other, _)| common(place, other)).sum::<usize>()
            };
            // The first of those with the smallest overlap.
            if let Some(place) = places.into_iter().min_by_key(hidden) {
                captions.push((place, drawn));
            }
        }
        for (place, drawn) in captions.into_iter().rev() {
            let plate = Self::new(place.size(), BoxClasses::color(drawn.class));
            self.paste(&plate, place.top, place.left);
            let (top, left) = (place.top + scale, place.left + scale);
            self.text(&drawn.caption(classes), top, left, scale, INK);
        }
    }

    /// Returns the pixels that a box covers.
    fn pixels_of(&self, [x1, y1, x2, y2]: [f32; 4]) -> Rect {
        // Casts saturate: coordinates outside end at the edge.
        let edge = |value: f32, side: usize| (value.round().max(0.0) as usize).min(side);
        let ImageSize { height, width } = self.size();
        let (top, left) = (edge(y1, height), edge(x1, width));
        Rect { top, left, height: edge(y2, height) - top, width: edge(x2, width) - left }
    }

    /// Returns the size of a caption with a margin around its letters.
    fn plate(&self, text: &str, scale: usize) -> ImageSize {
        let size = Self::text_size(text, scale);
        ImageSize::new(size.height + 2 * scale, size.width + 2 * scale)
    }

    /// Returns the possible positions of a caption, the best first, inside the picture if it is
    /// large enough.
    fn places(&self, object: Rect, plate: ImageSize, scale: usize) -> [Rect; 4] {
        let bottom_room = self.size().height.saturating_sub(plate.height);
        let right_room = self.size().width.saturating_sub(plate.width);
        let Rect { top, left, height, width } = object;
        let at = |top: usize, left: usize| Rect {
            top: top.min(bottom_room),
            left: left.min(right_room),
            height: plate.height,
            width: plate.width,
        };
        let above = at(top.saturating_sub(plate.height + scale), left.saturating_sub(scale));
        let below = at(top + height + scale, left.saturating_sub(scale));
        let right = at(top, left + width + scale);
        let left = at(top, left.saturating_sub(plate.width + scale));
        // A position shifted into the box itself ranks last.
        let mut places = [above, below, right, left];
        places.sort_by_key(|place| common(place, &object) > 0);
        places
    }
}

/// Returns the number of common pixels.
fn common(a: &Rect, b: &Rect) -> usize {
    let length = |start: (usize, usize), size: (usize, usize)| {
        (start.0 + size.0).min(start.1 + size.1).saturating_sub(start.0.max(start.1))
    };
    length((a.top, b.top), (a.height, b.height)) * length((a.left, b.left), (a.width, b.width))
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
    fn captions_leave_each_other_and_objects_to_be_seen() {
        let classes = BoxClasses::named(["a", "it"]).unwrap();
        let (first, second) = (BoxClasses::color(0), BoxClasses::color(1));
        let upper = DrawnBox { class: 0, ..drawn([20.0, 20.0, 40.0, 30.0], None) };
        // Directly below: above it there would be the upper object.
        let lower = drawn([20.0, 33.0, 40.0, 43.0], None);
        let mut canvas = Canvas::new(ImageSize::new(80, 80), [1; 3]);
        canvas.boxes(&[upper, lower], &classes, 1);
        assert_eq!((canvas.pixel(12, 19), canvas.pixel(44, 19)), (Some(first), Some(second)));
        assert_eq!(canvas.pixel(28, 25), Some([1; 3]));
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
