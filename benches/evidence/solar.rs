//! Solar modules as a folder for each class.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, bail, ensure};
use pad::rng::{Key, Purpose};
use serde_json::Value;

use super::{Result, made::link};

/// The file that names images and their classes.
pub(crate) const LIST: &str = "module_metadata.json";

/// The share of the modules that are tested on.
const TESTED: f64 = 0.25;

/// Makes a folder per class, split by class: the same images at every call.
///
/// # Errors
/// A list that is malformed or names no image that is there; a class with fewer than two.
pub(crate) fn link_classes(from: &Path, folder: &Path, most: Option<[usize; 2]>) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let path = from.join(LIST);
    let named = || path.display().to_string();
    let text = fs::read_to_string(&path).with_context(named)?;
    let mut modules: BTreeMap<String, Value> = serde_json::from_str(&text).with_context(named)?;
    // Before any is chosen, so that the others make up for those that are missing.
    let all = modules.len();
    modules.retain(|_, module| {
        module["image_filepath"].as_str().is_none_or(|file| from.join(file).is_file())
    });
    ensure!(
        !modules.is_empty(),
        "{}: expected {all} images below {}, found 0",
        path.display(),
        from.display()
    );
    if modules.len() < all {
        eprintln!("warning: {} images of {} are missing", all - modules.len(), path.display());
    }
    let parts = split_classes(&modules, most).with_context(named)?;
    // Whole or absent.
    let part_folder = folder.with_extension("part");
    if part_folder.exists() {
        fs::remove_dir_all(&part_folder).with_context(|| part_folder.display().to_string())?;
    }
    for (name, file) in parts {
        let place = part_folder.join(name);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        link(&from.join(file), &place).with_context(|| place.display().to_string())?;
    }
    fs::rename(&part_folder, folder).with_context(|| folder.display().to_string())
}

/// Splits modules into `train/CLASS/FILE` and `val/CLASS/FILE`, at most `most` of a class; returns the name in the new
/// folder and the path in the old one.
///
/// # Errors
/// A module without class or file; a class with fewer than two images.
pub(crate) fn split_classes(
    modules: &BTreeMap<String, Value>,
    most: Option<[usize; 2]>,
) -> Result<Vec<(String, String)>> {
    let mut classes: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
    let key = Key::new(0).purpose(Purpose::Split);
    for (number, module) in modules {
        let fields = (module["anomaly_class"].as_str(), module["image_filepath"].as_str());
        let (Some(class), Some(file)) = fields else {
            bail!("module {number}: expected `anomaly_class` and `image_filepath`");
        };
        classes.entry(class).or_default().push((key.named(file).stream().next_u64(), file));
    }
    let mut parts = Vec::new();
    for (class, mut files) in classes {
        ensure!(files.len() > 1, "class `{class}`: expected at least 2 images, found 1");
        files.sort_unstable();
        let tested = ((files.len() as f64 * TESTED).round() as usize).clamp(1, files.len() - 1);
        let (val, train) = files.split_at(tested);
        for (part, files, at) in [("train", train, 0), ("val", val, 1)] {
            let most = most.map_or(files.len(), |most| most[at].min(files.len()));
            for (_, file) in &files[..most] {
                let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
                parts.push((format!("{part}/{class}/{name}"), file.to_string()));
            }
        }
    }
    Ok(parts)
}
