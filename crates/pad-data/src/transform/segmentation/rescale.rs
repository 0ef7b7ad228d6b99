//! Resizing that keeps the aspect, with the geometry of OpenCV.

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, rect::Rect, transform::Draws};

/// Scales an image so that it fits into a base scale times a random ratio (mmsegmentation's
/// `Resize` with `ratio_range` and `keep_ratio`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rescale {
    /// Largest long and short side at ratio 1, pixels, in any order; `None` for the image's own
    /// size. Default 2048, 512.
    pub scale: Option<[usize; 2]>,
    /// Smallest and largest ratio. Default 0.5 and 2.
    pub ratio: [f64; 2],
}

impl Default for Rescale {
    fn default() -> Self {
        Self { scale: Some([2048, 512]), ratio: [0.5, 2.0] }
    }
}

impl Rescale {
    /// Checks that sides are 1 to 65,536 pixels, and ratios 0.01 to 100 in order.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        if let Some(scale) = self.scale
            && !scale.iter().all(|side| (1..=65_536).contains(side))
        {
            return Err(Error::Setting {
                name: "scale",
                expected: "two sides of 1 to 65536".into(),
                found: format!("{scale:?}"),
            });
        }
        let [low, high] = self.ratio;
        if !(low >= 0.01 && low <= high && high <= 100.0) {
            return Err(Error::Setting {
                name: "ratio",
                expected: "0.01 <= low <= high <= 100".into(),
                found: format!("{:?}", self.ratio),
            });
        }
        Ok(())
    }

    /// Decides on the size of an image of `size`; one draw.
    pub fn draw(&self, size: ImageSize, draws: &mut impl Draws) -> ImageSize {
        self.fitted(size, draws.uniform(self.ratio[0], self.ratio[1]))
    }

    /// The size of an image of `size` at a given ratio. The base scale times the ratio is cut to
    /// whole pixels, the sides are rounded half up, as mmcv's `imrescale` does.
    pub fn fitted(&self, size: ImageSize, ratio: f64) -> ImageSize {
        let (height, width) = (size.height as f64, size.width as f64);
        let scale = self.scale.map_or([width, height], |scale| scale.map(|side| side as f64));
        let [a, b] = scale.map(|side| (side * ratio).floor());
        let factor = (a.max(b) / height.max(width)).min(a.min(b) / height.min(width));
        let side = |side: f64| ((side * factor + 0.5) as usize).max(1);
        ImageSize::new(side(height), side(width))
    }
}

/// Classes of the nearest pixels: output `x` shows input `floor(x * from / to)`, as OpenCV's
/// `INTER_NEAREST`. `labels` are `from.area()` numbers, row-major; missing ones are 0.
pub fn resize_labels(labels: &[u8], from: ImageSize, to: ImageSize) -> Vec<u8> {
    let nearest = |to: usize, from: usize| -> Vec<usize> {
        let scale = 1.0 / (to as f64 / from as f64);
        (0..to).map(|place| ((place as f64 * scale) as usize).min(from.saturating_sub(1))).collect()
    };
    let columns = nearest(to.width, from.width);
    let mut out = Vec::with_capacity(to.area());
    for row in nearest(to.height, from.height) {
        let row = labels.get(row * from.width..).unwrap_or_default();
        out.extend(columns.iter().map(|&column| row.get(column).copied().unwrap_or(0)));
    }
    out
}

/// Both neighbours of an output place, and the share of the second one.
fn neighbours(to: usize, from: usize, start: usize, count: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f64 / to as f64;
    let last = from.saturating_sub(1);
    (start..start + count)
        .map(|place| {
            let centre = ((place as f64 + 0.5) * scale - 0.5) as f32;
            let low = centre.floor();
            if low < 0.0 {
                return (0, 0, 0.0);
            }
            let first = (low as usize).min(last);
            let second = (first + 1).min(last);
            (first, second, if first == last { 0.0 } else { centre - low })
        })
        .collect()
}

