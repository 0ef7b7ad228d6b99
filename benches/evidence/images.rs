//! The images of a folder that may be trained on, and the number of those that are evaluated.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail, ensure};
use pad::data::{Dataset, image::EXTENSIONS, sets::ImageFolder};
use serde_json::Value;

use super::Result;

/// Names of the part of a set that is trained on.
const TRAINED: [&str; 2] = ["train", "training"];

/// Names of the part that is evaluated.
const EVALUATED: [&str; 3] = ["val", "valid", "validation"];

/// Names of the parts that are not trained on, and of what belongs to labels.
const OTHERS: [&str; 12] = [
    "val",
    "valid",
    "validation",
    "test",
    "testing",
    "mask",
    "masks",
    "label",
    "labels",
    "annotation",
    "annotations",
    "imagesets",
];

/// The images of a folder in natural order: of a labelled set the training images alone.
///
/// # Errors
/// A folder that cannot be read, or without images; a labelled set of which it is not clear what its
/// training images are; a list that names other images than there are.
pub(crate) fn training_images(folder: &Path) -> Result<Vec<PathBuf>> {
    let published = published(folder);
    let folder = published.as_deref().unwrap_or(folder);
    let (list, images) = (folder.join("train.txt"), folder.join("images"));
    if list.is_file() && images.is_dir() {
        return listed(&list, &images);
    }
    let part = match training_part(folder)? {
        None if images.is_dir() => training_part(&images)?,
        found => found,
    };
    let start = match part {
        // Its labels may lie beside them.
        Some(part) if part.join("images").is_dir() => part.join("images"),
        Some(part) => part,
        None => {
            expect_unlabelled(folder)?;
            folder.to_path_buf()
        }
    };
    let found = ImageFolder::open(&start)?;
    let mut paths = Vec::with_capacity(found.len());
    for index in 0..found.len() {
        let (Some(path), Some(name)) = (found.path(index), found.relative(index)) else { continue };
        let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
        if folders.split('/').any(|folder| OTHERS.contains(&last_word(folder).as_str())) {
            return Err(not_training(path));
        }
        paths.push(path.to_path_buf());
    }
    Ok(paths)
}

/// Checks that no file is there twice, by way of links or of a folder inside another: it would count double, and could be
/// held out and trained on.
pub(crate) fn expect_different<'a>(images: impl Iterator<Item = &'a PathBuf>) -> Result<()> {
    let mut known: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    for path in images {
        let real = path.canonicalize().with_context(|| path.display().to_string())?;
        if let Some(first) = known.insert(real, path) {
            bail!("{}: the same image as {} (--mix)", path.display(), first.display());
        }
    }
    Ok(())
}

/// The number of images of the part of a set that is evaluated; `None` where it cannot be told.
pub(crate) fn evaluated_images(folder: &Path) -> Option<usize> {
    let published = published(folder);
    let folder = published.as_deref().unwrap_or(folder);
    for name in EVALUATED {
        if let Ok(list) = fs::read_to_string(folder.join(format!("{name}.txt"))) {
            return Some(list.lines().filter(|line| !line.trim().is_empty()).count());
        }
        if let Ok(set) = fs::read_to_string(folder.join(format!("annotations/{name}.json"))) {
            let set: Value = serde_json::from_str(&set).ok()?;
            return set["images"].as_array().map(Vec::len);
        }
        let places = [format!("{name}/images"), name.to_string(), format!("images/{name}")];
        let mut places = places.into_iter().map(|place| folder.join(place));
        if let Some(part) = places.find(|place| place.is_dir()) {
            return ImageFolder::open(part).ok().map(|images| images.len());
        }
    }
    None
}

/// The folder inside HIT-UAV that holds it all, as its authors publish it.
fn published(folder: &Path) -> Option<PathBuf> {
    Some(folder.join("normal_json")).filter(|inside| inside.is_dir())
}

