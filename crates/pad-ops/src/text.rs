//! Names that people type: near matches, and one wording for unknown ones; texts from files, safe
//! to print.

use std::fmt::{self, Write};

/// The number of characters that [`shown`] shows of a text.
pub const SHOWN: usize = 200;

/// Returns a text from a file as an error shows it: in one line, without characters that act on a
/// terminal or that nothing shows (control characters, marks of direction and of byte order), which
/// are escaped, and cut after [`SHOWN`] characters.
///
/// ```
/// use pad_ops::text::shown;
/// assert_eq!(shown("norm.bias").to_string(), "norm.bias");
/// assert_eq!(shown("\u{1b}[31mred\n").to_string(), "\\u{1b}[31mred\\n");
/// let long = shown(&"a".repeat(1000)).to_string();
/// assert!(long.ends_with("aa.. (800 more)"));
/// ```
pub fn shown(text: &str) -> Shown<'_> {
    shown_up_to(text, SHOWN)
}

/// Returns a text as [`shown`] does, cut after `limit` characters.
///
/// ```
/// assert_eq!(pad_ops::text::shown_up_to("abcdef", 4).to_string(), "abcd.. (2 more)");
/// ```
pub fn shown_up_to(text: &str, limit: usize) -> Shown<'_> {
    Shown { text, limit }
}

/// A text that is safe to print; see [`shown`].
///
/// ```
/// let name: pad_ops::text::Shown<'_> = pad_ops::text::shown("a\tb");
/// assert_eq!(format!("tensor `{name}`"), "tensor `a\\tb`");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    text: &'a str,
    limit: usize,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letters = self.text.chars();
        for letter in letters.by_ref().take(self.limit) {
            if acts_on_terminals(letter) {
                write!(f, "{}", letter.escape_default())?;
            } else {
                f.write_char(letter)?;
            }
        }
        match letters.count() {
            0 => Ok(()),
            more => write!(f, ".. ({more} more)"),
        }
    }
}

/// Whether a character moves the cursor, turns the direction of writing or is invisible.
fn acts_on_terminals(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{61c}'
                | '\u{feff}'
        )
}

/// Returns the name of `known` that is nearest to `name`, if it is near enough to be a misspelling
/// of it.
///
/// Letters compare without case. Near enough is an edit distance (insertions, deletions,
/// substitutions and swaps of neighbours) of at most a third of the longer name's length, and of at
/// least 1. Among equally near names the first wins.
///
/// ```
/// use pad_ops::text::near_name;
/// let classes = ["person", "bicycle", "car"];
/// assert_eq!(near_name("persn", classes), Some("person"));
/// assert_eq!(near_name("Car", classes), Some("car"));
/// assert_eq!(near_name("tree", classes), None);
/// ```
pub fn near_name<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer ones are no misspellings, and the comparison takes the product of both lengths.
    let name = if name.len() > 4 * SHOWN { Vec::new() } else { letters(name) };
    let mut nearest: Option<(usize, &str)> = None;
    for candidate in known {
        let other = letters(candidate);
        let limit = (name.len().max(other.len()) / 3).max(1);
        if name.is_empty() || other.is_empty() || name.len().abs_diff(other.len()) > limit {
            continue;
        }
        let distance = edit_distance(&name, &other);
        if distance <= limit && nearest.is_none_or(|(best, _)| distance < best) {
            nearest = Some((distance, candidate));
        }
    }
    nearest.map(|(_, candidate)| candidate)
}

/// Returns the error text for a name that is not one of `known`, with the nearest of them if one is
/// near.
///
/// ```
/// use pad_ops::text::unknown_name;
/// assert_eq!(
///     unknown_name("fusion", "conkat", ["concat", "sum", "side"]),
///     "fusion: expected concat, sum or side, found `conkat` (did you mean `concat`?)"
/// );
/// ```
pub fn unknown_name<'a>(
    what: &str,
    found: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let listed = match known.split_last() {
        None => "no name".to_string(),
        Some((only, [])) => (*only).to_string(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    };
    let near = near_name(found, known).map(|name| format!(" (did you mean `{name}`?)"));
    let found = shown(found);
    format!("{what}: expected {listed}, found `{found}`{}", near.unwrap_or_default())
}

fn letters(name: &str) -> Vec<char> {
    name.chars().flat_map(char::to_lowercase).collect()
}

/// Edit distance with swaps of neighbours (optimal string alignment).
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, &y) in b.iter().enumerate() {
            let substituted = last[j] + usize::from(x != y);
            row[j + 1] = substituted.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let distance = |a: &str, b: &str| edit_distance(&letters(a), &letters(b));
        for (a, b, expected) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("ABC", "abc", 0),
            ("kitten", "sitting", 3),
            ("bf61", "bf16", 1),
            ("acb", "abc", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn near_names_are_near_and_the_first_wins() {
        assert_eq!(near_name("bf61", ["f32", "bf16"]), Some("bf16"));
        assert_eq!(near_name("fp16", ["f32", "bf16"]), None);
        assert_eq!(near_name("ab", ["ac", "ad"]), Some("ac"));
        assert_eq!(near_name("patchwize", ["fixed", "patchwise"]), Some("patchwise"));
        assert_eq!(near_name("", ["a"]), None);
        assert_eq!(near_name("a", []), None);
    }

    #[test]
    fn texts_are_escaped_and_cut() {
        let text = |text: &str| shown(text).to_string();
        assert_eq!(text("Wärme 温度 `x`"), "Wärme 温度 `x`");
        assert_eq!(text("a\tb\r\n\u{7f}\u{9b}"), "a\\tb\\r\\n\\u{7f}\\u{9b}");
        assert_eq!(text("\u{feff}0 \u{202e}gnp"), "\\u{feff}0 \\u{202e}gnp");
        assert_eq!(shown_up_to("abcdef", 6).to_string(), "abcdef");
        assert_eq!(shown_up_to("abcdef", 4).to_string(), "abcd.. (2 more)");
        let unknown = unknown_name("kind", &"x".repeat(1 << 20), ["car"]);
        assert!(unknown.len() < 300, "{}", unknown.len());
    }

    #[test]
    fn unknown_names_list_what_is_known() {
        assert_eq!(unknown_name("kind", "x", []), "kind: expected no name, found `x`");
        assert_eq!(unknown_name("kind", "tree", ["car"]), "kind: expected car, found `tree`");
    }
}
