//! `use` items, one name at a time.

use syn::UseTree;

/// One name of a `use` item: where from, and what it is called here (`*` for everything).
pub(super) struct Leaf {
    pub(super) path: Vec<String>,
    pub(super) shown: String,
}

pub(super) fn leaves_of(tree: &UseTree, path: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
    let mut leaf = |name: &syn::Ident, shown: &syn::Ident| {
        let mut path = path.clone();
        if name != "self" {
            path.push(name.to_string());
        }
        let shown = if shown == "self" {
            path.last().cloned().unwrap_or_default()
        } else {
            shown.to_string()
        };
        leaves.push(Leaf { path, shown });
    };
    match tree {
        UseTree::Path(part) => {
            path.push(part.ident.to_string());
            leaves_of(&part.tree, path, leaves);
            path.pop();
        }
        UseTree::Name(part) => leaf(&part.ident, &part.ident),
        UseTree::Rename(part) => leaf(&part.ident, &part.rename),
        UseTree::Glob(_) => leaves.push(Leaf { path: path.clone(), shown: "*".into() }),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves_of(tree, path, leaves)),
    }
}
