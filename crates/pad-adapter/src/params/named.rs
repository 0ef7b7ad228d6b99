//! Names of adapters: several adapters can stand at one place, `layer.3.adaptmlp.*` without a name
//! and `layer.3.adapters.night.adaptmlp.*` with one. All that is known of this spelling stands in
//! this file.

use pad_ops::text::near_name;

use crate::{Error, Result};

/// The name of adapters that were built without one.
pub const DEFAULT_ADAPTER: &str = "default";

/// The segment in front of an adapter's name.
const MARK: &str = "adapters";

/// The segments that begin an adapter's own tensors; the last four are those of low-rank adapters.
pub(super) const PARTS: [&str; 6] =
    ["adaptmlp", "scalar_pred", "lora_A", "lora_B", "lora_magnitude", "lora_bias"];

/// An adapter's tensor, taken apart.
struct Parts<'a> {
    /// The place of the adapter: `layer.3`, or empty.
    place: &'a str,
    /// Its name.
    adapter: &'a str,
    /// Its own part: `adaptmlp.up_proj.weight`.
    own: &'a str,
}

/// Takes the name of a tensor apart; `None` for one that is not an adapter's.
fn parts(tensor: &str) -> Option<Parts<'_>> {
    let mut start = 0;
    let mut before: [Option<(usize, &str)>; 2] = [None, None];
    for segment in tensor.split('.') {
        if PARTS.contains(&segment) {
            let own = &tensor[start..];
            return Some(match before {
                [Some((mark, MARK)), Some((_, adapter))] if fault(adapter).is_none() => {
                    Parts { place: tensor[..mark].trim_end_matches('.'), adapter, own }
                }
                _ => Parts {
                    place: tensor[..start].trim_end_matches('.'),
                    adapter: DEFAULT_ADAPTER,
                    own,
                },
            });
        }
        before = [before[1], Some((start, segment))];
        start += segment.len() + 1;
    }
    None
}

/// What is wrong with a name, if it cannot be an adapter's.
fn fault(adapter: &str) -> Option<String> {
    let letters = adapter.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let starts = adapter.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    let reserved = PARTS.contains(&adapter) || adapter == MARK;
    (!letters || !starts || reserved).then(|| {
        format!(
            "the name of an adapter is `{adapter}`, expected a letter and then letters, digits, `-` \
             or `_`"
        )
    })
}

/// Checks that `adapter` can be the name of an adapter: a letter, then letters, digits, `-` or `_`.
///
/// # Errors
/// [`Error::Config`].
pub(crate) fn check_name(adapter: &str) -> Result<()> {
    match fault(adapter) {
        None => Ok(()),
        Some(fault) => Err(Error::Config { what: "adapter", faults: vec![fault] }),
    }
}

/// Returns the name of the adapter that a tensor belongs to, from the tensor's full name:
/// [`DEFAULT_ADAPTER`] for one that was built without a name, `None` for a tensor that is no
/// adapter's.
///
/// ```
/// use pad_adapter::params::adapter_name;
/// assert_eq!(adapter_name("layer.3.adapters.night.adaptmlp.up_proj.bias"), Some("night"));
/// assert_eq!(adapter_name("layer.3.adaptmlp.up_proj.bias"), Some("default"));
/// assert_eq!(adapter_name("layer.3.fc1.weight"), None);
/// ```
pub fn adapter_name(tensor: &str) -> Option<&str> {
    parts(tensor).map(|parts| parts.adapter)
}

/// The place of the adapter that a tensor belongs to (`layer.3`, empty at the top), and the
/// tensor's own part (`adaptmlp.up_proj.weight`).
pub(crate) fn place_and_part(tensor: &str) -> Option<(&str, &str)> {
    parts(tensor).map(|parts| (parts.place, parts.own))
}

/// The segments of an adapter's name behind its place; none for [`DEFAULT_ADAPTER`].
pub(crate) fn segments(adapter: &str) -> Option<[&str; 2]> {
    (adapter != DEFAULT_ADAPTER).then_some([MARK, adapter])
}

/// The name of an adapter's tensor under another name of the adapter; `None` for a tensor that is
/// no adapter's.
pub(crate) fn renamed(tensor: &str, adapter: &str) -> Option<String> {
    let Parts { place, own, .. } = parts(tensor)?;
    let mut all: Vec<&str> = Vec::new();
    all.extend((!place.is_empty()).then_some(place));
    all.extend(segments(adapter).into_iter().flatten());
    all.push(own);
    Some(all.join("."))
}

/// The error for an adapter that is not there.
pub(crate) fn unknown<'a>(adapter: &str, known: impl Iterator<Item = &'a str> + Clone) -> Error {
    let near = near_name(adapter, known.clone()).filter(|near| *near != adapter);
    let near = near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
    let known: Vec<&str> = known.collect();
    let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
    Error::UnknownName(format!("adapter: expected one of {known}, found `{adapter}`{near}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (plain, named, place) in [
            (
                "layer.3.adaptmlp.up_proj.bias",
                "layer.3.adapters.night.adaptmlp.up_proj.bias",
                "layer.3",
            ),
            ("adaptmlp.scale", "adapters.night.adaptmlp.scale", ""),
            ("a.scalar_pred.weight", "a.adapters.night.scalar_pred.weight", "a"),
        ] {
            assert_eq!(renamed(plain, "night").as_deref(), Some(named));
            assert_eq!(renamed(named, DEFAULT_ADAPTER).as_deref(), Some(plain));
            assert_eq!(renamed(named, "night").as_deref(), Some(named));
            assert_eq!(adapter_name(named), Some("night"));
            assert_eq!(adapter_name(plain), Some(DEFAULT_ADAPTER));
            for name in [plain, named] {
                assert_eq!(place_and_part(name).map(|(place, _)| place), Some(place), "{name}");
            }
        }
        assert_eq!(renamed("layer.3.fc1.weight", "night"), None);
        // A list of modules that is called `adapters` has numbers, not names.
        assert_eq!(adapter_name("adapters.3.adaptmlp.scale"), Some(DEFAULT_ADAPTER));
        assert_eq!(
            renamed("adapters.3.adaptmlp.scale", "day").as_deref(),
            Some("adapters.3.adapters.day.adaptmlp.scale")
        );
    }

    #[test]
    fn names_that_cannot_be() {
        for name in ["", "3", "a.b", "adaptmlp", "adapters", "día", "a b"] {
            let text = check_name(name).unwrap_err().to_string();
            assert!(text.contains(&format!("is `{name}`, expected a letter")), "{text}");
        }
        check_name("night-2_b").unwrap();
        let known = ["day", "night"];
        assert_eq!(
            unknown("nigth", known.into_iter()).to_string(),
            "adapter: expected one of day, night, found `nigth` (did you mean `night`?)"
        );
    }
}
