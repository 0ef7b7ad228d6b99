//! Names of parts of a set.

use std::path::{Path, PathBuf};

/// Names of one part in the tools that write sets.
const ALIASES: [&[&str]; 3] =
    [&["train", "training"], &["val", "valid", "validation"], &["test", "testing"]];

/// The names that a part may have, the given one first.
pub(super) fn names_of(split: &str) -> Vec<String> {
    let others = ALIASES.iter().find(|names| names.contains(&split));
    let others = others.into_iter().flat_map(|names| names.iter().copied());
    let others = others.filter(|name| *name != split).map(String::from);
    std::iter::once(split.to_string()).chain(others).collect()
}

/// Whether a folder of this name holds a part of a set: a known name, with or without a year.
pub(super) fn is_part(folder: &str) -> bool {
    let name = folder.to_lowercase();
    let name = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    ALIASES.iter().any(|names| names.contains(&name))
}

/// The file or folder of a part: what `places` gives for the first of its names for which one of
/// them exists.
pub(super) fn place_of(
    split: &str,
    places: impl Fn(&str) -> Vec<PathBuf>,
    exists: impl Fn(&Path) -> bool,
) -> Option<(String, PathBuf)> {
    names_of(split).into_iter().find_map(|name| {
        let place = places(&name).into_iter().find(|place| exists(place))?;
        Some((name, place))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_given_name_comes_first() {
        assert_eq!(names_of("valid"), ["valid", "val", "validation"]);
        assert_eq!(names_of("fold_3"), ["fold_3"]);
        assert!(is_part("Train") && is_part("val2017") && !is_part("site a"));
        let places = |name: &str| vec![PathBuf::from(format!("a/{name}")), name.into()];
        let found = place_of("val", places, |place| place == Path::new("valid"));
        assert_eq!(found, Some(("valid".into(), "valid".into())));
    }
}
