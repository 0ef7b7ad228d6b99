//! Outlines of regions of interest.

use super::{Canvas, Color};
use crate::roi::Roi;

/// Colours of regions, used in turn.
const COLORS: [Color; 6] =
    [[255, 80, 60], [255, 190, 0], [70, 220, 90], [0, 200, 255], [120, 130, 255], [255, 90, 220]];

impl Canvas {
    /// Outlines regions of interest of the image that is drawn, in a colour each.
    pub fn outline_rois(&mut self, rois: &[Roi]) {
        for (roi, &color) in rois.iter().zip(COLORS.iter().cycle()) {
            // `width` and `height` are last minus first pixel.
            let ends = [roi.x + roi.width + 1, roi.y + roi.height + 1];
            let corners = [roi.x, roi.y, ends[0], ends[1]].map(|value| value as f32);
            self.outline(corners, color, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use pad_ops::ImageSize;

    use super::*;

    #[test]
    fn the_last_pixel_belongs_to_a_region() {
        let mut canvas = Canvas::new(ImageSize::new(10, 12), [0; 3]);
        let roi = Roi { x: 2, y: 3, width: 5, height: 4 };
        canvas.outline_rois(&[roi, Roi { x: 0, y: 0, width: 1, height: 1 }]);
        let drawn = |row, column| canvas.pixel(row, column) != Some([0; 3]);
        assert_eq!(canvas.pixel(3, 2), Some(COLORS[0]));
        assert_eq!(canvas.pixel(0, 0), Some(COLORS[1]));
        assert!(drawn(7, 7) && !drawn(8, 7) && !drawn(7, 8) && !drawn(5, 4));
    }
}
