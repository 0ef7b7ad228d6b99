//! Settings from three places: defaults, overlaid by a TOML file, overlaid by flags.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};

use super::Result;

/// Defaults, overlaid by the file `recipe` or else by `demo` (its name in errors, its text), overlaid by `flags`.
pub fn merge<S: DeserializeOwned>(
    recipe: Option<&Path>,
    demo: Option<(&str, &str)>,
    flags: &impl Serialize,
) -> Result<S> {
    match recipe {
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
            overlay(&name, &text, flags)
        }
        None => {
            let (name, text) = demo.unwrap_or(("settings", ""));
            overlay(name, text, flags)
        }
    }
}

/// Defaults, overlaid by `text`, overlaid by `flags`; `source` names the text in errors.
pub fn overlay<S: DeserializeOwned>(source: &str, text: &str, flags: &impl Serialize) -> Result<S> {
    let refuse = |error: toml::de::Error| format!("{source}: {}", error.message());
    let mut table: toml::Table = text.parse().map_err(refuse)?;
    table.extend(toml::Table::try_from(flags)?);
    Ok(table.try_into().map_err(refuse)?)
}
