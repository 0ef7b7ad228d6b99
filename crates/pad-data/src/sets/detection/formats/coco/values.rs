//! Values of JSON by their meaning: whole floats, booleans, numbers in quotes. Nothing in a field
//! ends the reading of a file; what has no meaning there is a fault of its element.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

/// The methods of a [`Visitor`] for values without parts, which have no meaning where parts are
/// expected and give `$nothing`.
macro_rules! without_parts {
    ($nothing:expr) => {
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
            Ok($nothing)
        }
    };
}

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

/// The first values of a list, or the box of an object that names its numbers; of anything
/// else none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row(pub(super) Vec<Scalar>);

/// Maximum number of values of a row that are kept.
const ROW: usize = 8;

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Row, A::Error> {
                let items = SeqAccessDeserializer::new(items);
                let List(all) = List::<Scalar, ROW>::deserialize(items)?;
                Ok(Row(all))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Row, A::Error> {
                let sides: Sides = element(MapAccessDeserializer::new(fields))?;
                Ok(Row(sides.row().map(Vec::from).unwrap_or_default()))
            }

            without_parts!(Row::default());
        }
        deserializer.deserialize_any(Values)
    }
}

/// A box by the names of its numbers. Their order in a file says nothing.
#[derive(Default)]
struct Sides {
    /// Left and top edge, beside width and height.
    corner: [Scalar; 2],
    /// Width and height.
    extent: [Scalar; 2],
    /// Left and top edge, beside the right and bottom one.
    first: [Scalar; 2],
    /// Right and bottom edge.
    last: [Scalar; 2],
    /// Whether there is another name: these may then mean anything.
    is_strange: bool,
}

impl<'de> Element<'de> for Sides {
    fn read<A: MapAccess<'de>>(&mut self, name: &str, fields: &mut A) -> Result<bool, A::Error> {
        let field = match name {
            "x" | "left" => &mut self.corner[0],
            "y" | "top" => &mut self.corner[1],
            "width" | "w" => &mut self.extent[0],
            "height" | "h" => &mut self.extent[1],
            "xmin" | "x1" => &mut self.first[0],
            "ymin" | "y1" => &mut self.first[1],
            "xmax" | "x2" => &mut self.last[0],
            "ymax" | "y2" => &mut self.last[1],
            _ => {
                self.is_strange = true;
                return Ok(false);
            }
        };
        *field = fields.next_value()?;
        Ok(true)
    }
}

impl Sides {
    /// Left, top, width and height; `None` if the names do not say all of them, or more.
    fn row(self) -> Option<[Scalar; 4]> {
        let Self { corner, extent, first, last, is_strange } = self;
        let count = |pairs: [&[Scalar; 2]; 2]| {
            pairs.into_iter().flatten().filter(|value| **value != Scalar::Absent).count()
        };
        let told = (count([&corner, &extent]), count([&first, &last]));
        let side = |from: &Scalar, to: &Scalar| match (from.number(), to.number()) {
            (Some(from), Some(to)) => Scalar::Float(to - from),
            // What is not a number is the fault that is shown.
            (Some(_), None) => to.clone(),
            (None, _) => from.clone(),
        };
        match (is_strange, told) {
            (false, (4, 0)) => {
                let ([left, top], [width, height]) = (corner, extent);
                Some([left, top, width, height])
            }
            (false, (0, 4)) => {
                let (width, height) = (side(&first[0], &last[0]), side(&first[1], &last[1]));
                let [left, top] = first;
                Some([left, top, width, height])
            }
            _ => None,
        }
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

            without_parts!(Vec::new());
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

        without_parts!(T::default());
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
            [2, 0, 0, 0, 0, 0]
        );
        assert_eq!(row("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"), ROW);
    }
    #[test]
    fn boxes_of_objects_are_read_by_their_names() {
        let numbers = |text: &str| -> Vec<Option<f64>> {
            let Row(all) = serde_json::from_str(text).unwrap();
            all.iter().map(Scalar::number).collect()
        };
        for text in [
            r#"{"x": 1, "y": 2, "width": 3, "height": 4}"#,
            r#"{"height": "4", "width": 3.0, "y": 2, "x": 1}"#,
            r#"{"left": 1, "top": 2, "w": 3, "h": 4}"#,
            r#"{"ymax": 6, "xmax": 4, "ymin": 2, "xmin": 1}"#,
            r#"{"x1": 1, "x2": 4, "y1": "2", "y2": 6}"#,
        ] {
            assert_eq!(numbers(text), [1.0, 2.0, 3.0, 4.0].map(Some), "{text}");
        }
        for text in [
            "{}",
            r#"{"x": 1, "y": 2, "width": 3}"#,
            r#"{"x": 1, "y": 2, "width": 3, "height": null}"#,
            r#"{"x1": 1, "y1": 2, "width": 3, "height": 4}"#,
            r#"{"x": 1, "y": 2, "x2": 3, "y2": 4}"#,
            r#"{"cx": 1, "cy": 2, "w": 3, "h": 4}"#,
            r#"{"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 30}"#,
            r#"{"a": 1, "b": 2, "c": [3], "d": {"e": 4}}"#,
        ] {
            assert!(numbers(text).is_empty(), "{text}");
        }
        let text = r#"{"x1": 1, "y1": 2, "x2": "a", "y2": [4]}"#;
        assert_eq!(numbers(text), [Some(1.0), Some(2.0), None, None]);
    }
}
