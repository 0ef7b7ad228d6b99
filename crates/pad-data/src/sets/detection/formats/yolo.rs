//! The text files of YOLO: a line for each box.

use std::{fs, io, path::Path};

use pad_ops::ImageSize;

use super::super::{
    BoxClasses, LeftOut, Object, Others,
    bounds::bounded,
    entry::{DetectionOptions, Entry, Opened, header_size},
};
use crate::{
    Error, Result,
    sets::{ImageFolder, format::Format},
};

pub(super) const FORMAT: Format<DetectionOptions, Opened> = Format {
    name: "yolo",
    looks_for: Some("labels"),
    matches: |root, _| root.join("labels").is_dir(),
    open: |root, split, options| {
        let all = root.join("labels");
        let labels = all.join(split);
        // Names may stand beside the folders or among the text files of either level.
        read(&root.join("images").join(split), &labels, &[&labels, &all, root], options)
    },
};

/// Reads the images of a folder and their text files. Names, unless given, are those of
/// `classes.txt` in the first of the folders `names` that has one.
pub(in super::super) fn read(
    images: &Path,
    labels: &Path,
    names: &[&Path],
    options: &DetectionOptions,
) -> Result<Opened> {
    options.without_masks("YOLO")?;
    let file = names.iter().map(|folder| folder.join("classes.txt")).find(|file| file.is_file());
    // The numbers in the files are places in `classes.txt`; without one, in the given classes.
    let all = match (&options.classes, file) {
        (_, Some(file)) => class_names(&file)?,
        (Some(classes), None) => classes.clone(),
        (None, None) => class_names(&names.first().unwrap_or(&labels).join("classes.txt"))?,
    };
    let classes = options.classes_of(None, || Ok(all.clone()))?;
    if !labels.is_dir() {
        let cause = io::Error::from(io::ErrorKind::NotFound);
        return Err(Error::Io { path: labels.into(), cause });
    }
    let folder = ImageFolder::open(images)?;
    let (mut entries, mut left_out) =
        (Vec::with_capacity(folder.files().len()), LeftOut::default());
    let mut id = 0;
    for ((path, name), number) in folder.files().zip(1..) {
        let size = header_size(path)?;
        let text_file = labels.join(Path::new(name).with_extension("txt"));
        let text = match fs::read_to_string(&text_file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(cause) => return Err(Error::Io { path: text_file, cause }),
        };
        let mut objects = Vec::new();
        for (line, line_number) in text.lines().zip(1..) {
            if line.trim().is_empty() {
                continue;
            }
            let fault = |what| Error::Line { path: text_file.clone(), line: line_number, what };
            let (class, corners) = object(line, size, &all).map_err(fault)?;
            let Some(class) = classes.by_name(all.name(class)) else {
                if classes.others == Others::Refuse {
                    let (list, name) = (classes.list(), all.name(class));
                    return Err(fault(format!(
                        "expected one of the classes {list}, found `{name}`"
                    )));
                }
                *left_out.categories.entry(all.name(class).into()).or_default() += 1;
                continue;
            };
            let bounded = bounded(corners, size, options.bad_boxes, &mut left_out);
            let Some(bbox) = bounded.map_err(|what| fault(format!("box {corners:?}: {what}")))?
            else {
                continue;
            };
            id += 1;
            let area = (bbox[2] - bbox[0]) * (bbox[3] - bbox[1]);
            objects.push(Object { bbox, class, area, crowd: false, id, mask: None });
        }
        entries.push(Entry::new(path.into(), number, name.into(), size, objects));
    }
    Ok(Opened { entries, classes, left_out })
}

/// One line: the class and the corners of the box, pixels.
fn object(line: &str, size: ImageSize, classes: &BoxClasses) -> Result<(u32, [f64; 4]), String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [class, bounds @ ..] = &fields[..] else {
        return Err("expected `class x y width height`, found nothing".into());
    };
    let bounds: &[&str; 4] = bounds.try_into().map_err(|_| {
        format!("expected 5 numbers, `class x y width height`, found {}", fields.len())
    })?;
    let class = class
        .parse::<u32>()
        .ok()
        .filter(|&class| (class as usize) < classes.len())
        .ok_or_else(|| format!("expected a class below {}, found `{class}`", classes.len()))?;
    let mut numbers = [0.0_f64; 4];
    for (number, text) in numbers.iter_mut().zip(bounds) {
        *number = text.parse().map_err(|_| format!("expected a number, found `{text}`"))?;
    }
    let [x, y, width, height] = numbers;
    let (high, wide) = (size.height as f64, size.width as f64);
    Ok((
        class,
        [
            (x - width / 2.0) * wide,
            (y - height / 2.0) * high,
            (x + width / 2.0) * wide,
            (y + height / 2.0) * high,
        ],
    ))
}

/// The names in a file, one a line.
fn class_names(path: &Path) -> Result<BoxClasses> {
    let text = fs::read_to_string(path).map_err(|cause| Error::Io { path: path.into(), cause })?;
    let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
    BoxClasses::named(names)
        .map_err(|error| Error::Entry { path: path.into(), what: error.to_string() })
}
