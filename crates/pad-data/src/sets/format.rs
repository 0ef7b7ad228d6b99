//! Tables of the formats of labelled images: one file and one line for each.

use std::path::Path;

use crate::{Error, Result};

/// A way to arrange labelled images in a folder; `O` are the options of reading it, `S` what is
/// read.
pub(super) struct Format<O, S> {
    /// The name that it is chosen by.
    pub(super) name: &'static str,
    /// What it is recognised by, for messages; `SPLIT` stands for the split. `None` if it is never
    /// recognised.
    pub(super) looks_for: Option<&'static str>,
    /// Whether a folder looks like it.
    pub(super) matches: fn(root: &Path, split: &str) -> bool,
    /// Reads a split of a folder.
    pub(super) open: fn(root: &Path, split: &str, options: &O) -> Result<S>,
}

/// Name of the choice by content.
pub(super) const AUTO: &str = "auto";

/// The entry of `formats` with a given name, or the first that a folder looks like.
pub(super) fn chosen<'a, O, S>(
    formats: &'a [Format<O, S>],
    name: Option<&str>,
    root: &Path,
    split: &str,
) -> Result<&'a Format<O, S>> {
    let found = match name {
        Some(name) => formats.iter().find(|format| format.name == name),
        None => formats.iter().find(|format| (format.matches)(root, split)),
    };
    found.ok_or_else(|| {
        let looked_for = formats.iter().filter_map(|format| {
            let looks_for = format.looks_for?.replace("SPLIT", split);
            Some(format!("{looks_for} ({})", format.name))
        });
        let looked_for = looked_for.collect::<Vec<_>>().join(", ");
        Error::Entry {
            path: root.into(),
            what: format!("expected labelled images, found none of {looked_for}"),
        }
    })
}

/// Makes a type around `Option<&'static str>` the name of an entry of a table: by default chosen by
/// content, from and to text.
macro_rules! named_format {
    ($type:ident, $table:expr) => {
        impl $type {
            /// Chosen by the content of the folder.
            pub const AUTO: Self = Self(None);

            /// Names of all formats, [`AUTO`](Self::AUTO) first.
            pub fn names() -> impl Iterator<Item = &'static str> {
                std::iter::once($crate::sets::format::AUTO)
                    .chain($table.iter().map(|format| format.name))
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.0.unwrap_or($crate::sets::format::AUTO))
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::Error;

            fn from_str(text: &str) -> $crate::Result<Self> {
                if text == $crate::sets::format::AUTO {
                    return Ok(Self::AUTO);
                }
                let known = $table.iter().find(|format| format.name == text);
                known
                    .map(|format| Self(Some(format.name)))
                    .ok_or_else(|| $crate::Error::unknown_name("format", text, Self::names()))
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(super) use named_format;
