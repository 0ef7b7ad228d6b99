//! `rank_pattern` and `alpha_pattern` of peft's configurations, in the order of the file.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

/// Numbers by the ends of modules' names. peft takes the first end that fits, and one end can be
/// that of another (`output.dense`, `attention.output.dense`): their order counts.
#[derive(Debug, Default)]
pub(super) struct Pattern(Vec<(String, f64)>);

impl Pattern {
    /// The number of a module.
    pub(super) fn of(&self, module: &str) -> Option<f64> {
        let fits = |end: &str| {
            module.strip_suffix(end).is_some_and(|start| start.is_empty() || start.ends_with('.'))
        };
        self.0.iter().find(|(end, _)| fits(end)).map(|(_, number)| *number)
    }

    /// The ends, in their order.
    pub(super) fn ends(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(end, _)| end.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Pattern;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("numbers by the ends of names, or null")
            }

            fn visit_unit<E>(self) -> Result<Pattern, E> {
                Ok(Pattern::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pattern, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Pattern(entries))
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

/// The patterns of a configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Patterns {
    pub(super) rank_pattern: Pattern,
    pub(super) alpha_pattern: Pattern,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_end_that_fits_counts() {
        let alphas = |text: &str| serde_json::from_str::<Patterns>(text).unwrap().alpha_pattern;
        let (proj, fc2) = ("layer.0.attention.output.dense", "layer.0.output.dense");
        for (text, expected) in [
            (r#"{"alpha_pattern": {"output.dense": 8, "attention.output.dense": 16}}"#, [8.0, 8.0]),
            (
                r#"{"alpha_pattern": {"attention.output.dense": 16, "output.dense": 8}}"#,
                [16.0, 8.0],
            ),
        ] {
            assert_eq!([proj, fc2].map(|module| alphas(text).of(module).unwrap()), expected);
        }
        assert_eq!(alphas(r#"{"alpha_pattern": null}"#).of(proj), None);
        assert_eq!(alphas("{}").of(proj), None);
        assert_eq!(
            alphas(r#"{"alpha_pattern": {"put.dense": 1}}"#).of(proj),
            None,
            "part of a name"
        );
        let text = r#"{"alpha_pattern": {"output.dense": "8"}}"#;
        assert!(serde_json::from_str::<Patterns>(text).is_err());
    }
}
