//! Mean and standard deviation of the input of a network.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// `(level / 255 - mean) / std`, for each channel.
///
/// The two infrared presets are those of the reference code, which disagree. The mean and standard
/// deviation of MSIP were given as 0.3801 and 0.1871 of the full range, and pre-training uses just
/// these ([`Normalize::msip`]). The downstream configurations use levels: mean 96.9255 is 0.3801 x
/// 255, but standard deviation 47.8976 is 0.1871 x 256; against levels of 0 to 255 that is 0.18783.
/// [`Normalize::downstream`] keeps what the published downstream results were trained with.
///
/// Of more than three channels the fourth has the numbers of the first, and so on in turn, as in
/// timm. A masked pixel ([`Image::masked`](crate::image::Image::masked)) is a level of 0, the low
/// end of the window, and is normalised as such.
///
/// ```
/// use pad_data::transform::Normalize;
/// let msip = Normalize::msip();
/// msip.validate()?;
/// assert!((msip.apply(255.0, 0) - (1.0 - 0.3801) / 0.1871).abs() < 1e-6);
/// assert!((msip.invert(msip.apply(100.0, 0), 0) - 100.0).abs() < 1e-4);
/// // The published downstream numbers: the deviation was multiplied by 256, not by 255.
/// assert!((Normalize::downstream().std[0] - 0.1871 * 256.0 / 255.0).abs() < 1e-5);
/// assert_eq!((Normalize::imagenet().mean[0], Normalize::clip().mean[0]), (0.485, 0.481_454_66));
/// # Ok::<(), pad_data::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// Mean of red, green and blue (of the one channel: the first), as a share of 255.
    pub mean: [f32; 3],
    /// Standard deviation, as a share of 255.
    pub std: [f32; 3],
}

impl Default for Normalize {
    fn default() -> Self {
        Self::msip()
    }
}

impl Normalize {
    /// Pre-training: mean 0.3801, standard deviation 0.1871.
    pub const fn msip() -> Self {
        Self { mean: [0.3801; 3], std: [0.1871; 3] }
    }

    /// Segmentation and detection: mean 96.9255 / 255 = 0.3801, standard deviation 47.8976 / 255 =
    /// 0.18783 (and not 0.1871: it was multiplied by 256, see [`Normalize`]).
    pub const fn downstream() -> Self {
        Self { mean: [(96.9255 / 255.0) as f32; 3], std: [(47.8976 / 255.0) as f32; 3] }
    }

    /// RGB networks: 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225.
    pub const fn imagenet() -> Self {
        Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
    }

    /// CLIP: 0.48145466, 0.4578275, 0.40821073 and 0.26862954, 0.26130258, 0.27577711.
    pub const fn clip() -> Self {
        Self {
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }

    /// The presets by name.
    pub const PRESETS: [(&'static str, Self); 4] = [
        ("msip", Self::msip()),
        ("downstream", Self::downstream()),
        ("imagenet", Self::imagenet()),
        ("clip", Self::clip()),
    ];

    /// Checks that means are finite, and standard deviations finite and above 0.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        let fault = |name, expected: &str, found: [f32; 3]| {
            Err(Error::Setting { name, expected: expected.into(), found: format!("{found:?}") })
        };
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return fault("mean", "finite numbers", self.mean);
        }
        if !self.std.iter().all(|&std| std.is_finite() && std > 0.0) {
            return fault("std", "finite numbers above 0", self.std);
        }
        Ok(())
    }

    /// The normalised `level` (0 to 255) of channel `channel` (0 to 2). The operations and their
    /// order, all in f32, are those of torchvision's `ToTensor` and `Normalize`.
    #[inline(always)]
    pub fn apply(&self, level: f32, channel: usize) -> f32 {
        let channel = channel % 3;
        (level / 255.0 - self.mean[channel]) / self.std[channel]
    }

    /// The level (0 to 255, not clipped) that became `value`.
    pub fn invert(&self, value: f32, channel: usize) -> f32 {
        let channel = channel % 3;
        (value * self.std[channel] + self.mean[channel]) * 255.0
    }

    /// [`Normalize::apply`] of all 256 levels of 8 bits.
    pub(crate) fn table(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|level| self.apply(level as f32, channel))
    }

    /// Whether channels `a` and `b` are normalised alike.
    pub(crate) fn same(&self, a: usize, b: usize) -> bool {
        self.mean[a % 3] == self.mean[b % 3] && self.std[a % 3] == self.std[b % 3]
    }
}

