//! What is read of a file, and the limits of it.

use std::{fmt, path::Path, str::FromStr};

use pad_ops::ImageSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Result};

/// Which of the images of a radiometric file is read, and in which unit.
///
/// Radiometric JPEG files hold a coloured picture for people, and the detector's counts. The text
/// forms are the names in lower case.
///
/// ```
/// use pad_data::image::RadiometricMode;
/// assert_eq!("kelvin".parse::<RadiometricMode>()?, RadiometricMode::Kelvin);
/// assert_eq!(RadiometricMode::default().to_string(), "auto");
/// # Ok::<(), pad_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RadiometricMode {
    /// Kelvin where the file states the constants of its camera; else its counts, with a warning.
    /// Scale and offset of a GeoTIFF are applied.
    #[default]
    Auto,
    /// The stored numbers: the detector's counts; of a GeoTIFF, without its scale and offset.
    Raw,
    /// Kelvin; a file with counts and without constants is refused.
    Kelvin,
    /// Degrees Celsius; a file with counts and without constants is refused.
    Celsius,
    /// The coloured picture, which is often of another size.
    Picture,
}

impl RadiometricMode {
    /// All of them, with their names.
    const ALL: [(&'static str, Self); 5] = [
        ("auto", Self::Auto),
        ("raw", Self::Raw),
        ("kelvin", Self::Kelvin),
        ("celsius", Self::Celsius),
        ("picture", Self::Picture),
    ];
}

impl fmt::Display for RadiometricMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, mode)| mode == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or("auto"))
    }
}

/// The names, and `true` and `false` of earlier versions for `auto` and `picture`.
impl FromStr for RadiometricMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "true" => return Ok(Self::Auto),
            "false" => return Ok(Self::Picture),
            _ => {}
        }
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        let unknown =
            || Error::unknown_name("radiometric", text, Self::ALL.iter().map(|(name, _)| *name));
        found.map(|(_, mode)| *mode).ok_or_else(unknown)
    }
}

impl Serialize for RadiometricMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The name, or a boolean of earlier versions.
impl<'de> Deserialize<'de> for RadiometricMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = RadiometricMode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto, raw, kelvin, celsius, picture, true or false")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(if value { RadiometricMode::Auto } else { RadiometricMode::Picture })
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                value.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Limits of [`decode`](super::decode), and what is read of a file.
///
/// ```
/// use pad_data::image::DecodeOptions;
/// let small = DecodeOptions { max_pixels: 1_000_000, page: Some(3), ..Default::default() };
/// assert_eq!((small.min_side, small.max_alloc_bytes), (16, 512 << 20));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecodeOptions {
    /// Maximum number of pixels of an image. Default 100 million.
    pub max_pixels: u64,
    /// Maximum number of bytes of a file, and of its decoded samples. Default 512 MiB.
    pub max_alloc_bytes: u64,
    /// Minimum side, pixels. Default 16, one patch.
    pub min_side: usize,
    /// Which image of a radiometric file is read. Default [`RadiometricMode::Auto`].
    pub radiometric: RadiometricMode,
    /// Page of a TIFF, frame of a sequence or of a NumPy array, from 0; thumbnails and masks are
    /// not counted. Default `None`: the first, with a warning if there are more.
    pub page: Option<usize>,
    /// Whether the fourth sample of RGBA pixels, or the second of grey ones with alpha, is a band
    /// of its own (thermal beside RGB) and is kept. Default false: it is opacity, and dropped.
    pub alpha_is_band: bool,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            max_pixels: 100_000_000,
            max_alloc_bytes: 512 << 20,
            min_side: 16,
            radiometric: RadiometricMode::Auto,
            page: None,
            alpha_is_band: false,
        }
    }
}

impl DecodeOptions {
    /// Checks that an image of `size` with `bytes` of samples is within the limits.
    pub(crate) fn check(&self, path: &Path, size: ImageSize, bytes: u64) -> Result<()> {
        if size.height.min(size.width) < self.min_side.max(1) {
            return Err(Error::TooSmall {
                path: path.into(),
                found: size,
                min: self.min_side.max(1),
            });
        }
        let pixels = (size.height as u64).saturating_mul(size.width as u64);
        limit(path, "pixels", self.max_pixels, pixels)?;
        limit(path, "bytes of samples", self.max_alloc_bytes, bytes)
    }

    /// The page to be read of a file of `pages`, from 0.
    pub(super) fn page_of(&self, path: &Path, pages: usize) -> Result<usize> {
        match self.page {
            Some(page) if page >= pages => {
                let what = format!("page {page} (from 0) of a file of {pages}");
                Err(Error::Unsupported { path: path.into(), what })
            }
            Some(page) => Ok(page),
            None => Ok(0),
        }
    }
}

/// Checks a number of a file against its limit.
pub(super) fn limit(path: &Path, what: &'static str, limit: u64, found: u64) -> Result<()> {
    if found <= limit {
        return Ok(());
    }
    Err(Error::Limit { path: path.into(), what, limit, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_come_back_from_text_and_from_files() {
        for (name, mode) in RadiometricMode::ALL {
            assert_eq!(name.parse::<RadiometricMode>().unwrap(), mode);
            assert_eq!(mode.to_string(), name);
            let options = DecodeOptions { radiometric: mode, page: Some(2), ..Default::default() };
            let text = serde_json::to_string(&options).unwrap();
            assert_eq!(serde_json::from_str::<DecodeOptions>(&text).unwrap(), options);
        }
        // Files of earlier versions.
        for (text, mode) in [("true", RadiometricMode::Auto), ("false", RadiometricMode::Picture)] {
            let old = format!("{{\"radiometric\": {text}}}");
            let options: DecodeOptions = serde_json::from_str(&old).unwrap();
            assert_eq!(options.radiometric, mode);
            assert_eq!(text.parse::<RadiometricMode>().unwrap(), mode);
        }
        assert_eq!(
            "celcius".parse::<RadiometricMode>().unwrap_err().to_string(),
            "radiometric: expected auto, raw, kelvin, celsius or picture, found `celcius` (did you \
             mean `celsius`?)"
        );
    }
}
