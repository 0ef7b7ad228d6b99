//! Input and output of the readers of formats.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Classes;
use crate::{
    Error, Result,
    sets::{
        faults::Faults,
        natural,
        splits::place_of,
        text::{SET_BYTES, read_text},
        walk::{Again, Unreadable, Walk, is_image},
    },
};

/// How a labelled set is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentationOptions {
    /// The classes. `None`: those of the format.
    pub classes: Option<Classes>,
    /// The value of each class in the mask files, such as 0 and 255; other values than these and
    /// the ignored label are faults. `None`: the numbers of the classes, and what the set itself
    /// says.
    pub mask_values: Option<Vec<u8>>,
    /// Largest tolerated share of images that cannot be used, 0 to 1; one is tolerated at any share
    /// above 0 (see [`tolerated`](crate::dataset::tolerated)). Default 0.05.
    pub max_faulty: f64,
}

impl Default for SegmentationOptions {
    fn default() -> Self {
        Self { classes: None, mask_values: None, max_faulty: 0.05 }
    }
}

/// One image and its labels.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) image: PathBuf,
    pub(super) mask: PathBuf,
}

/// What the reader of a format gives.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) entries: Vec<Entry>,
    pub(super) classes: Classes,
    /// Whether the image is the fourth channel of its file.
    pub(super) fourth_channel: bool,
}

impl SegmentationOptions {
    /// The classes of a set that has the classes `found`.
    ///
    /// # Errors
    /// [`Error::Setting`] unless every class has a value of its own.
    pub(super) fn classes_of(&self, found: impl FnOnce() -> Classes) -> Result<Classes> {
        let mut classes = self.classes.clone().unwrap_or_else(found);
        if let Some(values) = &self.mask_values {
            let distinct: BTreeSet<u8> = values.iter().copied().collect();
            if values.len() != classes.len() || distinct.len() != values.len() {
                return Err(Error::Setting {
                    name: "mask_values",
                    expected: format!("{} different values, one for each class", classes.len()),
                    found: format!("{values:?}"),
                });
            }
            let pairs = values.iter().copied().zip(0_u8..);
            classes.remap = pairs.collect();
        }
        Ok(classes)
    }
}

/// The list of a part below `folder`, by its name or another of the same meaning; of the given name
/// if it is missing.
pub(super) fn list_of(folder: &Path, split: &str) -> PathBuf {
    let place = |name: &str| folder.join(format!("{name}.txt"));
    let found = place_of(split, |name| vec![place(name)], Path::is_file);
    found.map_or_else(|| place(split), |(_, list)| list)
}

/// The entries that a list names, one a line, with or without an extension or the folder of images,
/// with or without the mask behind it.
///
/// # Errors
/// [`Error::Io`]; [`Error::Entry`] for an empty list; [`Error::TooManyFaults`] for names without an
/// image or mask, or named twice, or the first such [`Error::Line`] where none is tolerated.
pub(super) fn entries(list: &Path, images: &Path, masks: &Path, share: f64) -> Result<Vec<Entry>> {
    let text = read_text(list, SET_BYTES)?;
    let (image_files, mask_files) = (by_stem(images)?, masks_by_stem(masks)?);
    let mut entries = Vec::new();
    let mut lines = BTreeMap::new();
    let mut faults = Faults::new(share);
    let mut all = 0;
    for (line, number) in text.lines().map(str::trim).zip(1_usize..) {
        if line.is_empty() {
            continue;
        }
        all += 1;
        let fault = |what| Error::Line { path: list.into(), line: number, what };
        let missing = |what: &str, name: &str, folder: &Path| {
            let (name, folder) = (name.escape_debug(), folder.display());
            fault(format!("expected {what} `{name}` in {folder}, found none"))
        };
        let pair = line.split_once(char::is_whitespace).map(|(image, mask)| (image, mask.trim()));
        let whole = || find(&image_files, line).map(|found| (found, line));
        let by_pair = || {
            let (image, mask) = pair?;
            Some((find(&image_files, image)?, mask))
        };
        // Names may hold blanks; where both ends are files, they are two.
        let is_pair = pair.is_some_and(|(image, mask)| is_image(image) && is_image(mask));
        let found = match is_pair {
            true => by_pair().or_else(whole),
            false => whole().or_else(by_pair),
        };
        let Some(((name, image), mask)) = found else {
            faults.add(missing("an image", stem(line), images))?;
            continue;
        };
        let image = match image {
            Ok(image) => image,
            Err(what) => {
                faults.add(fault(what))?;
                continue;
            }
        };
        if let Some(first) = lines.insert(name.clone(), number) {
            let what = format!("expected a new name, found `{name}` of line {first}");
            faults.add(fault(what))?;
            continue;
        }
        let Some((_, mask)) = find(&mask_files, mask).or_else(|| find(&mask_files, name)) else {
            faults.add(missing("a mask", name, masks))?;
            continue;
        };
        let mask = match mask {
            Ok(mask) => mask,
            Err(what) => {
                faults.add(fault(what))?;
                continue;
            }
        };
        entries.push(Entry { name: name.clone(), image: image.clone(), mask: mask.clone() });
    }
    if all == 0 {
        let what = "expected names of images, found none".into();
        return Err(Error::Entry { path: list.into(), what });
    }
    faults.close(list, "lines", all)?;
    Ok(entries)
}

