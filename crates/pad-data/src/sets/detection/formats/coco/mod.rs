//! COCO files, in the layouts of COCO itself, Roboflow, CVAT and Label Studio.

mod categories;
mod file;
mod images;
mod key;
mod objects;
mod values;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::{categories::Categories, images::Images, objects::Reader};
use super::super::{
    BoxClasses, LabelledImage, LeftOut,
    entry::{DetectionOptions, Entry, Numbers, Opened},
};
use crate::{
    Error, Result,
    sets::{
        format::Format,
        splits::{names_of, place_of},
    },
};

pub(super) const FORMAT: Format<DetectionOptions, Opened> = Format {
    name: "coco",
    looks_for: Some(
        "annotations/SPLIT.json, annotations/instances_SPLIT.json or SPLIT/_annotations.coco.json",
    ),
    matches: |root, split| annotations(root, split).is_some(),
    open: |root, split, options| {
        let (part, file) = match annotations(root, split) {
            Some((part, Ok(file))) => (part, file),
            Some((_, Err(several))) => return Err(several),
            None => (split.into(), root.join("annotations").join(format!("{split}.json"))),
        };
        read(&file, &folders(root, &part, &file), options, None)
    },
};

/// The annotations of a part, with its name. COCO's own files have a year in their names; two years
/// are an error.
pub(super) fn annotations(root: &Path, split: &str) -> Option<(String, Result<PathBuf>)> {
    let named = [root.join(split), root.join("annotations").join(split)];
    let is_json = |path: &&PathBuf| path.extension().is_some_and(|found| found == "json");
    if let Some(file) = named.iter().filter(is_json).find(|path| path.is_file()) {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return Some((stem, Ok(file.clone())));
    }
    let places = |name: &str| {
        let in_folder = |file: String| root.join("annotations").join(file);
        let in_part = root.join(name);
        vec![
            in_folder(format!("{name}.json")),
            in_folder(format!("instances_{name}.json")),
            in_part.join("_annotations.coco.json"),
            in_part.join("annotations.json"),
            // Label Studio and FiftyOne, whose sets have no parts: the part is `.`.
            in_part.join("result.json"),
            in_part.join("labels.json"),
            in_part.join(format!("{name}.json")),
            root.join(format!("{name}.json")),
        ]
    };
    if let Some((name, file)) = place_of(split, places, Path::is_file) {
        return Some((name, Ok(file)));
    }
    let folder = root.join("annotations");
    let mut years: Vec<(String, PathBuf)> = Vec::new();
    for entry in fs::read_dir(&folder).ok()?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = file.strip_suffix(".json") else { continue };
        let part = stem.strip_prefix("instances_").unwrap_or(stem);
        let is_year =
            |year: &str| year.len() == 4 && year.bytes().all(|digit| digit.is_ascii_digit());
        let is_of = |name: &String| part.strip_prefix(name.as_str()).is_some_and(is_year);
        if names_of(split).iter().any(is_of) {
            years.push((part.into(), entry.path()));
        }
    }
    years.sort();
    match &years[..] {
        [] => None,
        [(part, file)] => Some((part.clone(), Ok(file.clone()))),
        [(_, first), .., (_, last)] => {
            let names = [first, last]
                .map(|file| file.file_name().unwrap_or_default().display().to_string());
            let what = format!(
                "expected one file of `{split}`, found {} and {}: name the part by one of them",
                names[0], names[1]
            );
            Some((split.into(), Err(Error::Entry { path: folder, what })))
        }
    }
}

/// Folders in which the images of a part may lie, best first.
pub(super) fn folders(root: &Path, part: &str, file: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for prefix in ["", "instances_"] {
        let Some(part) = part.strip_prefix(prefix) else { continue };
        for name in names_of(part) {
            let images = root.join("images");
            folders.extend([root.join(&name).join("images"), images.join(&name), root.join(&name)]);
        }
    }
    folders.extend(file.parent().map(Path::to_path_buf));
    folders.extend(["images", "data", ""].map(|name| root.join(name)));
    folders
}

/// Reads `path`, whose file names begin at the first of `folders` that holds them; `preset` are the
/// classes of its format.
pub(in super::super) fn read(
    path: &Path,
    folders: &[PathBuf],
    options: &DetectionOptions,
    preset: Option<&BoxClasses>,
) -> Result<Opened> {
    options.validate()?;
    let file = file::read(path, options.masks)?;
    let fault = |what: String| Error::Entry { path: path.into(), what };
    if file.images.is_empty() {
        return Err(fault("expected images, found none".into()));
    }
    let categories = Categories::of(&file, &options.wanted()).map_err(fault)?;
    let classes = options.classes_of(preset, Numbers::Files, || {
        if categories.is_empty() {
            let first = file.annotations.first();
            let what = first.map_or("expected categories, found none".into(), |first| {
                let found = &first.category_id;
                format!("annotation 1 of the file: expected `category_id`, found {found}")
            });
            return Err(fault(what));
        }
        categories.classes().map_err(|error| fault(error.to_string()))
    })?;
    let given = options.images.as_ref().map(std::slice::from_ref);
    let mut left_out = LeftOut::default();
    let mut images =
        Images::of(path, file.images, given.unwrap_or(folders), options, &mut left_out)?;
    let reader = Reader { path, categories: &categories, classes: &classes, options };
    reader.add(file.annotations, &mut images, &mut left_out)?;
    let entries = images.into_list().into_iter().map(|image| {
        let images::Listed { path, id, text_id, name, size, objects } = image;
        let labelled = LabelledImage { id, text_id, name, size, objects };
        Entry { path, labelled: Arc::new(labelled) }
    });
    Ok(Opened { entries: entries.collect(), classes, left_out })
}
