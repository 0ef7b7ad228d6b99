//! The public items of a crate, one line each, read from its sources. rustdoc's JSON holds the
//! same, but only a nightly compiler writes it, and its form changes between versions. What macros
//! expand to is not seen; no public item of these crates comes from one.

mod circles;
mod crate_tree;
mod imports;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

pub use circles::import_circles;
use crate_tree::{Found, Module, Tree, cfgs, is_public};
use imports::{Leaf, leaves_of};
use syn::{Fields, ImplItem, Item, TraitItem, Type};
use text::{signature, text};

/// Returns one line for each public item of the crate `name` whose `lib.rs` is `root`, in
/// alphabetical order of paths.
///
/// # Panics
/// If a source cannot be read or parsed, or if a re-export leads nowhere.
pub fn public_api(name: &str, root: &Path) -> Vec<String> {
    let mut lines = listed(name, &Tree::read(root)).lines;
    lines.sort();
    lines.dedup();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Returns the public types and traits of the crate `name` whose `lib.rs` is `root`: for each
/// public name the paths of the definitions with that name.
///
/// # Panics
/// As [`public_api`].
pub fn public_types(name: &str, root: &Path) -> BTreeMap<String, BTreeSet<String>> {
    listed(name, &Tree::read(root)).types
}

/// Returns the public functions, methods, types and traits of the crate `name` whose `lib.rs` is
/// `root`, in alphabetical order, and whether the documentation of each has an example that asserts
/// something. A method has one too if an example on the page of its type (of the type itself or of
/// another method) calls it by name: one set-up that uses five methods reads better than five.
///
/// # Panics
/// As [`public_api`].
pub fn examples_on_items(name: &str, root: &Path) -> BTreeMap<String, bool> {
    listed(name, &Tree::read(root)).examples
}

/// Returns the blocks of Rust in documentation that assert something, one after another.
fn examples(attributes: &[syn::Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
        let syn::Expr::Lit(literal) = &pair.value else { return None };
        match &literal.lit {
            syn::Lit::Str(text) if pair.path.is_ident("doc") => Some(text.value()),
            _ => None,
        }
    });
    let (mut inside, mut rust) = (false, false);
    let (mut examples, mut block) = (String::new(), String::new());
    for line in lines.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()) {
        match line.trim().strip_prefix("```") {
            Some(tags) => {
                if rust && (block.contains("assert") || block.contains("panic!")) {
                    examples += &block;
                }
                block.clear();
                inside = !inside;
                let runs = |tag: &str| !matches!(tag, "text" | "toml" | "json" | "sh" | "ignore");
                rust = inside && tags.split(',').all(runs);
            }
            None => block += &format!("{line}\n"),
        }
    }
    examples
}

/// Whether `code` names the associated function `name`: `.name` or `::name`, a whole word.
fn calls(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        (before.ends_with('.') || before.ends_with("::"))
            && !after.starts_with(|next: char| next.is_alphanumeric() || next == '_')
    })
}

/// The public methods in inherent `impl` blocks.
fn methods(blocks: &[syn::ItemImpl]) -> impl Iterator<Item = &syn::ImplItemFn> {
    blocks.iter().filter(|block| block.trait_.is_none()).flat_map(|block| &block.items).filter_map(
        |member| match member {
            ImplItem::Fn(member) if matches!(member.vis, syn::Visibility::Public(_)) => {
                Some(member)
            }
            _ => None,
        },
    )
}

fn listed(name: &str, tree: &Tree) -> Listed {
    let listed = Listed::default();
    let mut list = List { name, impls: impls(tree), tree, listed };
    list.module(name, &tree.root, name);
    list.listed
}

/// What is public.
#[derive(Default)]
struct Listed {
    /// Sorted by path first.
    lines: Vec<(String, String)>,
    /// Definitions of each name of a type.
    types: BTreeMap<String, BTreeSet<String>>,
    /// Whether functions, methods, types and traits have an example.
    examples: BTreeMap<String, bool>,
}

/// Where a type is defined: its module, its name.
type Definition = (Vec<String>, String);

/// Every `impl` block, by the type it is for, and the module it stands in.
fn impls(tree: &Tree) -> BTreeMap<Definition, Vec<syn::ItemImpl>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    tree.each_module(&mut |module| {
        for item in &module.items {
            let Item::Impl(block) = item else { continue };
            let Type::Path(self_type) = &*block.self_ty else { continue };
            let path: Vec<_> =
                self_type.path.segments.iter().map(|part| part.ident.to_string()).collect();
            for found in tree.resolve(module, &path, 0) {
                if let Found::Item(home, item) = found
                    && let Some(name) = crate_tree::name_of(item)
                {
                    all.entry((home.path.clone(), name)).or_default().push(block.clone());
                }
            }
        }
    });
    all
}

