//! A crate's modules, and where a path in them leads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Item, Visibility};

use super::imports::{Leaf, leaves_of};

/// A module with what stands in it, tests left out.
pub(super) struct Module {
    /// From the crate's root, without the crate's name.
    pub(super) path: Vec<String>,
    /// The source file that it stands in.
    pub(super) file: PathBuf,
    /// Whether it and all above it are `pub mod`.
    public: bool,
    pub(super) items: Vec<Item>,
    children: Vec<Module>,
}

/// What a path leads to.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    Module(&'a Module),
    /// An item and the module that defines it.
    Item(&'a Module, &'a Item),
}

pub(super) struct Tree {
    pub(super) root: Module,
}

impl Module {
    fn read(file: &Path, folder: &Path, path: Vec<String>, public: bool) -> Self {
        let source = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let source = syn::parse_file(&source).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        Self::new(source.items, file, folder, path, public)
    }

    fn new(items: Vec<Item>, file: &Path, folder: &Path, path: Vec<String>, public: bool) -> Self {
        let items: Vec<_> = items.into_iter().filter(|item| !only_for_tests(item)).collect();
        let mut children = Vec::new();
        for item in &items {
            let Item::Mod(declared) = item else { continue };
            let name = declared.ident.to_string();
            let below = [&path[..], std::slice::from_ref(&name)].concat();
            let public = public && is_public(item);
            let folder = folder.join(&name);
            children.push(match &declared.content {
                Some((_, items)) => Self::new(items.clone(), file, &folder, below, public),
                None => Self::read(&file_of(&folder), &folder, below, public),
            });
        }
        Self { path, file: file.to_path_buf(), public, items, children }
    }

    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.path.last().is_some_and(|last| last == name))
    }
}

fn file_of(folder: &Path) -> PathBuf {
    let file = folder.with_extension("rs");
    if file.is_file() { file } else { folder.join("mod.rs") }
}

impl Tree {
    pub(super) fn read(root: &Path) -> Self {
        let folder = root.parent().expect("a file stands in a folder");
        Self { root: Module::read(root, folder, Vec::new(), true) }
    }

    pub(super) fn each_module<'a>(&'a self, visit: &mut impl FnMut(&'a Module)) {
        fn below<'a>(module: &'a Module, visit: &mut impl FnMut(&'a Module)) {
            visit(module);
            module.children.iter().for_each(|child| below(child, visit));
        }
        below(&self.root, visit);
    }

    fn module(&self, path: &[String]) -> Option<&Module> {
        path.iter().try_fold(&self.root, |module, name| module.child(name))
    }

    /// The module around `module`; `None` for the root.
    pub(super) fn parent(&self, module: &Module) -> Option<&Module> {
        let (_, above) = module.path.split_last()?;
        self.module(above)
    }

    /// Whether items of `module` can be named from outside without a re-export.
    pub(super) fn is_reachable(&self, module: &Module) -> bool {
        module.public
    }

    /// Everything of this crate that `path`, written in `module`, means: an item, a module, or
    /// both; nothing if it leads out of the crate. `depth` ends circles of imports.
    pub(super) fn resolve<'a>(
        &'a self,
        module: &'a Module,
        path: &[String],
        depth: usize,
    ) -> Vec<Found<'a>> {
        let Some((first, rest)) = path.split_first() else { return vec![Found::Module(module)] };
        if depth > 16 {
            return Vec::new();
        }
        let next = match first.as_str() {
            "crate" => Some(&self.root),
            "self" => Some(module),
            "super" => self.module(&module.path[..module.path.len().saturating_sub(1)]),
            _ => None,
        };
        if let Some(next) = next {
            return self.resolve(next, rest, depth);
        }
        let mut found = Vec::new();
        for item in &module.items {
            match item {
                Item::Mod(declared) if declared.ident == first => {
                    let Some(child) = module.child(first) else { continue };
                    match rest {
                        [] if is_public(item) => found.push(Found::Module(child)),
                        [] => {}
                        rest => found.extend(self.resolve(child, rest, depth)),
                    }
                }
                Item::Use(imports) => {
                    let mut leaves = Vec::new();
                    leaves_of(&imports.tree, &mut Vec::new(), &mut leaves);
                    for Leaf { path: from, shown } in leaves {
                        // A name that imports itself (`use syn::Item` seen from here) stands for
                        // something outside.
                        if shown == *first && from != path {
                            found.extend(self.resolve(
                                module,
                                &[&from[..], rest].concat(),
                                depth + 1,
                            ));
                        }
                    }
                }
                item if rest.is_empty() && name_of(item).is_some_and(|name| name == *first) => {
                    found.push(Found::Item(module, item));
                }
                _ => {}
            }
        }
        found
    }
}

fn only_for_tests(item: &Item) -> bool {
    cfgs(attributes(item))
        .split("] ")
        .any(|cfg| cfg.contains("(test)") || cfg.contains("(doctest)"))
}

/// The conditions of an item, as they are written, each with a space after it.
pub(super) fn cfgs(attributes: &[Attribute]) -> String {
    let conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    conditions
        .map(|condition| {
            format!(
                "{} ",
                super::text::text(condition).replace("# [", "#[").replace("cfg (", "cfg(")
            )
        })
        .collect()
}

pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

pub(super) fn is_public(item: &Item) -> bool {
    let visibility = match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Macro(item) => {
            return item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"));
        }
        Item::Mod(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::Type(item) => &item.vis,
        Item::Use(item) => &item.vis,
        _ => return false,
    };
    matches!(visibility, Visibility::Public(_))
}

/// An item's name; imports, modules and implementations have none of their own.
pub(super) fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}
