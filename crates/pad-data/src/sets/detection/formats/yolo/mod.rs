//! The text files of YOLO: a line for each box. Layouts of Ultralytics, Roboflow, CVAT and Darknet.

mod line;
mod places;
mod yaml;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub(in super::super) use self::places::Places;
use self::yaml::Data;
use super::super::{
    BoxClasses, LeftOut,
    assembly::Assembly,
    entry::{DetectionOptions, Entry, Numbers, Opened, header_size},
    listed::{Listed, of_folder, of_list},
};
use crate::{
    Error, Result,
    sets::{
        faults::Faults,
        format::Format,
        splits::names_of,
        text::{PAGE_BYTES, read_text},
    },
};

/// The file of the names of classes, one a line.
const LIST: &str = "classes.txt";

pub(super) const FORMAT: Format<DetectionOptions, Opened> = Format {
    name: "yolo",
    looks_for: Some("labels, SPLIT/labels, data.yaml, classes.txt or SPLIT/classes.txt"),
    matches: |root, split| {
        let in_part = |part: String| {
            let part = root.join(part);
            part.join("labels").is_dir() || part.join(LIST).is_file()
        };
        root.join("labels").is_dir()
            || root.join(LIST).is_file()
            || names_of(split).into_iter().any(in_part)
            || data_file(root).is_some()
            || names_file(root).is_some()
    },
    open,
};

fn open(root: &Path, split: &str, options: &DetectionOptions) -> Result<Opened> {
    options.without_masks("YOLO")?;
    let data = match data_file(root) {
        Some(file) => Some((Data::read(&file)?, file)),
        None => None,
    };
    let parts = names_of(split);
    let images = images(root, &parts, data.as_ref().map(|(data, _)| data), options)?;
    let mut labels = Vec::new();
    for part in &parts {
        labels.extend([root.join("labels").join(part), root.join(part).join("labels")]);
    }
    labels.push(root.join("labels"));
    let mut folders: Vec<PathBuf> = labels.clone();
    folders.extend(parts.iter().map(|part| root.join(part)));
    folders.push(root.into());
    let names = Names {
        folders,
        // Names may stand beside the folders or among the text files of either level.
        file: names_file(root),
        data: data.as_ref().and_then(|(data, file)| Some((data.names.clone()?, file.clone()))),
        extra: data.as_ref().map_or(0, |(data, _)| data.extra),
    };
    let places = match options.images {
        Some(_) => Places::of_images_elsewhere(labels),
        None => Places::of_set(root, labels),
    };
    read(images, &places, &names, options)
}

/// Where names of classes are looked for.
#[derive(Default)]
pub(in super::super) struct Names {
    /// Folders that may hold `classes.txt`.
    folders: Vec<PathBuf>,
    /// Another file of them.
    file: Option<PathBuf>,
    /// Those of `data.yaml`, and that file.
    data: Option<(Vec<String>, PathBuf)>,
    /// Numbers behind the box of each line.
    extra: usize,
}

impl Names {
    /// `classes.txt` in `folder`.
    pub(in super::super) fn in_folder(folder: &Path) -> Self {
        Self { folders: vec![folder.into()], ..Self::default() }
    }

    /// The names that the numbers in the files mean; those of the options, if there is no file.
    fn read(&self, options: &DetectionOptions) -> Result<Vec<String>> {
        let list = self.folders.iter().map(|folder| folder.join(LIST));
        let list = list.into_iter().find(|file| file.is_file()).or_else(|| self.file.clone());
        match (list, &self.data) {
            (Some(list), data) => {
                let names = lines(&list)?;
                if let Some((_, file)) = data.as_ref().filter(|(others, _)| *others != names) {
                    let (list, file) = (list.display(), file.display());
                    tracing::warn!(
                        "{list} and {file} name other classes: those of the first count"
                    );
                }
                Ok(names)
            }
            (None, Some((names, _))) => Ok(names.clone()),
            (None, None) => {
                let wanted = options.wanted();
                let classes = options.classes.iter().flat_map(BoxClasses::classes);
                let given = classes.map(|class| class.name.as_str());
                let given: Vec<String> = given.chain(wanted).map(String::from).collect();
                if !given.is_empty() {
                    return Ok(given);
                }
                let path = self.folders.first().map_or_else(PathBuf::new, |first| first.join(LIST));
                let folders =
                    self.folders.iter().skip(1).map(|folder| folder.display().to_string());
                let others: Vec<String> = folders.collect();
                let what = format!(
                    "expected the names of the classes, one a line, found no such file (nor one in {}, nor \
                     data.yaml with `names`)",
                    others.join(", ")
                );
                Err(Error::Entry { path, what })
            }
        }
    }
}

/// `data.yaml`, under the names that it has.
fn data_file(root: &Path) -> Option<PathBuf> {
    let known =
        ["data.yaml", "data.yml", "dataset.yaml", "dataset.yml"].map(|name| root.join(name));
    if let Some(file) = known.into_iter().find(|file| file.is_file()) {
        return Some(file);
    }
    // The only one of another name.
    let is_yaml =
        |path: &PathBuf| path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml");
    let mut others = fs::read_dir(root).ok()?.flatten().map(|entry| entry.path()).filter(is_yaml);
    let only = others.next()?;
    (others.next().is_none() && Data::read(&only).is_ok_and(|data| data.names.is_some()))
        .then_some(only)
}

/// `obj.names`, as Darknet and CVAT have it.
fn names_file(root: &Path) -> Option<PathBuf> {
    ["obj.names", "data/obj.names"]
        .map(|name| root.join(name))
        .into_iter()
        .find(|file| file.is_file())
}

