//! No two files of a crate import each other: what both need is a third.

use std::fs;

use pad_testkit::{import_circles, library_crates};

#[test]
fn no_two_files_import_each_other() {
    let mut found = String::new();
    for library in library_crates() {
        let source = library.root.parent().unwrap();
        for circle in import_circles(&library.root) {
            let files = circle.iter().map(|file| file.strip_prefix(source).unwrap().display());
            let files: Vec<String> = files.map(|file| file.to_string()).collect();
            found += &format!("{}: {}\n", library.folder, files.join(", "));
        }
    }
    assert!(found.is_empty(), "files that import each other:\n{found}");
}

#[test]
fn circles_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("lib.rs", "mod a; mod b; mod c; mod d; pub use a::A;");
    write("a.rs", "use super::b; pub struct A; pub fn f() -> b::B { b::B }");
    write("b.rs", "use crate::c::C; pub struct B; pub type D = C;");
    write("c.rs", "use crate::A; pub struct C; pub fn g() -> A { A }");
    write("d.rs", "use crate::{A, b::B}; mod inner { use super::A; } fn h(_: A, _: B) {}");
    let circles = import_circles(&folder.path().join("lib.rs"));
    let names = |circle: &Vec<std::path::PathBuf>| -> Vec<String> {
        circle.iter().map(|file| file.file_name().unwrap().to_str().unwrap().into()).collect()
    };
    assert_eq!(circles.iter().map(names).collect::<Vec<_>>(), [["a.rs", "b.rs", "c.rs"]]);
}
