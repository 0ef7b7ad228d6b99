//! Values of JSON by their meaning: whole floats, booleans, numbers in quotes. Nothing in a field
//! ends the reading of a file; what has no meaning there is a fault of its element.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// A value without parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Scalar {
    /// No value, or null.
    #[default]
    Absent,
    Bool(bool),
    Whole(i64),
    Float(f64),
    Text(String),
    /// A list or an object.
    Other,
}

impl Scalar {
    /// The number that it means.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Whole(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// The whole number that it means.
    pub(super) fn whole(&self) -> Option<i64> {
        /// Up to here a float tells all whole numbers apart.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::Whole(number) => Some(*number),
            Self::Text(text) if text.trim().parse::<i64>().is_ok() => text.trim().parse().ok(),
            _ => {
                let number = self.number()?;
                let is_whole = number.fract() == 0.0 && number.abs() <= EXACT;
                is_whole.then_some(number as i64)
            }
        }
    }

    /// Yes or no; no value is no.
    pub(super) fn flag(&self) -> Option<bool> {
        match self {
            Self::Absent => Some(false),
            Self::Bool(flag) => Some(*flag),
            Self::Text(text) => match text.trim().to_lowercase().as_str() {
                "" | "false" | "no" => Some(false),
                "true" | "yes" => Some(true),
                _ => self.number().map(|number| number != 0.0),
            },
            _ => self.number().map(|number| number != 0.0),
        }
    }

    /// The text that it means.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Absent | Self::Other => None,
            _ => Some(self.to_string()),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nothing"),
            Self::Bool(flag) => flag.fmt(f),
            Self::Whole(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            // Text of a file may hold anything, and be of any length.
            Self::Text(text) => {
                let shown: String = text.chars().take(60).collect();
                write!(f, "`{}`", shown.escape_debug())
            }
            Self::Other => f.write_str("a list or an object"),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Whole(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
                // A number that long is a name.
                let whole = i64::try_from(value).map(Scalar::Whole);
                Ok(whole.unwrap_or_else(|_| Scalar::Text(value.to_string())))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Float(value))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.into()))
            }

            fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
                Ok(Scalar::Absent)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
                while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The first values of a list; of anything else none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row(pub(super) Vec<Scalar>);

/// Maximum number of values of a row that are kept.
const ROW: usize = 8;

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let List(all) = List::<Scalar, ROW>::deserialize(deserializer)?;
        Ok(Self(all))
    }
}

/// A list, or the values of an object; of anything else nothing. At most `MAX` elements are kept.
pub(super) struct List<T, const MAX: usize = { usize::MAX }>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Elements<T, MAX> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
                let mut all = Vec::new();
                while all.len() < MAX {
                    match items.next_element()? {
                        Some(item) => all.push(item),
                        None => return Ok(all),
                    }
                }
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(all)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
                let mut all = Vec::new();
                while let Some((_, item)) = items.next_entry::<IgnoredAny, T>()? {
                    if all.len() < MAX {
                        all.push(item);
                    }
                }
                Ok(all)
            }

            fn visit_unit<E: Error>(self) -> Result<Vec<T>, E> {
                Ok(Vec::new())
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Vec<T>, E> {
                Ok(Vec::new())
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Vec<T>, E> {
                Ok(Vec::new())
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Vec<T>, E> {
                Ok(Vec::new())
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Vec<T>, E> {
                Ok(Vec::new())
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Vec<T>, E> {
                Ok(Vec::new())
            }
        }
        deserializer.deserialize_any(Elements::<T, MAX>(PhantomData)).map(Self)
    }
}

/// An element of a list of objects, read field by field. A field that occurs twice has its last
/// value, as in Python; an element that is no object has no fields.
pub(super) trait Element<'de>: Default {
    /// Reads the value of field `name` if it is one of the element's; else returns false, and the
    /// value is skipped.
    fn read<A: MapAccess<'de>>(&mut self, name: &str, fields: &mut A) -> Result<bool, A::Error>;
}

/// Reads an [`Element`].
pub(super) fn element<'de, T: Element<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct Fields<T>(PhantomData<T>);
    impl<'de, T: Element<'de>> Visitor<'de> for Fields<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<T, A::Error> {
            let mut element = T::default();
            while let Some(name) = fields.next_key::<String>()? {
                if !element.read(&name, &mut fields)? {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
            Ok(element)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok(T::default())
        }

        fn visit_unit<E: Error>(self) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_str<E: Error>(self, _: &str) -> Result<T, E> {
            Ok(T::default())
        }
    }
    deserializer.deserialize_any(Fields::<T>(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(text: &str) -> Scalar {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn values_count_by_their_meaning() {
        let whole = |text: &str| scalar(text).whole();
        assert_eq!(["7", "7.0", "\"7\"", "\" 7.0 \"", "7e0"].map(whole), [Some(7); 5]);
        let nothing = ["7.5", "null", "true", "[7]", "{\"a\": 7}", "\"x\"", "1e300", "\"nan\""];
        assert_eq!(nothing.map(whole), [None; 8]);
        assert_eq!(whole("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(scalar("18446744073709551615"), Scalar::Text("18446744073709551615".into()));
        let flag = |text: &str| scalar(text).flag();
        assert_eq!(["1", "1.0", "true", "\"1\"", "\"True\""].map(flag), [Some(true); 5]);
        assert_eq!(["0", "0.0", "false", "null", "\"\"", "\"no\""].map(flag), [Some(false); 6]);
        assert_eq!(["\"maybe\"", "[]"].map(flag), [None; 2]);
        let row = |text: &str| serde_json::from_str::<Row>(text).unwrap().0.len();
        assert_eq!(
            ["[1, 2]", "{\"x\": 1}", "null", "3", "\"a\"", "true"].map(row),
            [2, 1, 0, 0, 0, 0]
        );
        assert_eq!(row("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"), ROW);
    }
}
