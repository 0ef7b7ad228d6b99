//! Values of settings: how they are written in TOML files and on the command line.

use std::{fmt, ops::Deref, str::FromStr};

use pad::{ImageSize, data::transform::segmentation::Rescale};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A value that a setting may have.
pub trait Setting {
    /// What its flag gives.
    type Flag;
    /// Whether the flag alone, without a value, means `true`.
    const SWITCH: bool = false;
}

macro_rules! plain {
    ($($ty:ty),*) => { $(impl Setting for $ty { type Flag = Self; })* };
}
plain!(usize, u64, f64, f32, String, std::path::PathBuf, Pair, Pixels, BaseScale, EvalEvery);

impl Setting for bool {
    type Flag = Self;
    const SWITCH: bool = true;
}

impl<T> Setting for Option<T> {
    type Flag = T;
}

impl<T> Setting for Text<T> {
    type Flag = Self;
}

impl<T> Setting for Auto<T> {
    type Flag = Self;
}

impl<T> Setting for List<T> {
    type Flag = Self;
}

impl<T> Setting for OrNone<T> {
    type Flag = Self;
}

/// A value with a text form, which files have too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text<T>(pub T);

impl<T> Deref for Text<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: FromStr<Err: fmt::Display>> FromStr for Text<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: T::Err| error.to_string())
    }
}

impl<T: fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value, or `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auto<T> {
    /// Chosen by the program.
    #[default]
    Auto,
    /// Chosen by the user.
    Given(T),
}

impl<T> Auto<T> {
    /// The value, if it was chosen by the user.
    pub fn given(&self) -> Option<&T> {
        match self {
            Self::Auto => None,
            Self::Given(value) => Some(value),
        }
    }
}

impl<T: FromStr<Err: fmt::Display>> FromStr for Auto<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            text => text.parse().map(Self::Given).map_err(|error: T::Err| error.to_string()),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Auto<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Given(value) => value.fmt(f),
        }
    }
}

/// A value, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrNone<T>(pub Option<T>);

impl<T: FromStr<Err: fmt::Display>> FromStr for OrNone<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => text
                .parse()
                .map(|value| Self(Some(value)))
                .map_err(|error: T::Err| format!("{error} (or none)")),
        }
    }
}

impl<T: fmt::Display> fmt::Display for OrNone<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("none"),
            Some(value) => value.fmt(f),
        }
    }
}

impl<T: fmt::Display> Serialize for OrNone<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Values separated by commas; an array in files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List<T>(pub Vec<T>);

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: FromStr<Err: fmt::Display>> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = |part: &str| {
            let part = part.trim();
            part.parse().map_err(|error: T::Err| format!("`{part}`: {error}"))
        };
        text.split(',').map(value).collect::<Result<_, _>>().map(Self)
    }
}

impl<T: fmt::Display> fmt::Display for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<String> = self.0.iter().map(T::to_string).collect();
        f.write_str(&values.join(","))
    }
}

/// Two numbers, `LOW,HIGH` on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair(pub [f64; 2]);

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let list: List<f64> = text.parse()?;
        list.0.try_into().map(Self).map_err(|_| "expected two numbers, FIRST,SECOND".into())
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.0[0], self.0[1])
    }
}

/// A size in pixels: one number for both sides, or `HEIGHT,WIDTH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pixels(pub ImageSize);

impl Pixels {
    /// A square.
    pub const fn square(side: usize) -> Self {
        Self(ImageSize { height: side, width: side })
    }
}

impl FromStr for Pixels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        crate::tools::values::image_size(text).map(Self)
    }
}

impl fmt::Display for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImageSize { height, width } = self.0;
        match height == width {
            true => write!(f, "{height}"),
            false => write!(f, "{height},{width}"),
        }
    }
}

/// The long and the short side that images are fitted into, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseScale(pub Option<[usize; 2]>);

impl BaseScale {
    /// The transform, with a random ratio.
    pub fn rescale(self, ratio: [f64; 2]) -> Rescale {
        Rescale { scale: self.0, ratio }
    }
}

impl FromStr for BaseScale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected LONG,SHORT in pixels, or none".to_string();
        match text {
            // Files of the first versions have [0] for `none`.
            "none" | "0" => Ok(Self(None)),
            text => {
                let sides: List<usize> = text.parse().map_err(|_: String| expected())?;
                sides.0.try_into().map(|sides| Self(Some(sides))).map_err(|_| expected())
            }
        }
    }
}

