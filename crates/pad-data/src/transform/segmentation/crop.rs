//! A random crop that is not filled by one class.

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, rect::Rect, transform::Draws};

/// A crop of fixed size at a random place, drawn again while one class fills too much of it (mmsegmentation's
/// `RandomCrop` with `cat_max_ratio`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitedCrop {
    /// Height and width. Default 512 x 512.
    pub size: ImageSize,
    /// Share of labelled pixels that one class may have, below which a crop is taken. 1: any crop. Default 0.75.
    pub max_class_share: f64,
}

/// How often a crop is asked whether it will do.
const TRIES: usize = 10;

impl Default for LimitedCrop {
    fn default() -> Self {
        Self { size: ImageSize::square(512), max_class_share: 0.75 }
    }
}

impl LimitedCrop {
    /// Asks for sides of 1 to 16,384 pixels and a share.
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

    /// Decides on a part of an image of `size` with these `labels` (row-major): two draws for each try, first the
    /// row, then the column. After ten crops that will not do, the next one is taken as it is. Of a smaller image the
    /// whole side is kept.
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

    /// Whether at least two classes are in `rect`, and none has too much of it.
    fn is_mixed(&self, labels: &[u8], size: ImageSize, rect: Rect, ignore: u8) -> bool {
        let mut counts = [0_u64; 256];
        for row in labels.chunks_exact(size.width).skip(rect.top).take(rect.height) {
            for &label in &row[rect.left..rect.left + rect.width] {
                counts[usize::from(label)] += 1;
            }
        }
        counts[usize::from(ignore)] = 0;
        let classes = counts.iter().filter(|&&count| count > 0).count();
        let (sum, most) = (counts.iter().sum::<u64>(), counts.iter().max().copied().unwrap_or(0));
        classes > 1 && (most as f64) / (sum as f64) < self.max_class_share
    }
}