/// The folder of training images in a folder; `None` without one.
fn training_part(folder: &Path) -> Result<Option<PathBuf>> {
    let mut parts = Vec::new();
    for (path, name) in entries(folder)? {
        if path.is_dir() && TRAINED.contains(&without_year(&name.to_lowercase())) {
            parts.push(path);
        }
    }
    parts.sort();
    if let [first, second, ..] = parts.as_slice() {
        let (first, second) = (first.display(), second.display());
        bail!("{first}: expected one folder of training images, found {second} too");
    }
    Ok(parts.pop())
}

/// Checks that a folder is not a labelled set, whose other parts would be trained on.
fn expect_unlabelled(folder: &Path) -> Result<()> {
    for (path, name) in entries(folder)? {
        let word = match name.rsplit_once('.') {
            _ if path.is_dir() => last_word(&name),
            _ if is_image(&name) => continue,
            // A list, or a file of labels.
            Some((stem, _)) => without_year(&stem.to_lowercase()).to_string(),
            None => continue,
        };
        if TRAINED.iter().chain(&OTHERS).any(|known| *known == word) {
            return Err(not_training(&path));
        }
    }
    Ok(())
}

fn not_training(path: &Path) -> anyhow::Error {
    anyhow!(
        "{}: part of a labelled set, expected training images alone: train.txt beside a folder `images`, or a folder \
         `train`",
        path.display()
    )
}

/// The entries of a folder that are not hidden, and their names.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let named = || folder.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(named)? {
        let entry = entry.with_context(named)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            found.push((entry.path(), name));
        }
    }
    found.sort();
    Ok(found)
}

fn is_image(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    ending.is_some_and(|ending| EXTENSIONS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// `val` of `images_thermal_val` and of `val2017`.
fn last_word(name: &str) -> String {
    let name = name.to_lowercase();
    let word = name.rsplit(['_', '-', ' ', '.']).find(|word| !without_year(word).is_empty());
    without_year(word.unwrap_or("")).to_string()
}

fn without_year(name: &str) -> &str {
    name.trim_end_matches(|letter: char| letter.is_ascii_digit())
}

/// Images by their path below a folder, with and without the extension.
type ByName = BTreeMap<String, BTreeSet<usize>>;

/// The images that a list names, one a line, with or without an extension or the folder of images, with
/// or without the mask behind it.
fn listed(list: &Path, images: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string(list).with_context(|| list.display().to_string())?;
    let folder = ImageFolder::open(images)?;
    let mut by_name = ByName::new();
    for index in 0..folder.len() {
        let Some(name) = folder.relative(index) else { continue };
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        for name in [name, stem] {
            by_name.entry(name.to_string()).or_default().insert(index);
        }
    }
    let names: Vec<&str> = text.lines().map(str::trim).filter(|name| !name.is_empty()).collect();
    ensure!(!names.is_empty(), "{}: expected names of images, found none", list.display());
    let mut found = BTreeSet::new();
    for name in &names {
        // Names may hold blanks; where both ends are files, they are two.
        let pair = name.split_once(char::is_whitespace);
        let image = pair.filter(|(image, mask)| is_image(image) && is_image(mask));
        let of_pair = image.and_then(|(image, _)| find(&by_name, image));
        let indices = of_pair.or_else(|| find(&by_name, name));
        found.extend(indices.into_iter().flatten().copied());
    }
    // One name, one image: a name without an image, or twice, or of two images.
    ensure!(
        found.len() == names.len(),
        "{}: {} names, expected an image of each in {}, found {}",
        list.display(),
        names.len(),
        images.display(),
        found.len()
    );
    Ok(found.into_iter().filter_map(|index| folder.path(index).map(Path::to_path_buf)).collect())
}

/// What a name means: itself, or the longest end of its path that is known.
fn find<'a>(by_name: &'a ByName, name: &str) -> Option<&'a BTreeSet<usize>> {
    let name = name.replace('\\', "/");
    let mut end = name.trim_start_matches("./");
    loop {
        if let Some(found) = by_name.get(end) {
            return Some(found);
        }
        end = end.split_once('/')?.1;
    }
}