impl fmt::Display for BaseScale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some([long, short]) => write!(f, "{long},{short}"),
        }
    }
}

/// When a model is evaluated between the first and the last update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvalEvery {
    /// A number of epochs.
    Epochs(usize),
    /// Only after the last update.
    End,
}

impl EvalEvery {
    /// The number of epochs; `None`: after the last update only.
    pub fn epochs(self) -> Option<usize> {
        match self {
            Self::Epochs(epochs) => Some(epochs),
            Self::End => None,
        }
    }
}

impl FromStr for EvalEvery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            // Files of the first versions have 0 for `end`.
            ("end" | "0", _) => Ok(Self::End),
            (_, Ok(epochs)) => Ok(Self::Epochs(epochs)),
            _ => Err("expected a number of epochs, or end".into()),
        }
    }
}

impl fmt::Display for EvalEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("end"),
            Self::Epochs(epochs) => epochs.fmt(f),
        }
    }
}

/// The text of a TOML value: an array is one with commas.
fn text_of(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) => values.iter().map(text_of).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Reads a value by its text, which files may have as a string, a number or an array.
fn by_text<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    text_of(&value).parse().map_err(D::Error::custom)
}

macro_rules! text_in_files {
    ($($ty:ty $(, $param:ident)?;)*) => { $(
        impl<'de $(, $param: FromStr<Err: fmt::Display>)?> Deserialize<'de> for $ty {
            fn deserialize<De: Deserializer<'de>>(deserializer: De) -> Result<Self, De::Error> {
                by_text(deserializer)
            }
        }
    )* };
}
text_in_files! { Text<T>, T; Auto<T>, T; OrNone<T>, T; List<T>, T; Pair; Pixels; BaseScale; EvalEvery; }

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<T: fmt::Display> Serialize for Auto<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<T: Serialize> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Serialize for Pair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Serialize for Pixels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.0.height, self.0.width].serialize(serializer)
    }
}

impl Serialize for BaseScale {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_str("none"),
            Some(sides) => sides.serialize(serializer),
        }
    }
}

impl Serialize for EvalEvery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::End => serializer.serialize_str("end"),
            Self::Epochs(epochs) => epochs.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: FromStr<Err = String> + fmt::Display + PartialEq + fmt::Debug>(text: &str) {
        let value: T = text.parse().unwrap();
        assert_eq!(value.to_string(), text);
    }

    #[test]
    fn texts_go_both_ways() {
        round_trip::<Pair>("0.5,2");
        round_trip::<Pixels>("224");
        round_trip::<Pixels>("192,256");
        round_trip::<BaseScale>("none");
        round_trip::<BaseScale>("2048,512");
        round_trip::<EvalEvery>("end");
        round_trip::<EvalEvery>("3");
        round_trip::<List<usize>>("3,5,7,11");
        round_trip::<Auto<f64>>("auto");
        round_trip::<Auto<f64>>("0.5");
        assert_eq!("a,3".parse::<List<usize>>().unwrap_err(), "`a`: invalid digit found in string");
    }

    #[test]
    fn files_of_the_first_versions_are_read() {
        fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
            let table: toml::Table = format!("value = {text}").parse().unwrap();
            table["value"].clone().try_into().unwrap()
        }
        assert_eq!(read::<Pixels>("[224]"), Pixels::square(224));
        assert_eq!(read::<Pixels>("[192, 256]"), Pixels(ImageSize::new(192, 256)));
        assert_eq!(read::<Pixels>("160"), Pixels::square(160));
        assert_eq!(read::<BaseScale>("[0]"), BaseScale(None));
        assert_eq!(read::<BaseScale>("[2048, 512]"), BaseScale(Some([2048, 512])));
        assert_eq!(read::<EvalEvery>("0"), EvalEvery::End);
        assert_eq!(read::<Pair>("[0.75, 1.5]"), Pair([0.75, 1.5]));
        assert_eq!(read::<List<f64>>("[16.0, 32]"), List(vec![16.0, 32.0]));
        assert_eq!(read::<List<f64>>("16.5"), List(vec![16.5]));
    }
}
