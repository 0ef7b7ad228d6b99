//! The published crates and everything below them: licences (deny.toml, docs/licences.md), the
//! minimum Rust version, what crates.io asks of a manifest.
//! `UPDATE_LICENCES=1 cargo test -p pad-testkit --test tree` writes docs/licences.md anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use pad_testkit::{library_crates, repository};
use serde_json::Value;

/// What cargo says of the tree on Linux, default features.
fn metadata() -> Value {
    let arguments = [
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform=x86_64-unknown-linux-gnu",
    ];
    let out = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("cargo writes JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is_published(package: &Value) -> bool {
    package["source"].is_null() && package["publish"].is_null()
}

/// What a dependent of the published crates builds: no dev-dependencies.
fn below_published(metadata: &Value) -> Vec<&Value> {
    let packages: BTreeMap<_, _> =
        list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), package)).collect();
    let nodes: BTreeMap<_, _> =
        list(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), node)).collect();
    let published = packages.iter().filter(|(_, package)| is_published(package));
    let mut open: Vec<_> = published.map(|(id, _)| *id).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            let needed = list(&nodes[id]["deps"]).iter().filter(|dependency| {
                list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev")
            });
            open.extend(needed.map(|dependency| text(&dependency["pkg"])));
        }
    }
    seen.into_iter().map(|id| packages[id]).collect()
}

/// Whether an SPDX expression can be met with `allowed` licences alone.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // Old manifests write a slash for OR.
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<_> = expression.split_whitespace().collect();
    let mut place = 0;
    any(&words, &mut place, allowed) && place == words.len()
}

fn any(words: &[&str], place: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = all(words, place, allowed);
    while words.get(*place) == Some(&"OR") {
        *place += 1;
        met |= all(words, place, allowed);
    }
    met
}

fn all(words: &[&str], place: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, place, allowed);
    while words.get(*place) == Some(&"AND") {
        *place += 1;
        met &= one(words, place, allowed);
    }
    met
}

fn one(words: &[&str], place: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(word) = words.get(*place) else { return false };
    *place += 1;
    if *word == "(" {
        let met = any(words, place, allowed);
        let closed = words.get(*place) == Some(&")");
        *place += 1;
        return met && closed;
    }
    let mut name = (*word).to_owned();
    if words.get(*place) == Some(&"WITH") {
        name += &format!(" WITH {}", words.get(*place + 1).unwrap_or(&""));
        *place += 2;
    }
    allowed.contains(&name)
}

fn allowed() -> BTreeSet<String> {
    let file = fs::read_to_string(repository().join("deny.toml")).unwrap();
    let table: toml::Table = file.parse().unwrap();
    let names = table["licenses"]["allow"].as_array().unwrap();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn expressions() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()]);
    for good in [
        "MIT",
        "MIT/GPL-3.0",
        "GPL-3.0 OR (MIT AND Apache-2.0 WITH LLVM-exception)",
        "(GPL-3.0 OR MIT) AND MIT",
    ] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "Apache-2.0",
        "(MIT",
        "MIT MIT",
        "MIT AND (GPL-3.0 OR X)",
    ] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}

#[test]
fn licences_are_allowed_and_listed() {
    let metadata = metadata();
    let allowed = allowed();
    let mut by_licence = BTreeMap::<String, BTreeSet<&str>>::new();
    for package in below_published(&metadata) {
        if package["source"].is_null() {
            continue;
        }
        let (name, licence) = (text(&package["name"]), text(&package["license"]));
        assert!(
            is_allowed(licence, &allowed),
            "{name}: `{licence}` cannot be met by what deny.toml allows"
        );
        let words = licence.replace('/', " OR ").split_whitespace().collect::<Vec<_>>().join(" ");
        by_licence.entry(words).or_default().insert(name);
    }
    let crates: BTreeSet<_> = by_licence.values().flatten().collect();
    let mut page = format!(
        "# Licences of what is below\n\n\
         The crates of this repository are MIT or Apache-2.0, at your choice. Below them, with default features on\n\
         Linux, are {} crates of other people. `cargo test -p pad-testkit --test tree` fails if this table is not\n\
         true or if one of them cannot be used under a licence that `deny.toml` allows; `cargo deny check licenses`\n\
         says the same of feature `hub`, which brings one crate more of another kind (option-ext, MPL-2.0).\n\n\
         Features `cuda`, `cudnn`, `nccl`, `mkl`, `mpi` and `accelerate` link libraries that are installed beside\n\
         Rust, under their makers' terms; nothing of them is shipped here.\n\n\
         | licence | crates |\n|---|---|\n",
        crates.len()
    );
    for (licence, names) in &by_licence {
        page +=
            &format!("| {licence} | {} |\n", names.iter().copied().collect::<Vec<_>>().join(", "));
    }
    let file = repository().join("docs/licences.md");
    if std::env::var_os("UPDATE_LICENCES").is_some() {
        fs::write(&file, page).unwrap();
        return;
    }
    let listed = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(listed, page, "docs/licences.md is old; UPDATE_LICENCES=1 writes it anew");
}

/// `1.89` or `1.89.0` as numbers.
fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().unwrap()).chain([0, 0]).take(3).collect()
}

#[test]
fn minimum_rust_version_is_not_below_anything_needed() {
    let metadata = metadata();
    for package in below_published(&metadata) {
        if let Some(needed) = package["rust_version"].as_str() {
            let (name, ours) = (text(&package["name"]), env!("CARGO_PKG_RUST_VERSION"));
            assert!(version(needed) <= version(ours), "{name} needs Rust {needed}, we say {ours}");
        }
    }
}

#[test]
fn manifests_hold_what_the_registry_asks_for() {
    let metadata = metadata();
    let published: Vec<_> =
        list(&metadata["packages"]).iter().filter(|p| is_published(p)).collect();
    assert!(published.len() >= library_crates().len(), "{} published crates", published.len());
    for package in published {
        let name = text(&package["name"]);
        let folder = Path::new(text(&package["manifest_path"])).parent().unwrap();
        for field in ["description", "license", "repository", "rust_version"] {
            assert!(!text(&package[field]).is_empty(), "{name}: no {field}");
        }
        assert_eq!(text(&package["readme"]), "README.md", "{name}");
        for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            let length = fs::metadata(folder.join(file)).map_or(0, |file| file.len());
            assert!(length > 500, "{name}: {file} has {length} bytes");
        }
        let keywords = list(&package["keywords"]);
        assert!((1..=5).contains(&keywords.len()), "{name}: {} keywords", keywords.len());
        assert!(
            keywords.iter().all(|word| text(word).len() <= 20),
            "{name}: a keyword above 20 letters"
        );
        assert!((1..=5).contains(&list(&package["categories"]).len()), "{name}: categories");
        let docs = &package["metadata"]["docs"]["rs"];
        let features = list(&docs["features"]).iter().map(text);
        assert!(
            docs.is_object() && docs["all-features"].is_null(),
            "{name}: docs.rs would build every feature"
        );
        for feature in features {
            assert!(
                !["cuda", "cudnn", "nccl", "metal", "mpi"].contains(&feature),
                "{name}: docs.rs has no {feature}"
            );
        }
        for dependency in list(&package["dependencies"]) {
            let kept = dependency["kind"] != "dev" || text(&dependency["req"]) != "*";
            let versioned = text(&dependency["req"]) != "*";
            assert!(!kept || versioned, "{name}: {} has no version", text(&dependency["name"]));
        }
    }
}
