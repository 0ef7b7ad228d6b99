//! Ids of images, classes and objects.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// The id of an image, a class or an object: COCO's files have numbers, others texts. A text that
/// is a plain decimal number is that number, so that `"42"` and `42` are one id; `"042"` is not.
/// Numbers come before texts in order.
///
/// ```
/// use pad_metrics::coco::CocoId;
/// let ids: Vec<CocoId> = serde_json::from_str(r#"[42, "42", "042", "frame-7"]"#).unwrap();
/// assert_eq!(ids[0], ids[1]);
/// assert_eq!(ids[0], 42);
/// assert_eq!(ids[3].to_string(), "frame-7");
/// assert!(ids[0] < ids[2] && ids[1] != ids[2]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum CocoId {
    /// A number.
    Number(i64),
    /// Any other text.
    Text(String),
}

impl From<i64> for CocoId {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for CocoId {
    fn from(text: &str) -> Self {
        match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Self::Number(number),
            _ => Self::Text(text.to_string()),
        }
    }
}

impl PartialEq<i64> for CocoId {
    fn eq(&self, number: &i64) -> bool {
        *self == Self::Number(*number)
    }
}

/// As it stands in a file, without quotes.
impl fmt::Display for CocoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for CocoId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = CocoId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id: a whole number or a text")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<CocoId, E> {
                Ok(CocoId::Number(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<CocoId, E> {
                let number = i64::try_from(number);
                number.map(CocoId::Number).map_err(|_| E::custom("an id above 2^63"))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<CocoId, E> {
                // Some writers put numbers as 1.0.
                let whole = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
                match whole {
                    true => Ok(CocoId::Number(number as i64)),
                    false => Err(E::custom(format!("an id of {number}, expected a whole number"))),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CocoId, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_any(Either)
    }
}
