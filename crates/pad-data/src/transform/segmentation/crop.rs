//! A random crop that is not filled by one class.

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, rect::Rect, transform::Draws};

/// A crop of fixed size at a random place, drawn again while one class fills too much of it
/// (mmsegmentation's `RandomCrop` with `cat_max_ratio`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitedCrop {
    /// Height and width. Default 512 x 512.
    pub size: ImageSize,
    /// Share of labelled pixels that one class may have, below which a crop is taken. 1: any crop.
    /// Default 0.75.
    pub max_class_share: f64,
}

/// Number of crops that are checked.
const TRIES: usize = 10;

impl Default for LimitedCrop {
    fn default() -> Self {
        Self { size: ImageSize::square(512), max_class_share: 0.75 }
    }
}

impl LimitedCrop {
    /// Checks that sides are 1 to 16,384 pixels, and the share above 0 and at most 1.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        let fits = |side: usize| (1..=16_384).contains(&side);
        if !fits(self.size.height) || !fits(self.size.width) {
            return Err(Error::Setting {
                name: "crop",
                expected: "sides of 1 to 16384".into(),
                found: self.size.to_string(),
            });
        }
        if !(self.max_class_share > 0.0 && self.max_class_share <= 1.0) {
            return Err(Error::Setting {
                name: "max_class_share",
                expected: "above 0, at most 1".into(),
                found: self.max_class_share.to_string(),
            });
        }
        Ok(())
    }

    /// Decides on a part of an image of `size` with these `labels` (row-major): two draws for each
    /// try, first the row, then the column. After ten crops that will not do, the next one is taken
    /// as it is. Of a smaller image the whole side is kept.
    pub fn draw(&self, labels: &[u8], size: ImageSize, ignore: u8, draws: &mut impl Draws) -> Rect {
        let (height, width) = (self.size.height.min(size.height), self.size.width.min(size.width));
        let mut next = || {
            let top = draws.below(size.height - height + 1);
            Rect { top, left: draws.below(size.width - width + 1), height, width }
        };
        let mut rect = next();
        if self.max_class_share < 1.0 {
            for _ in 0..TRIES {
                if self.is_mixed(labels, size, rect, ignore) {
                    break;
                }
                rect = next();
            }
        }
        rect
    }

    /// Whether `rect` shows at least two classes, none of them above the maximum share.
    fn is_mixed(&self, labels: &[u8], size: ImageSize, rect: Rect, ignore: u8) -> bool {
        let mut counts = [0_u64; 256];
        for row in labels.chunks_exact(size.width).skip(rect.top).take(rect.height) {
            for &label in &row[rect.left..rect.left + rect.width] {
                counts[usize::from(label)] += 1;
            }
        }
        counts[usize::from(ignore)] = 0;
        let classes = counts.iter().filter(|&&count| count > 0).count();
        let (sum, largest) =
            (counts.iter().sum::<u64>(), counts.iter().max().copied().unwrap_or(0));
        classes > 1 && (largest as f64) / (sum as f64) < self.max_class_share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replays numbers, then fails.
    struct Recorded(std::vec::IntoIter<usize>);

    impl Draws for Recorded {
        fn uniform(&mut self, _: f64, _: f64) -> f64 {
            panic!("only places are drawn")
        }

        fn below(&mut self, n: usize) -> usize {
            let draw = self.0.next().expect("no more draws");
            assert!(draw < n.max(1));
            draw
        }
    }

    fn draw(crop: LimitedCrop, labels: &[u8], size: ImageSize, places: &[usize]) -> (Rect, usize) {
        let mut recorded = Recorded(Vec::from(places).into_iter());
        let rect = crop.draw(labels, size, 255, &mut recorded);
        (rect, recorded.0.len())
    }

    #[test]
    fn crops_of_one_class_are_drawn_again() {
        let size = ImageSize::new(4, 8);
        // Left half class 0, right half class 1.
        let labels: Vec<u8> = (0..32).map(|pixel| u8::from(pixel % 8 >= 4)).collect();
        let crop = LimitedCrop { size: ImageSize::square(4), max_class_share: 0.75 };
        // Column 0: all of one class; 1: three quarters, which is not below 0.75; 2: one half.
        let (rect, left) = draw(crop, &labels, size, &[0, 0, 0, 1, 0, 2, 0, 0]);
        assert_eq!((rect.left, left), (2, 2));
        // Ten crops that will not do, and the eleventh is taken.
        let (rect, left) = draw(
            crop,
            &labels,
            size,
            &[[0, 0]; 10].concat().into_iter().chain([0, 4]).collect::<Vec<_>>(),
        );
        assert_eq!((rect.left, left), (4, 0));
        let any = LimitedCrop { max_class_share: 1.0, ..crop };
        assert_eq!(draw(any, &labels, size, &[0, 0, 0, 2]).1, 2);
        // Ignored pixels do not count: one class and ignored ones is one class.
        let ignored: Vec<u8> =
            labels.iter().map(|&label| if label == 1 { 255 } else { 0 }).collect();
        assert_eq!(draw(crop, &ignored, size, &[0; 22]).1, 0);
    }

    #[test]
    fn small_images_are_kept_whole() {
        let crop = LimitedCrop { size: ImageSize::new(9, 3), max_class_share: 1.0 };
        let (rect, _) = draw(crop, &[0; 20], ImageSize::new(4, 5), &[0, 2]);
        assert_eq!(rect, Rect { top: 0, left: 2, height: 4, width: 3 });
    }
}
