//! The region-of-interest crop of pre-training: crops that hold something.

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use super::{Draws, RandomResizedCrop};
use crate::{Error, Result, rect::Rect, roi::Roi};

/// A crop around a random region of interest: its centre is moved, its sides are scaled; where that
/// does not work, the usual random crop.
///
/// After `RandomRoiCrop` of the reference code (`pre-training/mae/util/msip_dataset.py`), draw by
/// draw: a region that is refused still uses up one try and one draw; the right and lower edge of
/// the image (its last row and column) are never reached by a moved crop; a region that is taken
/// unmoved (`jitter` off) is not checked for its size again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoiCrop {
    /// Probability that a crop of any size is allowed; else it must cover 15% of the image. Default
    /// 0.85.
    pub any_size: f64,
    /// Smallest side of a moved crop, pixels. Default 60.
    pub min_side: usize,
    /// Whether the region is moved and scaled. Default true.
    pub jitter: bool,
    /// The crop where no region will do.
    pub fallback: RandomResizedCrop,
}

impl Default for RoiCrop {
    fn default() -> Self {
        Self { any_size: 0.85, min_side: 60, jitter: true, fallback: RandomResizedCrop::default() }
    }
}

impl RoiCrop {
    /// Regions tried before the fallback.
    const TRIES: usize = 20;
    /// Smallest side of a region, pixels.
    const MIN_ROI_SIDE: u32 = 40;
    /// Share of the image's area that a crop must cover when it may not be of any size.
    const MIN_SHARE: f64 = 0.15;

    /// Checks that the probability is 0 to 1, and the fallback valid.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        self.fallback.validate()?;
        if (0.0..=1.0).contains(&self.any_size) {
            return Ok(());
        }
        Err(Error::Setting {
            name: "any_size",
            expected: "0 to 1".into(),
            found: self.any_size.to_string(),
        })
    }

    /// Decides the crop of an image of size `size` with these regions; without any, the fallback
    /// alone draws.
    /// Regions that leave the image are refused.
    pub fn draw(&self, size: ImageSize, rois: &[Roi], draws: &mut impl Draws) -> Rect {
        if !rois.is_empty() {
            // The reference compares in f32.
            let must_be_large = draws.uniform(0.0, 1.0) as f32 > self.any_size as f32;
            for _ in 0..Self::TRIES {
                let Some(roi) = rois.get(draws.below(rois.len())) else { continue };
                if let Some(rect) = self.around(roi, size, must_be_large, draws) {
                    return rect;
                }
            }
        }
        self.fallback.draw(size, draws)
    }

    fn around(
        &self,
        roi: &Roi,
        size: ImageSize,
        must_be_large: bool,
        draws: &mut impl Draws,
    ) -> Option<Rect> {
        let ends =
            (u64::from(roi.x) + u64::from(roi.width), u64::from(roi.y) + u64::from(roi.height));
        if ends.0 > size.width as u64
            || ends.1 > size.height as u64
            || roi.width.min(roi.height) < Self::MIN_ROI_SIDE
        {
            return None;
        }
        if !self.jitter {
            return Some(Rect {
                top: roi.y as usize,
                left: roi.x as usize,
                height: roi.height as usize,
                width: roi.width as usize,
            });
        }
        // f64 throughout, rounded half to even, as in Python.
        let round = f64::round_ties_even;
        let [x, y, width, height] = [roi.x, roi.y, roi.width, roi.height].map(f64::from);
        let mut center_x = round(x + width / 2.0);
        let mut center_y = round(y + height / 2.0);
        center_x += round(width * draws.uniform(-0.4, 0.4));
        center_y += round(height * draws.uniform(-0.4, 0.4));
        let min_side = self.min_side as f64;
        let width = (width * draws.uniform(0.7, 1.5)).max(min_side);
        let height = (height * draws.uniform(0.7, 1.5)).max(min_side);

        let (last_x, last_y) = (size.width as f64 - 1.0, size.height as f64 - 1.0);
        let x1 = round(center_x - width / 2.0).max(0.0);
        let x2 = round(center_x + width / 2.0).min(last_x);
        let y1 = round(center_y - height / 2.0).max(0.0);
        let y2 = round(center_y + height / 2.0).min(last_y);
        let (width, height) = (x2 - x1, y2 - y1);
        if width <= 0.0 || height <= 0.0 || width < min_side || height < min_side {
            return None;
        }
        let share = width * height / (size.width as f64 * size.height as f64);
        if must_be_large && share < Self::MIN_SHARE {
            return None;
        }
        Some(Rect {
            top: y1 as usize,
            left: x1 as usize,
            height: height as usize,
            width: width as usize,
        })
    }
}

#[cfg(test)]
mod tests {
    use pad_ops::rng::{Key, Purpose};

    use super::*;

    const SIZE: ImageSize = ImageSize::new(512, 640);

    #[test]
    fn crops_are_inside_and_near_their_region() {
        let roi = Roi { x: 300, y: 200, width: 100, height: 80 };
        let mut stream = Key::new(1).purpose(Purpose::Crop).stream();
        let crop = RoiCrop { any_size: 1.0, ..Default::default() };
        for _ in 0..500 {
            let rect = crop.draw(SIZE, &[roi], &mut stream);
            assert!(rect.is_inside(SIZE) && rect.width >= 60 && rect.height >= 60);
            assert!(rect.width <= 150 && rect.height <= 120);
            let center = rect.left as f64 + rect.width as f64 / 2.0;
            assert!((center - 350.0).abs() <= 42.0, "{rect}");
        }
    }

    #[test]
    fn with_large_crops_only_a_small_region_falls_back() {
        let roi = Roi { x: 300, y: 200, width: 50, height: 50 };
        let crop = RoiCrop { any_size: 0.0, ..Default::default() };
        let mut stream = Key::new(1).purpose(Purpose::Crop).stream();
        for _ in 0..50 {
            let rect = crop.draw(SIZE, &[roi], &mut stream);
            assert!(rect.size().area() as f64 >= 0.15 * SIZE.area() as f64);
        }
    }

    #[test]
    fn regions_outside_never_panic() {
        let rois = [
            Roi { x: u32::MAX, y: u32::MAX, width: u32::MAX, height: u32::MAX },
            Roi { x: 600, y: 0, width: 41, height: 60 },
        ];
        let rect = RoiCrop::default().draw(SIZE, &rois, &mut Key::new(2).stream());
        assert!(rect.is_inside(SIZE));
        assert!(RoiCrop { any_size: 2.0, ..Default::default() }.validate().is_err());
    }
}
