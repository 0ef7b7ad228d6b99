//! Sizes of images for detection.

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, rect::Rect, transform::Draws};

/// Largest side of anything, pixels.
const MAX_SIDE: usize = 16_384;

fn check_side(name: &'static str, side: usize) -> Result<()> {
    if (1..=MAX_SIDE).contains(&side) {
        return Ok(());
    }
    Err(Error::Setting { name, expected: format!("1 to {MAX_SIDE}"), found: side.to_string() })
}

/// Large-scale jitter: the image, in its aspect, fitted into a target times a random scale
/// (detectron2's `ResizeScale`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScaleJitter {
    /// What the image fits into at scale 1. Default 1024 x 1024.
    pub target: ImageSize,
    /// Smallest and largest scale. Default 0.1 and 2.
    pub scale: [f64; 2],
}

impl Default for ScaleJitter {
    fn default() -> Self {
        Self { target: ImageSize::square(1024), scale: [0.1, 2.0] }
    }
}

impl ScaleJitter {
    /// Checks that sides are 1 to 16,384 pixels, and scales 0.01 to 100 in order.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        check_side("target", self.target.height)?;
        check_side("target", self.target.width)?;
        let [low, high] = self.scale;
        if low >= 0.01 && low <= high && high <= 100.0 {
            return Ok(());
        }
        Err(Error::Setting {
            name: "scale",
            expected: "0.01 <= low <= high <= 100".into(),
            found: format!("{:?}", self.scale),
        })
    }

    /// Decides on the size of an image of `size`; one draw.
    pub fn draw(&self, size: ImageSize, draws: &mut impl Draws) -> ImageSize {
        self.fitted(size, draws.uniform(self.scale[0], self.scale[1]))
    }

    /// The size of an image of `size` at a given scale; sides are rounded half to even, as NumPy
    /// does.
    pub fn fitted(&self, size: ImageSize, scale: f64) -> ImageSize {
        let (height, width) = (size.height as f64, size.width as f64);
        let factor = (self.target.height as f64 * scale / height)
            .min(self.target.width as f64 * scale / width);
        let side = |side: f64| ((side * factor).round_ties_even() as usize).max(1);
        ImageSize::new(side(height), side(width))
    }
}

/// A crop of at most `crop`, at a random place between the upper left and the lower right corner:
/// one draw moves both axes (detectron2's `FixedSizeCrop`). Of a smaller image the whole side is
/// kept.
pub(super) fn draw_crop(crop: ImageSize, scaled: ImageSize, draws: &mut impl Draws) -> Rect {
    let share = draws.uniform(0.0, 1.0);
    let (height, width) = (crop.height.min(scaled.height), crop.width.min(scaled.width));
    let start = |slack: usize| ((slack as f64 * share).round_ties_even() as usize).min(slack);
    Rect { top: start(scaled.height - height), left: start(scaled.width - width), height, width }
}

/// Scales an image so that its short side has a given length, unless the long side would become too
/// long (detectron2's `ResizeShortestEdge`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShortestEdge {
    /// Short side, pixels. Default 1024.
    pub short: usize,
    /// Longest long side, pixels. Default 1024.
    pub longest: usize,
}

impl Default for ShortestEdge {
    fn default() -> Self {
        Self { short: 1024, longest: 1024 }
    }
}

impl ShortestEdge {
    /// Checks that sides are 1 to 16,384 pixels.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        check_side("short", self.short)?;
        check_side("longest", self.longest)
    }

    /// The size of an image of `size`; sides are rounded half up.
    pub fn fitted(&self, size: ImageSize) -> ImageSize {
        let (height, width) = (size.height as f64, size.width as f64);
        let (short, longest) = (self.short as f64, self.longest as f64);
        let scale = short / height.min(width);
        let mut sides =
            if height < width { [short, scale * width] } else { [scale * height, short] };
        let long = sides[0].max(sides[1]);
        if long > longest {
            sides = sides.map(|side| side * (longest / long));
        }
        let [height, width] = sides.map(|side| ((side + 0.5) as usize).max(1));
        ImageSize::new(height, width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Always the same share of an interval.
    struct Share(f64);

    impl Draws for Share {
        fn uniform(&mut self, low: f64, high: f64) -> f64 {
            low + (high - low) * self.0
        }

        fn below(&mut self, _: usize) -> usize {
            panic!("only shares are drawn")
        }
    }

    #[test]
    fn jittered_sizes_keep_the_aspect() {
        let jitter = ScaleJitter::default();
        let flir = ImageSize::new(512, 640);
        // 1024 / 640 = 1.6 at scale 1.
        assert_eq!(jitter.fitted(flir, 1.0), ImageSize::new(819, 1024));
        assert_eq!(jitter.draw(flir, &mut Share(0.0)), ImageSize::new(82, 102));
        assert_eq!(jitter.draw(flir, &mut Share(1.0)), ImageSize::new(1638, 2048));
        // 2.5 is rounded to 2.
        let ties = ScaleJitter { target: ImageSize::new(5, 5), scale: [0.5, 0.5] };
        assert_eq!(ties.fitted(ImageSize::new(10, 10), 0.5), ImageSize::new(2, 2));
        assert_eq!(jitter.fitted(ImageSize::new(1, 4000), 0.1), ImageSize::new(1, 102));
    }

    #[test]
    fn crops_move_along_the_diagonal() {
        let crop = ImageSize::square(100);
        let scaled = ImageSize::new(300, 150);
        let at = |share| draw_crop(crop, scaled, &mut Share(share));
        assert_eq!(at(0.0), Rect { top: 0, left: 0, height: 100, width: 100 });
        assert_eq!(at(0.5), Rect { top: 100, left: 25, height: 100, width: 100 });
        assert_eq!(at(1.0), Rect { top: 200, left: 50, height: 100, width: 100 });
        let small = ImageSize::new(80, 150);
        let rect = draw_crop(crop, small, &mut Share(1.0));
        assert_eq!(rect, Rect { top: 0, left: 50, height: 80, width: 100 });
    }

    #[test]
    fn short_sides_have_a_length_unless_the_long_one_is_too_long() {
        let edge = ShortestEdge { short: 800, longest: 1333 };
        // Of detectron2's ResizeShortestEdge.get_output_shape.
        assert_eq!(edge.fitted(ImageSize::new(480, 640)), ImageSize::new(800, 1067));
        assert_eq!(edge.fitted(ImageSize::new(427, 1000)), ImageSize::new(569, 1333));
        assert_eq!(edge.fitted(ImageSize::new(1000, 427)), ImageSize::new(1333, 569));
        let square = ShortestEdge::default();
        assert_eq!(square.fitted(ImageSize::new(512, 640)), ImageSize::new(819, 1024));
    }

    #[test]
    fn settings_are_checked() {
        let jitter = ScaleJitter { scale: [2.0, 0.1], ..Default::default() };
        assert_eq!(
            jitter.validate().unwrap_err().to_string(),
            "`scale` is [2.0, 0.1], expected 0.01 <= low <= high <= 100"
        );
        let jitter = ScaleJitter { target: ImageSize::new(0, 5), ..Default::default() };
        assert_eq!(
            jitter.validate().unwrap_err().to_string(),
            "`target` is 0, expected 1 to 16384"
        );
        let edge = ShortestEdge { short: 5, longest: 20_000 };
        assert_eq!(
            edge.validate().unwrap_err().to_string(),
            "`longest` is 20000, expected 1 to 16384"
        );
    }
}
