//! docs/semver.md lists what every published crate depends on; what is light stays light.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use pad_testkit::repository;

type Names = BTreeSet<String>;

/// What a crate needs: always, and behind a feature.
#[derive(Debug, Default, PartialEq)]
struct Needs {
    always: Names,
    optional: Names,
}

/// Of every published package, from its manifest.
fn manifests() -> BTreeMap<String, Needs> {
    let read = |path: std::path::PathBuf| -> toml::Table {
        fs::read_to_string(&path).unwrap().parse().unwrap()
    };
    let workspace = read(repository().join("Cargo.toml"));
    let known = workspace["workspace"]["dependencies"].as_table().unwrap();
    // A dependency may stand under another name than its package's.
    let package = |key: &str| {
        let named = known.get(key).and_then(|entry| entry.get("package"));
        named.and_then(toml::Value::as_str).unwrap_or(key).to_string()
    };
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(repository().join("crates")).unwrap() {
        let manifest = read(entry.unwrap().path().join("Cargo.toml"));
        if manifest["package"].get("publish").is_some() {
            continue;
        }
        let mut needs = Needs::default();
        for (key, value) in manifest["dependencies"].as_table().unwrap() {
            let optional = value.get("optional").and_then(toml::Value::as_bool);
            let list = if optional == Some(true) { &mut needs.optional } else { &mut needs.always };
            list.insert(package(key));
        }
        found.insert(manifest["package"]["name"].as_str().unwrap().to_string(), needs);
    }
    found
}

/// The rows of the table of docs/semver.md: public ones, others, those behind a feature.
fn listed() -> BTreeMap<String, [Names; 3]> {
    let text = fs::read_to_string(repository().join("docs/semver.md")).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| crate | public |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let names = |cell: &str| -> Names {
        cell.split(',')
            .map(|name| name.trim().to_string())
            .filter(|name| !name.is_empty())
            .collect()
    };
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 4, "{row}");
        let lists = [names(cells[1]), names(cells[2]), names(cells[3])];
        (cells[0].trim().trim_matches('`').to_string(), lists)
    })
    .collect()
}

#[test]
fn the_list_is_that_of_the_manifests() {
    let (manifests, listed) = (manifests(), listed());
    assert!(manifests.len() > 9, "{}", manifests.len());
    assert_eq!(
        listed.keys().collect::<Vec<_>>(),
        manifests.keys().collect::<Vec<_>>(),
        "crates of docs/semver.md and of the workspace"
    );
    for (name, needs) in &manifests {
        let [public, others, optional] = &listed[name];
        let twice: Vec<_> = public.intersection(others).collect();
        assert!(twice.is_empty(), "{name}: listed as public and as not: {twice:?}");
        let always: Names = public.union(others).cloned().collect();
        let found = Needs { always, optional: optional.clone() };
        assert_eq!(found, *needs, "{name}: docs/semver.md (left), its manifest (right)");
    }
}

/// Crates below a package, itself included, as a dependent builds it on this machine.
fn tree(package: &str) -> Names {
    let arguments = ["tree", "-e", "normal", "--prefix", "none", "--locked", "-p", package];
    let out =
        Command::new(env!("CARGO")).args(arguments).current_dir(repository()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().map(|line| line.trim_end_matches(" (*)").to_string()).collect()
}

/// Metrics, suppression and masks need no tensor library.
#[test]
fn metrics_stay_light() {
    let below = tree("pad-metrics");
    assert!((10..60).contains(&below.len()), "{} crates: {below:?}", below.len());
    assert!(!below.iter().any(|name| name.contains("candle")), "{below:?}");
    assert!(tree("pad-ops").iter().any(|name| name.starts_with("candle-core ")));
}