/// The images of a part, whose names are `parts`.
fn images(
    root: &Path,
    parts: &[String],
    data: Option<&Data>,
    options: &DetectionOptions,
) -> Result<Vec<Listed>> {
    if let Some(folder) = &options.images {
        return of_folder(folder);
    }
    let places = data.map_or(&[][..], |data| data.places(parts));
    let base = data.and_then(|data| data.path.as_deref());
    let found: Vec<PathBuf> = places.iter().filter_map(|place| placed(root, base, place)).collect();
    if found.len() == places.len() && !found.is_empty() {
        let mut images = Vec::new();
        for place in &found {
            images.append(&mut match place.is_dir() {
                true => of_folder(place)?,
                false => of_list(place, &[root.into()], options.max_faulty)?,
            });
        }
        return Ok(images);
    }
    for part in parts {
        let folders = [root.join("images").join(part), root.join(part).join("images")];
        if let Some(folder) = folders.iter().find(|folder| folder.is_dir()) {
            return of_folder(folder);
        }
        let list = root.join(format!("{part}.txt"));
        if list.is_file() {
            return of_list(&list, &[root.into()], options.max_faulty);
        }
        if root.join(part).is_dir() {
            return of_folder(&root.join(part));
        }
    }
    let missed = root.join("images").join(parts.first().map_or("", String::as_str));
    of_folder(&missed)
}

/// The file or folder that `data.yaml` names, which may begin at its `path`, at its own folder, or,
/// as Roboflow writes it, one folder below.
fn placed(root: &Path, base: Option<&str>, place: &str) -> Option<PathBuf> {
    let place = place.replace('\\', "/");
    let inside = place.trim_start_matches("./").trim_start_matches("../");
    let mut places = vec![root.join(inside)];
    if let Some(base) = base {
        places.insert(0, root.join(base).join(&place));
    }
    places.push(root.join(&place));
    places.into_iter().find(|place| place.exists())
}

/// Reads images and their text files.
pub(in super::super) fn read(
    images: Vec<Listed>,
    places: &Places,
    names: &Names,
    options: &DetectionOptions,
) -> Result<Opened> {
    options.validate()?;
    options.without_masks("YOLO")?;
    let all_names = names.read(options)?;
    let path = places.folder();
    let classes = options.classes_of(None, Numbers::Ours, || {
        BoxClasses::named(distinct(&all_names))
            .map_err(|error| Error::Entry { path: path.into(), what: error.to_string() })
    })?;
    let all_names = distinct(&all_names);
    let all = images.len();
    let mut left_out = LeftOut::default();
    let mut faults = Faults::new(options.max_faulty);
    let mut found = Vec::with_capacity(all);
    let mut first_missed = None;
    for image in images {
        let (file, missed) = places.of(&image);
        if file.is_none() {
            left_out.unlabelled += 1;
            first_missed = first_missed.or(missed);
        }
        let read = || {
            let text =
                file.as_ref().map_or(Ok(String::new()), |file| read_text(file, PAGE_BYTES))?;
            Ok((header_size(&image.path)?, text))
        };
        match read() {
            Ok((size, text)) => found.push((image, size, file, text)),
            Err(error) => faults.add(error)?,
        }
    }
    if left_out.unlabelled == all {
        let looked_for = first_missed.unwrap_or_default();
        let what = format!(
            "expected a file of labels for some of {all} images, found none (looked for {})",
            looked_for.display()
        );
        return Err(Error::Entry { path: path.into(), what });
    }
    if left_out.unlabelled > 0 {
        let (folder, unlabelled) = (path.display(), left_out.unlabelled);
        tracing::warn!(
            "{folder}: {unlabelled} of {all} images have no file of labels: taken as without a box"
        );
    }
    left_out.images += faults.close(path, "images", all)?;
    let known: Vec<&str> = all_names.iter().map(String::as_str).collect();
    let mut assembly = Assembly::new(&classes, &known, options, left_out);
    let mut entries = Vec::with_capacity(found.len());
    for ((image, size, file, text), number) in found.into_iter().zip(1..) {
        let file = file.unwrap_or_default();
        let mut objects = Vec::new();
        for (line, line_number) in text.lines().map(str::trim).zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let labelled = line::object(line, size, &all_names, names.extra);
            assembly.add(labelled, size, &mut objects, |what| Error::Line {
                path: file.clone(),
                line: line_number,
                what,
            })?;
        }
        entries.push(Entry::new(image.path, number, image.name, size, objects));
    }
    let left_out = assembly.close(path, "boxes")?;
    Ok(Opened { entries, classes, left_out })
}

/// Names that differ: one that occurs again has its number added.
fn distinct(names: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::with_capacity(names.len());
    for (number, name) in names.iter().enumerate() {
        let again = all.contains(name);
        if again {
            tracing::warn!(
                "class {number} is called `{name}`, as one before it: taken as `{name} ({number})`"
            );
        }
        all.push(if again { format!("{name} ({number})") } else { name.clone() });
    }
    all
}

/// The names in a file, one a line.
fn lines(path: &Path) -> Result<Vec<String>> {
    let text = read_text(path, PAGE_BYTES)?;
    let mut names: Vec<String> = text.lines().map(|name| name.trim().to_string()).collect();
    while names.last().is_some_and(String::is_empty) {
        names.pop();
    }
    if names.is_empty() {
        let what = "expected names of classes, one a line, found none".into();
        return Err(Error::Entry { path: path.into(), what });
    }
    if let Some(blank) = names.iter().position(String::is_empty) {
        let what = format!("expected the name of class {blank}, found an empty line");
        return Err(Error::Line { path: path.into(), line: blank + 1, what });
    }
    Ok(names)
}
