//! The list of candle's functions without a backward is complete: in clippy.toml, and in the guide
//! that tells others what to put into theirs.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pad_testkit::repository;

/// The sources of candle-nn that this workspace builds with.
fn candle_nn() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--offline", "--locked"];
    let output = Command::new(cargo).args(arguments).current_dir(repository()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut packages = metadata["packages"].as_array().unwrap().iter();
    let found = packages.find(|package| package["name"] == "candle-nn").expect("candle-nn");
    Path::new(found["manifest_path"].as_str().unwrap()).parent().unwrap().join("src")
}

/// Public functions of candle-nn whose body applies an operation without a backward.
fn without_backward(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(without_backward(&path));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let module = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut function = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("pub fn ") {
                function = rest.split(['(', '<']).next().unwrap().to_string();
            }
            if line.contains("_no_bwd(") {
                found.insert(format!("candle_nn::{module}::{function}"));
            }
        }
    }
    found
}

/// The paths of a list `disallowed-methods`.
fn forbidden(text: &str) -> BTreeSet<String> {
    let list = text.split("disallowed-methods = [").nth(1).expect("a list");
    let list = list.split("\n]").next().unwrap();
    let paths = list.split('"').filter(|part| part.starts_with("candle_"));
    paths.map(|path| path.split_whitespace().next().unwrap().to_string()).collect()
}

#[test]
fn every_function_without_a_backward_is_forbidden() {
    let functions = without_backward(&candle_nn());
    assert!(
        functions.contains("candle_nn::ops::layer_norm") && functions.len() >= 7,
        "{functions:?}"
    );
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    let ours = forbidden(&read("clippy.toml"));
    let missing: Vec<_> = functions.difference(&ours).collect();
    assert!(missing.is_empty(), "clippy.toml lacks {missing:?}");
    let guide = forbidden(&read("docs/guides/adapter.md"));
    let missing: Vec<_> = functions.difference(&guide).collect();
    assert!(missing.is_empty(), "docs/guides/adapter.md lacks {missing:?}");
    // What the guide lists, the house keeps too, so that each entry is used once on purpose.
    let unknown: Vec<_> = guide.difference(&ours).collect();
    assert!(unknown.is_empty(), "clippy.toml lacks {unknown:?} of the guide");
}
