//! Random and centred crops.

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use super::draws::Draws;
use crate::{
    Error, Result,
    image::Image,
    rect::Rect,
    resize::{Filter, Resampling, resample},
};

/// A crop of random area and aspect, resized (torchvision's `RandomResizedCrop`; its `get_params`
/// draw by draw).
///
/// ```
/// use pad_data::{ImageSize, Key, image::{Image, Pixels}, resize::Filter};
/// use pad_data::transform::RandomResizedCrop;
/// let (size, wanted) = (ImageSize::new(48, 64), ImageSize::square(32));
/// let crop = RandomResizedCrop::default();
/// crop.validate()?;
/// let rect = crop.draw(size, &mut Key::new(0).stream());
/// assert!(rect.is_inside(size));
/// let image = Image::new(size, 1, Pixels::U8(vec![7; 48 * 64]))?;
/// assert_eq!(RandomResizedCrop::apply(&image, rect, wanted, Filter::Bicubic)?.size(), wanted);
/// # Ok::<(), pad_data::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Smallest and largest share of the image's area. Default 0.2 and 1.
    pub scale: (f64, f64),
    /// Smallest and largest width per height. Default 3/4 and 4/3.
    pub ratio: (f64, f64),
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        Self { scale: (0.2, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0) }
    }
}

impl RandomResizedCrop {
    /// Tries before the centre crop is taken.
    const TRIES: usize = 10;

    /// Checks that `0 < low <= high`, and that the scale is at most 1.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        let in_order = |(low, high): (f64, f64)| low > 0.0 && low <= high && high.is_finite();
        let fault = |name, expected: &str, found: (f64, f64)| {
            Err(Error::Setting { name, expected: expected.into(), found: format!("{found:?}") })
        };
        if !in_order(self.scale) || self.scale.1 > 1.0 {
            return fault("scale", "0 < low <= high <= 1", self.scale);
        }
        if !in_order(self.ratio) {
            return fault("ratio", "0 < low <= high", self.ratio);
        }
        Ok(())
    }

    /// Decides the crop of an image of size `size`.
    ///
    /// Arithmetic is that of Python with torch scalars: the aspect is the exponential, in f32, of a
    /// uniform number; everything else is f64, rounded half to even.
    pub fn draw(&self, size: ImageSize, draws: &mut impl Draws) -> Rect {
        let (height, width) = (size.height as f64, size.width as f64);
        let log_ratio = |ratio: f64| f64::from(f64::from(ratio as f32).ln() as f32);
        let log_ratio = (log_ratio(self.ratio.0), log_ratio(self.ratio.1));
        for _ in 0..Self::TRIES {
            let area = height * width * draws.uniform(self.scale.0, self.scale.1);
            let drawn = draws.uniform(log_ratio.0, log_ratio.1) as f32;
            // Through f64, so that the f32 result is the correctly rounded one on every machine.
            let aspect = f64::from(f64::from(drawn).exp() as f32);
            let crop_width = (area * aspect).sqrt().round_ties_even();
            let crop_height = (area / aspect).sqrt().round_ties_even();
            if 0.0 < crop_width && crop_width <= width && 0.0 < crop_height && crop_height <= height
            {
                let (crop_height, crop_width) = (crop_height as usize, crop_width as usize);
                let top = draws.below(size.height - crop_height + 1);
                let left = draws.below(size.width - crop_width + 1);
                return Rect { top, left, height: crop_height, width: crop_width };
            }
        }
        self.centred(size)
    }

    /// The largest centred crop whose aspect is allowed.
    fn centred(&self, size: ImageSize) -> Rect {
        let (height, width) = (size.height as f64, size.width as f64);
        let aspect = width / height;
        let side = |side: f64| (side.round_ties_even() as usize).max(1);
        let inner = if aspect < self.ratio.0 {
            ImageSize::new(side(width / self.ratio.0), size.width)
        } else if aspect > self.ratio.1 {
            ImageSize::new(size.height, side(height * self.ratio.1))
        } else {
            size
        };
        let inner = ImageSize::new(inner.height.min(size.height), inner.width.min(size.width));
        // Rounded down here, unlike `center_crop`.
        Rect {
            top: (size.height - inner.height) / 2,
            left: (size.width - inner.width) / 2,
            height: inner.height,
            width: inner.width,
        }
    }

    /// Cuts the decided `rect` out and resizes it to `size`.
    ///
    /// # Errors
    /// As [`resample`].
    pub fn apply(image: &Image, rect: Rect, size: ImageSize, filter: Filter) -> Result<Image> {
        resample(image, &Resampling::new(rect, size), filter)
    }
}

/// The middle of an image for evaluation: the short side is resized to `short_side`, then the
/// centre is kept (torchvision's `Resize(short_side)` and `CenterCrop(size)`).
///
/// ```
/// use pad_data::{ImageSize, image::{Image, Pixels}, resize::Filter, transform::CenterCrop};
/// let (size, wanted) = (ImageSize::new(48, 64), ImageSize::square(24));
/// let resampling = CenterCrop { short_side: 32 }.draw(size, wanted)?;
/// let image = Image::new(size, 1, Pixels::U8(vec![7; 48 * 64]))?;
/// assert_eq!(CenterCrop::apply(&image, &resampling, Filter::Bilinear)?.size(), wanted);
/// assert_eq!(CenterCrop::covering(wanted).short_side, 24);
/// # Ok::<(), pad_data::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CenterCrop {
    /// Short side before the crop, pixels. Default 256, for a crop of 224.
    pub short_side: usize,
}

