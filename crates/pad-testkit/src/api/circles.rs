//! Files of a crate that import each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use syn::{Item, Visibility};

use super::{
    crate_tree::{Found, Module, Tree},
    imports::leaves_of,
};

/// The files that each file imports from.
type Imports = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// Returns the circles of imports among the files of the crate whose `lib.rs` is `root`: each a
/// list of files that reach each other. `use` items count, at the file that defines what they name;
/// re-exports and tests do not.
///
/// # Panics
/// If a source cannot be read or parsed.
pub fn import_circles(root: &Path) -> Vec<Vec<PathBuf>> {
    let tree = Tree::read(root);
    let mut imports = Imports::new();
    tree.each_module(&mut |module| {
        for item in &module.items {
            let Item::Use(item) = item else { continue };
            if !matches!(item.vis, Visibility::Inherited) {
                continue;
            }
            let mut leaves = Vec::new();
            leaves_of(&item.tree, &mut Vec::new(), &mut leaves);
            for leaf in leaves {
                if let Some(from) = defining_module(&tree, module, &leaf.path)
                    && from.file != module.file
                {
                    imports.entry(module.file.clone()).or_default().insert(from.file.clone());
                }
            }
        }
    });
    circles(&imports)
}

fn defining_module<'a>(tree: &'a Tree, module: &'a Module, path: &[String]) -> Option<&'a Module> {
    match tree.resolve(module, path, 0).first() {
        Some(Found::Item(home, _)) => return Some(home),
        Some(Found::Module(module)) => return Some(module),
        None => {}
    }
    // A private module, or a name that a macro defines in one: as far as modules lead.
    let (first, rest) = path.split_first()?;
    let start = match first.as_str() {
        "crate" => &tree.root,
        "self" => module,
        "super" => tree.parent(module)?,
        name => module.child(name)?,
    };
    let mut found = start;
    for name in rest {
        match (name.as_str(), found.child(name)) {
            ("super", _) => found = tree.parent(found)?,
            (_, Some(child)) => found = child,
            (_, None) => break,
        }
    }
    Some(found)
}

/// Groups of files that reach each other.
fn circles(imports: &Imports) -> Vec<Vec<PathBuf>> {
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        imports.keys().map(|file| (file, reached_from(imports, file))).collect();
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for (file, reach) in &reached {
        if !reach.contains(file) || seen.contains(file) {
            continue;
        }
        let meets = |other: &&PathBuf| reached.get(*other).is_some_and(|back| back.contains(file));
        let circle: Vec<&PathBuf> = reach.iter().copied().filter(meets).collect();
        seen.extend(circle.iter().copied());
        circles.push(circle.into_iter().cloned().collect());
    }
    circles
}

fn reached_from<'a>(imports: &'a Imports, file: &PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut open: Vec<&PathBuf> = imports.get(file).into_iter().flatten().collect();
    let mut reached = BTreeSet::new();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(imports.get(next).into_iter().flatten());
        }
    }
    reached
}
