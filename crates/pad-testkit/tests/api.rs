//! docs/api lists the public items of every published crate;
//! `UPDATE_API=1 cargo test -p pad-testkit --test api` writes the lists anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use pad_testkit::{library_crates, public_api, public_types, repository};

/// Names that several definitions share on purpose: every crate has an error and a result of its
/// own, and `pad_ops::nn` has the names of `candle_nn`.
const SHARED: [&str; 4] = ["Error", "Result", "LayerNorm", "Linear"];

#[test]
fn lists_of_public_items_are_true() {
    let mut wrong = String::new();
    for found in library_crates() {
        let (folder, lines) = (&found.folder, public_api(&found.library, &found.root));
        let file = repository().join("docs/api").join(format!("{folder}.txt"));
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

/// Names from two modules of the facade can be imported together.
#[test]
fn no_two_public_types_share_a_name() {
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    for found in library_crates() {
        for (name, definitions) in public_types(&found.library, &found.root) {
            all.entry(name).or_default().extend(definitions);
        }
    }
    assert!(all.len() > 100, "{} names", all.len());
    let shared = all
        .iter()
        .filter(|(name, definitions)| definitions.len() > 1 && !SHARED.contains(&name.as_str()));
    let shared: Vec<_> = shared.map(|(name, found)| format!("{name}: {found:?}")).collect();
    assert!(shared.is_empty(), "public types of one name:\n{}", shared.join("\n"));
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
    let types = public_types("it", &folder.path().join("lib.rs"));
    let names: Vec<_> = types.iter().map(|(name, found)| (name.as_str(), found.len())).collect();
    assert_eq!(names, [("Does", 1), ("Open", 1), ("Sort", 1)]);
    assert!(types["Sort"].contains("it::hidden::Kind"));
}