/// The name of a preset; else `MEAN,STD` where channels are alike, else three means and three
/// standard deviations.
impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = Self::PRESETS.iter().find(|(_, preset)| preset == self) {
            return f.write_str(name);
        }
        let Self { mean: [r, g, b], std: [dr, dg, db] } = self;
        match r == g && g == b && dr == dg && dg == db {
            true => write!(f, "{r},{dr}"),
            false => write!(f, "{r},{g},{b},{dr},{dg},{db}"),
        }
    }
}

/// As [`Display`](fmt::Display) writes it; numbers are shares of 255.
impl FromStr for Normalize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some((_, preset)) = Self::PRESETS.iter().find(|(name, _)| *name == text) {
            return Ok(preset.clone());
        }
        let numbers: Vec<f32> =
            text.split(',').map_while(|part| part.trim().parse().ok()).collect();
        let all = numbers.len() == text.split(',').count();
        let normalize = match numbers[..] {
            [mean, std] if all => Self { mean: [mean; 3], std: [std; 3] },
            [r, g, b, dr, dg, db] if all => Self { mean: [r, g, b], std: [dr, dg, db] },
            _ => {
                let names = Self::PRESETS.map(|(name, _)| name);
                let known = names.into_iter().chain(["MEAN,STD"]);
                return Err(Error::unknown_name("normalize", text, known));
            }
        };
        normalize.validate()?;
        Ok(normalize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_those_of_the_reference() {
        let msip = Normalize::msip();
        assert_eq!(msip.apply(0.0, 0), -0.3801 / 0.1871);
        assert!((msip.apply(96.9255, 1)).abs() < 1e-6);
        // mmsegmentation: (level - 96.9255) / 47.8976.
        let downstream = Normalize::downstream();
        for level in [0.0_f32, 100.0, 255.0] {
            let expected = (level - 96.9255) / 47.8976;
            assert!((downstream.apply(level, 2) - expected).abs() < 1e-6, "{level}");
        }
        assert!((downstream.std[0] - 0.187_834).abs() < 1e-6, "{}", downstream.std[0]);
        let imagenet = Normalize::imagenet();
        assert!((imagenet.apply(255.0, 2) - (1.0 - 0.406) / 0.225).abs() < 1e-6);
        assert!(!imagenet.same(0, 1) && msip.same(0, 2));
    }

    #[test]
    fn the_table_is_the_formula_and_inverts() {
        let normalize = Normalize::imagenet();
        for channel in 0..3 {
            for (level, &value) in normalize.table(channel).iter().enumerate() {
                assert_eq!(value, normalize.apply(level as f32, channel));
                assert!((normalize.invert(value, channel) - level as f32).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn texts_come_back() {
        let own = Normalize { mean: [0.1, 0.2, 0.3], std: [0.5; 3] };
        let alike = Normalize { mean: [0.4; 3], std: [0.25; 3] };
        let presets = Normalize::PRESETS.map(|(_, preset)| preset);
        for normalize in presets.into_iter().chain([own, alike]) {
            assert_eq!(normalize.to_string().parse::<Normalize>().unwrap(), normalize);
        }
        assert_eq!("0.4, 0.25".parse::<Normalize>().unwrap().to_string(), "0.4,0.25");
        let text = |text: &str| text.parse::<Normalize>().unwrap_err().to_string();
        assert_eq!(
            text("imagnet"),
            "normalize: expected msip, downstream, imagenet, clip or MEAN,STD, found `imagnet` (did you mean `imagenet`?)"
        );
        assert!(text("0.4").ends_with("found `0.4`") && text("0.4,x").ends_with("found `0.4,x`"));
        assert!(text("0.4,0").starts_with("`std` is "));
    }

    #[test]
    fn a_zero_deviation_is_refused() {
        let refused = Normalize { mean: [0.0; 3], std: [1.0, 0.0, 1.0] }.validate().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`std` is [1.0, 0.0, 1.0], expected finite numbers above 0"
        );
        assert!(Normalize { mean: [f32::NAN; 3], std: [1.0; 3] }.validate().is_err());
    }
}