impl Default for CenterCrop {
    fn default() -> Self {
        Self { short_side: 256 }
    }
}

impl CenterCrop {
    /// One that keeps the whole short side of an image for results of this size.
    pub fn covering(size: ImageSize) -> Self {
        Self { short_side: size.height.max(size.width) }
    }

    /// The resampling of an image of size `image` to a result of size `size`, without random steps.
    ///
    /// # Errors
    /// [`Error::Setting`] if the resized short side is smaller than a side of `size`.
    pub fn draw(&self, image: ImageSize, size: ImageSize) -> Result<Resampling> {
        if self.short_side < size.height.max(size.width) || size.area() == 0 {
            return Err(Error::Setting {
                name: "short_side",
                expected: format!("at least the sides of the result, {size}"),
                found: self.short_side.to_string(),
            });
        }
        // The long side is cut to an integer, as torchvision does.
        let long = |long: usize, short: usize| {
            let side = self.short_side as u128 * long as u128 / (short as u128).max(1);
            usize::try_from(side).unwrap_or(usize::MAX)
        };
        let scaled = if image.width <= image.height {
            ImageSize::new(long(image.height, image.width), self.short_side)
        } else {
            ImageSize::new(self.short_side, long(image.width, image.height))
        };
        Ok(Resampling { source: Rect::whole(image), scaled, window: Rect::centred(scaled, size) })
    }

    /// Resizes and cuts as decided.
    ///
    /// # Errors
    /// As [`resample`].
    pub fn apply(image: &Image, resampling: &Resampling, filter: Filter) -> Result<Image> {
        resample(image, resampling, filter)
    }
}

#[cfg(test)]
mod tests {
    use pad_ops::rng::{Key, Purpose};

    use super::*;
    use crate::{image::Pixels, resize::resize};

    #[test]
    fn crops_are_inside_and_of_the_asked_share() {
        let crop = RandomResizedCrop::default();
        let mut stream = Key::new(1).purpose(Purpose::Crop).stream();
        let size = ImageSize::new(512, 640);
        let mut shares = Vec::new();
        for _ in 0..1000 {
            let rect = crop.draw(size, &mut stream);
            assert!(rect.is_inside(size));
            shares.push(rect.size().area() as f64 / size.area() as f64);
            let aspect = rect.width as f64 / rect.height as f64;
            assert!((0.74..1.35).contains(&aspect), "{rect}");
        }
        assert!(shares.iter().all(|share| (0.19..=1.0).contains(share)));
        assert!(shares.iter().any(|&share| share < 0.25) && shares.iter().any(|&s| s > 0.9));
    }

    #[test]
    fn bad_ranges_are_refused() {
        let refused = RandomResizedCrop { scale: (0.5, 0.2), ..Default::default() }.validate();
        assert_eq!(
            refused.unwrap_err().to_string(),
            "`scale` is (0.5, 0.2), expected 0 < low <= high <= 1"
        );
        let refused = RandomResizedCrop { ratio: (0.0, 1.0), ..Default::default() }.validate();
        assert_eq!(
            refused.unwrap_err().to_string(),
            "`ratio` is (0.0, 1.0), expected 0 < low <= high"
        );
        RandomResizedCrop::default().validate().unwrap();
    }

    #[test]
    fn the_window_of_a_resize_is_the_resize_cut_afterwards() {
        let size = ImageSize::new(37, 61);
        let samples = (0..size.area()).map(|index| (index * 37 % 251) as u8).collect();
        let image = Image::new(size, 1, Pixels::U8(samples)).unwrap();
        let wanted = ImageSize::new(20, 23);
        let resampling = CenterCrop { short_side: 29 }.draw(size, wanted).unwrap();
        assert_eq!(resampling.scaled, ImageSize::new(29, 47));
        let kept = CenterCrop::apply(&image, &resampling, Filter::Bicubic).unwrap();
        let whole = resize(&image, resampling.scaled, Filter::Bicubic).unwrap();
        let (Pixels::U8(kept), Pixels::U8(whole)) = (kept.pixels(), whole.pixels()) else {
            panic!("8 bits stay 8 bits");
        };
        let window = resampling.window;
        assert_eq!((window.top, window.left), (4, 12)); // round(4.5) = 4, half to even
        for row in 0..wanted.height {
            let start = (window.top + row) * resampling.scaled.width + window.left;
            assert_eq!(kept[row * 23..][..23], whole[start..][..23]);
        }
    }

    #[test]
    fn a_centre_crop_needs_enough_pixels() {
        let refused = CenterCrop { short_side: 200 }
            .draw(ImageSize::square(300), ImageSize::square(224))
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`short_side` is 200, expected at least the sides of the result, 224x224"
        );
        let covering = CenterCrop::covering(ImageSize::square(224));
        let resampling = covering.draw(ImageSize::new(512, 640), ImageSize::square(224)).unwrap();
        assert_eq!(resampling.scaled, ImageSize::new(224, 280));
        assert_eq!((resampling.window.top, resampling.window.left), (0, 28));
    }
}