/// The part `window` of levels (`from.area()` of them, row-major; 0 to 255) resized to `to`:
/// bilinear between pixel centres without antialiasing, as OpenCV's `INTER_LINEAR`. Levels that are
/// `whole` are rounded to whole ones.
///
/// OpenCV mixes bytes in fixed point with 11-bit weights; here they are mixed in f32 and rounded
/// half up, which differs by one level in few pixels.
pub fn resize_levels(
    levels: &[f32],
    from: ImageSize,
    to: ImageSize,
    window: Rect,
    whole: bool,
) -> Vec<f32> {
    let columns = neighbours(to.width, from.width, window.left, window.width);
    let rows = neighbours(to.height, from.height, window.top, window.height);
    let mut out = Vec::with_capacity(window.height * window.width);
    for (above, below, down) in rows {
        let row = |row: usize| levels.get(row * from.width..(row + 1) * from.width);
        let (Some(above), Some(below)) = (row(above), row(below)) else { continue };
        let mix = |row: &[f32], (first, second, share): (usize, usize, f32)| {
            row[first] * (1.0 - share) + row[second] * share
        };
        out.extend(columns.iter().map(|&at| {
            let level = mix(above, at) * (1.0 - down) + mix(below, at) * down;
            if whole { (level + 0.5).floor() } else { level }
        }));
    }
    out.resize(window.height * window.width, 0.0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> Vec<f32> {
        let level = |pixel: usize| {
            let (r, c) = (pixel / 5, pixel % 5);
            ((r * 37 + c * c * 11 + r * c * 5) % 256) as f32
        };
        (0..20).map(level).collect()
    }

    #[test]
    fn bilinear_is_that_of_pixel_centres() {
        // torch.nn.functional.interpolate(mode="bilinear", align_corners=False).
        let from = ImageSize::new(4, 5);
        let to = ImageSize::new(6, 7);
        let expected = [
            0.0, 6.286, 20.429, 44.0, 83.286, 132.0, 176.0, 18.5, 26.214, 42.143, 67.5, 108.571,
            159.071, 204.5, 43.167, 52.786, 71.095, 98.833, 142.286, 176.881, 199.833, 67.833,
            79.357, 100.048, 130.167, 176.0, 139.833, 67.167, 92.5, 105.929, 129.0, 161.5, 209.714,
            157.643, 62.5, 111.0, 125.857, 150.714, 185.0, 235.0, 184.714, 91.0,
        ];
        let found = resize_levels(&levels(), from, to, Rect::whole(to), false);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
        // Only a window of it, and rounded.
        let window = Rect { top: 2, left: 3, height: 3, width: 2 };
        let found = resize_levels(&levels(), from, to, window, true);
        assert_eq!(found, [99.0, 142.0, 130.0, 176.0, 162.0, 210.0]);
        let to = ImageSize::new(3, 2);
        let found = resize_levels(&levels(), from, to, Rect::whole(to), false);
        for (found, expected) in
            found.iter().zip([15.042, 127.125, 69.375, 166.125, 123.708, 205.125])
        {
            assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
    }

    #[test]
    fn labels_are_those_of_nearest_pixels() {
        let labels: Vec<u8> = levels().iter().map(|&level| level as u8).collect();
        let found = resize_labels(&labels, ImageSize::new(4, 5), ImageSize::new(6, 7));
        let expected = [
            0, 0, 11, 44, 44, 99, 176, 0, 0, 11, 44, 44, 99, 176, 37, 37, 53, 91, 91, 151, 233, 74,
            74, 95, 138, 138, 203, 34, 74, 74, 95, 138, 138, 203, 34, 111, 111, 137, 185, 185, 255,
            91,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn sizes_are_those_of_mmcv() {
        let rescale = Rescale::default();
        // 640 x 480 into (2048, 512): 512 / 480.
        assert_eq!(rescale.fitted(ImageSize::new(480, 640), 1.0), ImageSize::new(512, 683));
        // int(512 * 0.777) = 397.
        assert_eq!(rescale.fitted(ImageSize::new(480, 640), 0.777), ImageSize::new(397, 529));
        // The long side limits.
        assert_eq!(rescale.fitted(ImageSize::new(100, 1000), 1.0), ImageSize::new(205, 2048));
        let own = Rescale { scale: None, ..rescale };
        assert_eq!(own.fitted(ImageSize::new(33, 21), 1.0), ImageSize::new(33, 21));
    }
}
