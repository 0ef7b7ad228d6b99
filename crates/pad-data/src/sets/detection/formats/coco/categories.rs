//! Which category is which class.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::super::{BoxClass, BoxClasses, Others},
    file::{Category, Coco},
    key::{Key, Meanings},
    values::Scalar,
};
use crate::Result;

/// The categories of a file.
pub(super) struct Categories {
    list: Vec<Listed>,
}

/// A category that has a class or may have one.
pub(super) struct Listed {
    /// Its number; a category without one is numbered after the others.
    pub(super) id: i64,
    /// What annotations call it.
    key: Key,
    /// Its name, unlike that of every other one.
    pub(super) name: String,
}

impl Categories {
    /// The categories of a file, in the order of their numbers.
    ///
    /// Where several have the same name, those without an annotation are left out (exporters list a
    /// group under the name of its only member); if more than one remains, their numbers are added
    /// to their names. `wanted` are names of classes that are requested. A file that lists no
    /// categories has those that its annotations name.
    ///
    /// # Errors
    /// A text: two categories of one number.
    pub(super) fn of(file: &Coco, wanted: &[&str]) -> Result<Self, String> {
        let mut used: BTreeSet<Key> =
            file.annotations.iter().filter_map(|one| Key::of(&one.category_id)).collect();
        let mut listed: BTreeMap<Key, (String, &Category)> = BTreeMap::new();
        for category in &file.categories {
            let Some(key) = Key::of(&category.id).or_else(|| Key::of(&category.name)) else {
                continue;
            };
            let name = category.name.text().filter(|name| !name.trim().is_empty());
            let name = name.unwrap_or_else(|| format!("category {key}"));
            if let Some((first, _)) = listed.get(&key) {
                // The same line twice says nothing new.
                if *first != name {
                    return Err(format!("category {key}: expected once, found again"));
                }
                continue;
            }
            listed.insert(key, (name, category));
        }
        if file.categories.is_empty() {
            let unnamed = |key: &Key| match key {
                Key::Number(number) => format!("category {number}"),
                Key::Text(text) => text.clone(),
            };
            static NOTHING: Category = Category {
                id: Scalar::Absent,
                name: Scalar::Absent,
                supercategory: Scalar::Absent,
            };
            listed = used.iter().map(|key| (key.clone(), (unnamed(key), &NOTHING))).collect();
        }
        let meanings = Meanings::of(listed.keys());
        let meant = |key: Key| match listed.contains_key(&key) {
            true => key,
            false => meanings.only(&key).cloned().unwrap_or(key),
        };
        used = used.into_iter().map(meant).collect();
        let mut by_name: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
        for (key, (name, _)) in &listed {
            by_name.entry(name).or_default().push(key);
        }
        let last = listed.keys().filter_map(Key::meaning).max().unwrap_or(0);
        let mut free = (last.max(0)..i64::MAX).skip(1);
        let numbered = |name: &str, key: &Key| format!("{name} ({key})");
        let is_wanted = |name: String| wanted.contains(&name.as_str());
        let mut list = Vec::with_capacity(listed.len());
        for (key, (name, _)) in &listed {
            let same = by_name.get(name.as_str()).map_or(&[][..], Vec::as_slice);
            let requested = |key: &Key| is_wanted(numbered(name, key));
            let in_use: Vec<&Key> = match same.iter().any(|key| requested(key)) {
                true => same
                    .iter()
                    .filter(|key| requested(key) || used.contains(key))
                    .copied()
                    .collect(),
                false => same.iter().filter(|key| used.contains(key)).copied().collect(),
            };
            let name = match &in_use[..] {
                _ if same.len() == 1 => name.clone(),
                // None is in use: the one that is not a group, else the last.
                [] => {
                    let is_group =
                        |key: &&&Key| listed.get(key).is_some_and(|(_, one)| is_group(one));
                    let kept = same.iter().rev().find(|key| !is_group(key)).or(same.last());
                    if kept.is_none_or(|kept| *kept != key) {
                        continue;
                    }
                    name.clone()
                }
                [only] if !requested(only) => {
                    if *only != key {
                        continue;
                    }
                    name.clone()
                }
                several => {
                    if !several.contains(&key) {
                        continue;
                    }
                    tracing::warn!(
                        "several categories are called `{name}`; this is `{name} ({key})`"
                    );
                    numbered(name, key)
                }
            };
            let id = meanings.number(key).or_else(|| free.next()).unwrap_or(i64::MAX);
            list.push(Listed { id, key: key.clone(), name });
        }
        list.sort_by_key(|one| one.id);
        Ok(Self { list })
    }

    /// Whether neither the list of the file nor an annotation names one.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All as classes.
    ///
    /// # Errors
    /// As [`BoxClasses::new`].
    pub(super) fn classes(&self) -> Result<BoxClasses> {
        let classes = self.list.iter().map(|one| BoxClass::new(&one.name, one.id));
        BoxClasses::new(classes.collect(), Others::Refuse)
    }

    /// The keys by the numbers that they mean, for annotations that have none of exactly these.
    pub(super) fn meanings(&self) -> Meanings {
        Meanings::of(self.list.iter().map(|one| &one.key))
    }

    /// The category and the class that each key of annotations means.
    pub(super) fn by_key(&self, classes: &BoxClasses) -> BTreeMap<Key, (&Listed, Option<u32>)> {
        let names: Vec<&str> = self.list.iter().map(|one| one.name.as_str()).collect();
        let of = classes.of_categories(&names);
        let mut by_key = BTreeMap::new();
        for (one, class) in self.list.iter().zip(of) {
            // Some writers have the name where the number belongs.
            by_key.entry(Key::Text(one.name.clone())).or_insert((one, class));
        }
        for (one, class) in by_key.clone().into_values() {
            by_key.insert(one.key.clone(), (one, class));
        }
        by_key
    }
}

/// Whether a category stands for others, as Roboflow's first one.
fn is_group(category: &Category) -> bool {
    matches!(&category.supercategory, Scalar::Text(text) if text == "none" || text.is_empty())
}
