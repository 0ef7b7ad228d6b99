//! The share of public functions and types whose documentation has an example that asserts
//! something. A method that is called by name in an example on the page of its type counts as
//! having one; a type counts only by an example of its own. The share must not fall below what `examples.txt` holds for a crate;
//! `UPDATE_EXAMPLES=1 cargo test -p pad-testkit --test examples` writes the shares anew.

use std::{collections::BTreeMap, fs, path::PathBuf};

use pad_testkit::{examples_on_items, library_crates, repository};

fn stored_in() -> PathBuf {
    repository().join("crates/pad-testkit/tests/examples.txt")
}

/// Lines of `CRATE ITEMS-WITH-EXAMPLE of ITEMS`.
fn stored() -> BTreeMap<String, (usize, usize)> {
    let text = fs::read_to_string(stored_in()).unwrap_or_default();
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, with, "of", all] = words[..] else { panic!("examples.txt: `{line}`") };
        (name.to_string(), (with.parse().unwrap(), all.parse().unwrap()))
    };
    text.lines().map(line).collect()
}

#[test]
fn the_share_of_items_with_examples_does_not_fall() {
    let stored = stored();
    let (mut lines, mut fallen) = (String::new(), String::new());
    for found in library_crates() {
        let items = examples_on_items(&found.library, &found.root);
        let (with, all) = (items.values().filter(|&&has| has).count(), items.len());
        lines += &format!("{} {with} of {all}\n", found.folder);
        // Crates that are new to the list have no share to keep.
        let (kept, of) = stored.get(&found.folder).copied().unwrap_or((0, 1));
        if with * of < kept * all {
            let without = items.iter().filter(|(_, has)| !**has).map(|(path, _)| path.as_str());
            let without: Vec<&str> = without.take(12).collect();
            fallen += &format!(
                "{}: {with} of {all} items have an example, {kept} of {of} had one; without: {}, ..\n",
                found.folder,
                without.join(", ")
            );
        }
    }
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        fs::write(stored_in(), lines).unwrap();
        return;
    }
    assert!(fallen.is_empty(), "public items without an example:\n{fallen}");
}

#[test]
fn what_counts_as_an_example() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("lib.rs");
    let source = "
/// Adds.
///
/// ```
/// assert_eq!(it::add(1, 2), 3);
/// ```
pub fn add(a: u8, b: u8) -> u8 { a + b }
/// ```text
/// assert
/// ```
pub fn shown() {}
/// ```
/// it::shown();
/// ```
pub struct Silent;
/// ```
/// assert_eq!(it::Paged::new(1).add(2), 3);
/// ```
pub struct Paged;
impl Paged {
    /// Nothing.
    pub fn new(n: u8) -> Self { Self }
    /// Nothing, twice.
    pub fn add(&self, n: u8) -> u8 { n }
    /// Its name stands inside a longer one.
    pub fn ad(&self) {}
    fn private(&self) {}
}
impl Silent {
    /// ```no_run
    /// assert!(false);
    /// ```
    pub fn method(&self) {}
    /// Nothing.
    pub fn other(&self) {}
    fn private(&self) {}
}
/// Not counted.
pub const N: u8 = 0;
pub trait Does { fn it(&self); }
";
    fs::write(&root, source).unwrap();
    let found = examples_on_items("it", &root);
    let expected = [
        ("it::Does", false),
        ("it::Paged", true),
        ("it::Paged::ad", false),
        ("it::Paged::add", true),
        ("it::Paged::new", true),
        ("it::Silent", false),
        ("it::Silent::method", true),
        ("it::Silent::other", false),
        ("it::add", true),
        ("it::shown", false),
    ];
    assert_eq!(found.iter().map(|(path, &has)| (path.as_str(), has)).collect::<Vec<_>>(), expected);
}