/// The entries of a folder of images and one of masks, by the names of both.
///
/// # Errors
/// [`Error::Io`]; [`Error::Entry`] without images; [`Error::TooManyFaults`] for images without a
/// mask, or the first of them where none is tolerated.
pub(super) fn paired(images: &Path, masks: &Path, share: f64) -> Result<Vec<Entry>> {
    let (image_files, mask_files) = (by_stem(images)?, masks_by_stem(masks)?);
    let all = image_files.len();
    if all == 0 {
        let what = "expected images, found none".into();
        return Err(Error::Entry { path: images.into(), what });
    }
    let mut faults = Faults::new(share);
    let mut entries = Vec::with_capacity(all);
    for (name, paths) in image_files {
        let pair = match mask_files.get(&name) {
            Some(masks) => only(&name, &paths, &name)
                .and_then(|image| Ok((image.clone(), only(&name, masks, &name)?.clone()))),
            None => {
                let (name, folder) = (name.escape_debug(), masks.display());
                Err(format!("expected a mask `{name}` in {folder}, found none"))
            }
        };
        match pair {
            Ok((image, mask)) => entries.push(Entry { name, image, mask }),
            Err(what) => faults.add(Error::Entry { path: images.into(), what })?,
        }
    }
    faults.close(images, "images", all)?;
    entries.sort_by(|a, b| natural::compare(&a.name, &b.name));
    Ok(entries)
}

/// Image files by their path below a folder without the extension: several, where they differ in it
/// alone.
type Files = BTreeMap<String, Vec<PathBuf>>;

/// The file that a name means: the name, or the longest end of its path that is one; or what is wrong
/// with it.
fn find<'a>(files: &'a Files, name: &str) -> Option<(&'a String, Result<&'a PathBuf, String>)> {
    let name = name.replace('\\', "/");
    let mut end = stem(&name).trim_start_matches("./");
    loop {
        if let Some((found, paths)) = files.get_key_value(end) {
            return Some((found, only(found, paths, &name)));
        }
        end = end.split_once('/')?.1;
    }
}

/// The file of `paths` that `name` means: the only one, or that with its extension.
fn only<'a>(stem: &str, paths: &'a [PathBuf], name: &str) -> Result<&'a PathBuf, String> {
    if let [one] = paths {
        return Ok(one);
    }
    let ending = |name: &str| name.rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
    let wanted = Some(name).filter(|name| is_image(name)).and_then(ending);
    let of_ending = |path: &&PathBuf| path.to_str().and_then(ending) == wanted;
    let found = wanted.as_ref().and_then(|_| paths.iter().find(of_ending));
    found.ok_or_else(|| {
        let names = paths.iter().filter_map(|path| path.file_name());
        let names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        format!(
            "`{}` is {}: expected one of them, or its name with the extension in a list",
            stem.escape_debug(),
            names.join(" and ").escape_debug()
        )
    })
}

/// [`by_stem`] of masks: a JPEG beside one is a picture of it.
fn masks_by_stem(folder: &Path) -> Result<Files> {
    let mut files = by_stem(folder)?;
    let is_jpeg = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
        matches!(ending.as_deref(), Some("jpg" | "jpeg"))
    };
    for paths in files.values_mut().filter(|paths| !paths.iter().all(is_jpeg)) {
        paths.retain(|path| !is_jpeg(path));
    }
    Ok(files)
}

/// The name of a file without the extension of an image.
fn stem(name: &str) -> &str {
    match is_image(name) {
        true => name.rsplit_once('.').map_or(name, |(stem, _)| stem),
        false => name,
    }
}

/// The image files below a folder, by their path in it without the extension.
fn by_stem(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    let mut walk = Walk::new(Again::Skip, Unreadable::Refuse);
    walk.start(folder, "", ());
    while let Some((folder, entries)) = walk.next()? {
        for entry in entries {
            if entry.path.is_dir() {
                walk.enter(&folder, entry, ());
            } else if is_image(&entry.name) {
                let name = folder.relative(&entry);
                files.entry(stem(&name).to_string()).or_default().push(entry.path);
            }
        }
    }
    Ok(files)
}
