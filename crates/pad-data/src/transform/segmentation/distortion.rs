//! Brightness and contrast.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, transform::Draws};

/// Random brightness and contrast, each with probability 0.5 (mmsegmentation's
/// `PhotoMetricDistortion`).
///
/// The original also changes saturation and hue, and draws whether contrast comes before or after
/// these. On grey images both leave every pixel as it is, so neither they nor their order are here.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhotometricDistortion {
    /// Largest change of brightness, levels. Default 32.
    pub brightness: f64,
    /// Smallest and largest factor of contrast. Default 0.5 and 1.5.
    pub contrast: [f64; 2],
}

impl Default for PhotometricDistortion {
    fn default() -> Self {
        Self { brightness: 32.0, contrast: [0.5, 1.5] }
    }
}

/// A decision of [`PhotometricDistortion`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distortion {
    /// Levels that are added.
    pub brightness: Option<f32>,
    /// Factor, after brightness.
    pub contrast: Option<f32>,
}

impl PhotometricDistortion {
    /// One that changes nothing.
    pub const NEVER: Self = Self { brightness: 0.0, contrast: [1.0, 1.0] };

    /// Checks that brightness is 0 to 255, and factors 0 to 100 in order.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        let fault = |name, expected: &str, found| {
            Err(Error::Setting { name, expected: expected.into(), found })
        };
        if !(0.0..=255.0).contains(&self.brightness) {
            return fault("brightness", "0 to 255", self.brightness.to_string());
        }
        let [low, high] = self.contrast;
        if !(low >= 0.0 && low <= high && high <= 100.0) {
            return fault("contrast", "0 <= low <= high <= 100", format!("{:?}", self.contrast));
        }
        Ok(())
    }

    /// Decides: whether and how much brightness, whether and how much contrast.
    pub fn draw(&self, draws: &mut impl Draws) -> Distortion {
        let mut maybe = |low, high| (draws.below(2) == 1).then(|| draws.uniform(low, high) as f32);
        Distortion {
            brightness: maybe(-self.brightness, self.brightness),
            contrast: maybe(self.contrast[0], self.contrast[1]),
        }
    }
}

impl Distortion {
    /// Changes levels of 0 to 255; clipped after each step, and cut to whole levels if they are
    /// `whole`, as bytes are in the original.
    pub fn apply(self, levels: &mut [f32], whole: bool) {
        let mut convert = |factor: f32, offset: f32| {
            for level in levels.iter_mut() {
                *level = (*level * factor + offset).clamp(0.0, 255.0);
                if whole {
                    *level = level.floor();
                }
            }
        };
        if let Some(offset) = self.brightness {
            convert(1.0, offset);
        }
        if let Some(factor) = self.contrast {
            convert(factor, 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_clipped_and_cut_at_each_step() {
        let both = Distortion { brightness: Some(30.5), contrast: Some(1.5) };
        let mut levels = [0.0, 101.0, 250.0];
        both.apply(&mut levels, true);
        // 30, 131 and 255; then 45, 196 and 255.
        assert_eq!(levels, [45.0, 196.0, 255.0]);
        let mut levels = [0.0, 101.0, 250.0];
        both.apply(&mut levels, false);
        assert_eq!(levels, [45.75, 197.25, 255.0]);
        let mut levels = [7.0];
        Distortion { brightness: None, contrast: None }.apply(&mut levels, true);
        assert_eq!(levels, [7.0]);
    }

    #[test]
    fn half_of_the_samples_are_changed() {
        let rule = PhotometricDistortion::default();
        let drawn: Vec<_> = (0..400)
            .map(|sample| rule.draw(&mut pad_ops::rng::Key::new(1).sample(sample).stream()))
            .collect();
        let bright: Vec<f32> = drawn.iter().filter_map(|drawn| drawn.brightness).collect();
        let contrast: Vec<f32> = drawn.iter().filter_map(|drawn| drawn.contrast).collect();
        assert!((160..240).contains(&bright.len()) && (160..240).contains(&contrast.len()));
        assert!(bright.iter().all(|value| (-32.0..=32.0).contains(value)));
        assert!(contrast.iter().all(|value| (0.5..=1.5).contains(value)));
        let wrong = PhotometricDistortion { brightness: 300.0, ..rule }.validate().unwrap_err();
        assert_eq!(wrong.to_string(), "`brightness` is 300, expected 0 to 255");
    }
}
