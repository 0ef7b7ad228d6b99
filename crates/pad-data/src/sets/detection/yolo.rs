//! The text files of YOLO: a line for each box.

use std::{fs, io, path::Path};

use pad_ops::ImageSize;

use super::{
    BoxClasses, LabelledImage, LeftOut, Object,
    bounds::bounded,
    files::{DetectionOptions, Entry, Opened, header_size},
};
use crate::{Error, Result, sets::ImageFolder};

/// Reads the images of a folder and their text files.
pub(super) fn open(images: &Path, labels: &Path, options: &DetectionOptions) -> Result<Opened> {
    let classes = match &options.classes {
        Some(classes) => classes.clone(),
        None => names(&labels.join("classes.txt"))?,
    };
    if !labels.is_dir() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(Error::Io { path: labels.into(), source });
    }
    let folder = ImageFolder::open(images)?;
    let (mut entries, mut left_out) = (Vec::with_capacity(folder.len()), LeftOut::default());
    let mut id = 0;
    for index in 0..folder.len() {
        let (Some(path), Some(name)) = (folder.path(index), folder.name(index)) else { continue };
        let size = header_size(path)?;
        let text_file = labels.join(Path::new(name).with_extension("txt"));
        let text = match fs::read_to_string(&text_file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(Error::Io { path: text_file, source }),
        };
        let mut objects = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            if line.trim().is_empty() {
                continue;
            }
            let fault = |what| Error::Line { path: text_file.clone(), line: number, what };
            let (class, corners) = object(line, size, &classes).map_err(fault)?;
            let bounded = bounded(corners, size, options.bad_boxes, &mut left_out);
            let Some(bbox) = bounded.map_err(|what| fault(format!("box {corners:?}: {what}")))?
            else {
                continue;
            };
            id += 1;
            let area = (bbox[2] - bbox[0]) * (bbox[3] - bbox[1]);
            objects.push(Object { bbox, class, area, crowd: false, id, mask: None });
        }
        let labelled = LabelledImage { id: index as i64 + 1, name: name.into(), size, objects };
        entries.push(Entry { path: path.into(), labelled });
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
pub(super) fn names(path: &Path) -> Result<BoxClasses> {
    let text =
        fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), source })?;
    let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
    BoxClasses::named(names)
        .map_err(|error| Error::Entry { path: path.into(), what: error.to_string() })
}
