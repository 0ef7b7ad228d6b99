//! Warnings about files, each said once: a training run decodes a file in every epoch.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::{Mutex, PoisonError},
};

use tracing::warn;

use crate::error::shown_path;

/// Files that are named for each kind of notice; of the others, only that there are some.
const NAMED: usize = 20;

/// Files that were named, by kind of notice.
static REPORTED: Mutex<BTreeMap<&str, BTreeSet<u64>>> = Mutex::new(BTreeMap::new());

/// Warns of a file, unless it was done before.
pub(crate) fn warn_once(path: &Path, kind: &'static str, what: impl FnOnce() -> String) {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let reported = {
        let mut all = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
        let files = all.entry(kind).or_default();
        // The one after the last that is named closes the list.
        (files.len() <= NAMED && files.insert(hasher.finish())).then_some(files.len())
    };
    match reported {
        Some(count) if count <= NAMED => warn!("{}: {}", shown_path(path), what()),
        Some(_) => warn!("more files with {kind}, which are not named"),
        None => {}
    }
}
