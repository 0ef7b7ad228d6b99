//! Rules of the house that a tool can hold: words of documentation, size of examples.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pad_testkit::repository;

/// Words of a dialect that documentation and error texts must not fall into, and what stands for
/// them.
const WORDS: [(&str, &str); 15] = [
    ("asks that", "checks that"),
    ("asks for", "requests, requires"),
    ("asks whether", "returns whether"),
    ("is none;", "is missing, is invalid, is `None`"),
    ("is none.", "is missing, is invalid, is `None`"),
    ("is none,", "is missing, is invalid, is `None`"),
    ("are none", "are missing"),
    ("an error that is none", "not an error"),
    ("nobody", "name the caller"),
    ("somebody", "name the caller"),
    ("whoever", "name the caller"),
    ("so many", "the number of"),
    ("how manieth", "stride"),
    ("told of", "reported"),
    ("passed over", "skipped"),
];

/// Crates whose documentation has not been rewritten yet.
const UNSWEPT: [&str; 0] = [];

/// Lines of an example below which it teaches rather than applies.
const EXAMPLE_LINES: usize = 150;

/// Examples that are still applications.
const OLD_EXAMPLES: [&str; 0] = [];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Whether a line is documentation or the text of an error.
fn is_prose(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("///") || line.starts_with("//!") || line.starts_with("#[error(")
}

/// Whether `phrase` stands in `line` as whole words.
fn holds(line: &str, phrase: &str) -> bool {
    let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    line.match_indices(phrase).any(|(at, _)| {
        let (before, after) =
            (line[..at].chars().next_back(), line[at + phrase.len()..].chars().next());
        !letter(before) && (!letter(after) || !letter(phrase.chars().next_back()))
    })
}

#[test]
fn documentation_is_plain_english() {
    let repository = repository();
    let mut found = String::new();
    for crate_folder in fs::read_dir(repository.join("crates")).unwrap() {
        let crate_folder = crate_folder.unwrap().path();
        let name = crate_folder.file_name().unwrap().to_string_lossy().into_owned();
        if UNSWEPT.contains(&name.as_str()) {
            continue;
        }
        for file in rust_files(&crate_folder.join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            for (number, line) in text.lines().enumerate().filter(|(_, line)| is_prose(line)) {
                let lower = line.to_lowercase();
                for (phrase, instead) in WORDS.iter().filter(|(phrase, _)| holds(&lower, phrase)) {
                    let file = file.strip_prefix(&crate_folder).unwrap().display();
                    let place = format!("{name}/{file}:{}", number + 1);
                    found += &format!("{place}: `{phrase}` (write: {instead}): {}\n", line.trim());
                }
            }
        }
    }
    assert!(found.is_empty(), "words that readers stumble over:\n{found}");
}

#[test]
fn phrases_are_whole_words() {
    assert!(holds("/// nobody reads it", "nobody") && holds("it is none.", "is none."));
    assert!(!holds("/// this nonetheless", "is none") && !holds("untold offers", "told of"));
}

/// An example is one short file: no modules of its own, none shared with others.
#[test]
fn examples_are_short() {
    let folder = repository().join("examples");
    let mut faults = Vec::new();
    for file in rust_files(&folder) {
        let name = file.strip_prefix(&folder).unwrap().display().to_string();
        if OLD_EXAMPLES.contains(&name.as_str()) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        if lines >= EXAMPLE_LINES {
            faults.push(format!("{name}: {lines} lines, expected fewer than {EXAMPLE_LINES}"));
        }
        let modules = text.lines().filter(|line| {
            let line = line.trim_start().trim_start_matches("pub ");
            line.starts_with("#[path")
                || (line.starts_with("mod ") && line.trim_end().ends_with(';'))
        });
        faults.extend(modules.map(|line| format!("{name}: `{}`, expected one file", line.trim())));
        if file.parent() != Some(&*folder) {
            faults.push(format!("{name}: expected directly in `examples`"));
        }
    }
    assert!(faults.is_empty(), "examples:\n{}", faults.join("\n"));
}