struct List<'a> {
    /// Of the crate.
    name: &'a str,
    tree: &'a Tree,
    impls: BTreeMap<Definition, Vec<syn::ItemImpl>>,
    listed: Listed,
}

impl List<'_> {
    fn push(&mut self, path: &str, line: String) {
        self.listed.lines.push((path.to_owned(), line));
    }

    /// Lists what `module` shows under the public path `path`.
    fn module(&mut self, name: &str, module: &Module, path: &str) {
        for item in module.items.iter().filter(|item| is_public(item)) {
            match item {
                Item::Mod(inner) => {
                    let path = format!("{path}::{}", inner.ident);
                    self.push(&path, format!("{}pub mod {path}", cfgs(&inner.attrs)));
                    let child = module.child(&inner.ident.to_string());
                    self.module(name, child.expect("a declared module was read"), &path);
                }
                Item::Use(item) => {
                    let mut leaves = Vec::new();
                    leaves_of(&item.tree, &mut Vec::new(), &mut leaves);
                    for leaf in leaves {
                        self.re_export(name, module, path, &leaf, &cfgs(&item.attrs));
                    }
                }
                item => self.item(module, item, path, None),
            }
        }
    }

    fn re_export(&mut self, name: &str, module: &Module, path: &str, leaf: &Leaf, cfg: &str) {
        let shown = format!("{path}::{}", leaf.shown);
        let found = self.tree.resolve(module, &leaf.path, 0);
        if found.is_empty() {
            assert!(
                !matches!(leaf.path[0].as_str(), "crate" | "self" | "super"),
                "{shown}: `{}` leads nowhere",
                leaf.path.join("::")
            );
            self.push(&shown, format!("{cfg}pub use {} as {shown}", leaf.path.join("::")));
            return;
        }
        for found in found {
            match found {
                Found::Module(inner) => {
                    if leaf.shown != "*" {
                        self.push(&shown, format!("{cfg}pub mod {shown}"));
                    }
                    self.module(name, inner, if leaf.shown == "*" { path } else { &shown });
                }
                Found::Item(home, item) if self.tree.is_reachable(home) => {
                    let item = crate_tree::name_of(item).unwrap_or_default();
                    let home = [&[name.to_owned()], &home.path[..]].concat().join("::");
                    self.push(&shown, format!("{cfg}pub use {home}::{item} as {shown}"));
                }
                Found::Item(home, item) => self.item(home, item, path, Some(&leaf.shown)),
            }
        }
    }

    /// An item that is defined in `home` and shown in `path`, perhaps under another name.
    fn item(&mut self, home: &Module, item: &Item, path: &str, shown: Option<&str>) {
        let Some(name) = crate_tree::name_of(item) else {
            assert!(!matches!(item, Item::Verbatim(_)), "{path}: an item that syn does not know");
            return;
        };
        if matches!(item, Item::Struct(_) | Item::Enum(_) | Item::Trait(_) | Item::Type(_)) {
            let home = [&[self.name.to_owned()], &home.path[..]].concat().join("::");
            let shown = shown.unwrap_or(&name).to_owned();
            self.listed.types.entry(shown).or_default().insert(format!("{home}::{name}"));
        }
        let path = format!("{path}::{}", shown.unwrap_or(&name));
        let cfg = cfgs(crate_tree::attributes(item));
        if !matches!(item, Item::Const(_) | Item::Static(_)) {
            let example = examples(crate_tree::attributes(item));
            self.listed.examples.insert(path.clone(), !example.is_empty());
        }
        match item {
            Item::Fn(item) => {
                self.push(&path, format!("{cfg}pub {}", signature(&item.sig, &path)));
            }
            Item::Const(item) => {
                self.push(&path, format!("{cfg}pub const {path}: {}", text(&item.ty)));
            }
            Item::Static(item) => {
                self.push(&path, format!("{cfg}pub static {path}: {}", text(&item.ty)));
            }
            Item::Type(item) => {
                let line =
                    format!("{cfg}pub type {path}{} = {}", text(&item.generics), text(&item.ty));
                self.push(&path, line);
            }
            Item::Struct(item) => {
                self.push(&path, format!("{cfg}pub struct {path}{}", text(&item.generics)));
                self.fields(&path, &item.fields, false);
                self.traits(&path, &item.attrs);
            }
            Item::Enum(item) => {
                self.push(&path, format!("{cfg}pub enum {path}{}", text(&item.generics)));
                for variant in &item.variants {
                    let path = format!("{path}::{}", variant.ident);
                    self.push(&path, path.clone());
                    self.fields(&path, &variant.fields, true);
                }
                self.traits(&path, &item.attrs);
            }
            Item::Trait(item) => {
                let bounds = match text(&item.supertraits) {
                    bounds if bounds.is_empty() => bounds,
                    bounds => format!(": {bounds}"),
                };
                self.push(&path, format!("{cfg}pub trait {path}{}{bounds}", text(&item.generics)));
                for member in &item.items {
                    self.trait_member(&path, member);
                }
            }
            Item::Macro(_) => self.push(&path, format!("{cfg}macro_rules! {path}")),
            _ => {}
        }
        if matches!(item, Item::Struct(_) | Item::Enum(_)) {
            let blocks = self.impls.remove(&(home.path.clone(), name)).unwrap_or_default();
            let page: String = methods(&blocks).map(|method| examples(&method.attrs)).collect();
            let page = examples(crate_tree::attributes(item)) + &page;
            for method in methods(&blocks) {
                let name = method.sig.ident.to_string();
                let example = !examples(&method.attrs).is_empty() || calls(&page, &name);
                self.listed.examples.insert(format!("{path}::{name}"), example);
            }
            for block in &blocks {
                self.implementation(&path, block);
            }
        }
    }

    fn fields(&mut self, path: &str, fields: &Fields, all: bool) {
        for (index, field) in fields.iter().enumerate() {
            if all || matches!(field.vis, syn::Visibility::Public(_)) {
                let name =
                    field.ident.as_ref().map_or_else(|| index.to_string(), ToString::to_string);
                let path = format!("{path}::{name}");
                self.push(&path, format!("{path}: {}", text(&field.ty)));
            }
        }
    }

    /// The derived traits, and whether more fields may come.
    fn traits(&mut self, path: &str, attributes: &[syn::Attribute]) {
        for attribute in attributes {
            if attribute.path().is_ident("non_exhaustive") {
                self.push(path, format!("#[non_exhaustive] {path}"));
            }
            if let Ok(list) = attribute.meta.require_list()
                && attribute.path().is_ident("derive")
            {
                for name in list.tokens.to_string().split(',').map(|name| name.replace(' ', "")) {
                    if !name.is_empty() {
                        self.push(path, format!("impl {name} for {path}"));
                    }
                }
            }
        }
    }

    fn trait_member(&mut self, path: &str, member: &TraitItem) {
        match member {
            TraitItem::Fn(member) => {
                let path = format!("{path}::{}", member.sig.ident);
                let given = if member.default.is_some() { " (provided)" } else { "" };
                self.push(&path, format!("{}{given}", signature(&member.sig, &path)));
            }
            TraitItem::Type(member) => {
                let path = format!("{path}::{}", member.ident);
                self.push(&path, format!("type {path}: {}", text(&member.bounds)));
            }
            TraitItem::Const(member) => {
                let path = format!("{path}::{}", member.ident);
                self.push(&path, format!("const {path}: {}", text(&member.ty)));
            }
            _ => {}
        }
    }

    fn implementation(&mut self, path: &str, block: &syn::ItemImpl) {
        let cfg = cfgs(&block.attrs);
        if let Some((_, name, _)) = &block.trait_ {
            self.push(
                path,
                format!("{cfg}impl{} {} for {path}", text(&block.generics), text(name)),
            );
            return;
        }
        for member in &block.items {
            match member {
                ImplItem::Fn(member) if matches!(member.vis, syn::Visibility::Public(_)) => {
                    let path = format!("{path}::{}", member.sig.ident);
                    let cfg = format!("{cfg}{}", cfgs(&member.attrs));
                    self.push(&path, format!("{cfg}pub {}", signature(&member.sig, &path)));
                }
                ImplItem::Const(member) if matches!(member.vis, syn::Visibility::Public(_)) => {
                    let path = format!("{path}::{}", member.ident);
                    self.push(&path, format!("pub const {path}: {}", text(&member.ty)));
                }
                _ => {}
            }
        }
    }
}
