//! docs/api lists the public items of every published crate; `UPDATE_API=1 cargo test -p pad-testkit --test api` writes
//! the lists anew.

use std::{fs, path::Path};

use pad_testkit::public_api;

/// Folder and name of each.
const CRATES: [(&str, &str); 7] = [
    ("pad-ops", "pad_ops"),
    ("pad-adapter", "pad_adapter"),
    ("pad-train", "pad_train"),
    ("pad-data", "pad_data"),
    ("pad-ssl", "pad_ssl"),
    ("pad-heads", "pad_heads"),
    ("pad", "pad"),
];

#[test]
fn lists_of_public_items_are_true() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut wrong = String::new();
    for (folder, name) in CRATES {
        let lines = public_api(name, &repository.join("crates").join(folder).join("src/lib.rs"));
        let file = repository.join("docs/api").join(format!("{folder}.txt"));
        if std::env::var_os("UPDATE_API").is_some() {
            fs::write(&file, lines.join("\n") + "\n").unwrap();
            continue;
        }
        let listed = fs::read_to_string(&file).unwrap_or_default();
        let listed: Vec<_> = listed.lines().collect();
        let new = lines.iter().filter(|line| !listed.contains(&line.as_str()));
        let gone = listed.iter().filter(|line| !lines.iter().any(|new| new == *line));
        new.for_each(|line| wrong += &format!("{folder}: + {line}\n"));
        gone.for_each(|line| wrong += &format!("{folder}: - {line}\n"));
    }
    assert!(
        wrong.is_empty(),
        "public items changed (docs/semver.md says what that means); UPDATE_API=1 writes the lists anew:\n{wrong}"
    );
}

#[test]
fn what_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "lib.rs",
        "mod hidden; pub mod shown; pub use hidden::{Kind as Sort, run}; pub use other::Thing; #[cfg(test)] pub mod tests {}",
    );
    write(
        "hidden.rs",
        "pub fn run(mut x: Vec<&str>) -> (u8, u8) { (0, 0) } pub(crate) fn inner() {}
         #[derive(Clone, Debug)] pub enum Kind<T> { One, Two { at: Option<T> }, Three(u8) }
         impl<T> Kind<T> { pub fn new(&self) -> Self { todo!() } fn private() {} }
         impl<T> Default for Kind<T> { fn default() -> Self { Self::One } }
         pub struct Unseen;",
    );
    write(
        "shown.rs",
        "pub struct Open { pub field: [u8; 3], closed: u8 } pub trait Does: Send { type Out; fn it(&self) -> Self::Out { } }
         #[cfg(feature = \"hub\")] pub const N: usize = 1;",
    );
    let lines = public_api("it", &folder.path().join("lib.rs"));
    let expected = [
        "impl Clone for it::Sort",
        "impl Debug for it::Sort",
        "impl<T> Default for it::Sort",
        "pub enum it::Sort<T>",
        "it::Sort::One",
        "it::Sort::Three",
        "it::Sort::Three::0: u8",
        "it::Sort::Two",
        "it::Sort::Two::at: Option<T>",
        "pub fn it::Sort::new(&self) -> Self",
        "pub use other::Thing as it::Thing",
        "pub fn it::run(x: Vec<&str>) -> (u8, u8)",
        "pub mod it::shown",
        "pub trait it::shown::Does: Send",
        "type it::shown::Does::Out: ",
        "fn it::shown::Does::it(&self) -> Self::Out (provided)",
        "#[cfg(feature = \"hub\")] pub const it::shown::N: usize",
        "pub struct it::shown::Open",
        "it::shown::Open::field: [u8; 3]",
    ];
    assert_eq!(lines, expected);
}
