//! The XML file of CVAT for a whole set (`CVAT for images 1.1`).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use pad_ops::ImageSize;
use roxmltree::Node;

use super::super::{
    BoxClasses, LeftOut,
    assembly::{Assembly, Labelled},
    entry::{DetectionOptions, Entry, Numbers, Opened, header_size},
    pictures::Pictures,
    xml::{attribute, children, with_document},
};
use crate::{
    Error, Result,
    sets::{
        faults::Faults,
        format::Format,
        splits::{names_of, place_of},
    },
};

/// Maximum size of a file, bytes: its tree takes several times that.
const BYTES: u64 = 1 << 30;

/// The file of a whole project.
const ALL: &str = "annotations.xml";

pub(super) const FORMAT: Format<DetectionOptions, Opened> = Format {
    name: "cvat",
    looks_for: Some("annotations.xml"),
    matches: |root, split| file(root, split).is_some(),
    open: |root, split, options| {
        let (file, whole) = file(root, split).unwrap_or_else(|| (root.join(ALL), false));
        read(root, split, &file, whole, options)
    },
};

/// The file that holds a part, and whether all of it is this part.
fn file(root: &Path, split: &str) -> Option<(PathBuf, bool)> {
    let named = root.join(split);
    if named.extension().is_some_and(|kind| kind == "xml") && named.is_file() {
        return Some((named, true));
    }
    let places = |name: &str| vec![root.join(name).join(ALL), root.join(format!("{name}.xml"))];
    if let Some((_, file)) = place_of(split, places, Path::is_file) {
        return Some((file, true));
    }
    let all = root.join(ALL);
    all.is_file().then_some((all, false))
}

/// An image of the file.
struct Read {
    /// The part that it belongs to; `None` if the file does not say.
    part: Option<String>,
    name: String,
    size: Option<ImageSize>,
    objects: Vec<Result<Labelled, String>>,
}

fn read(
    root: &Path,
    split: &str,
    path: &Path,
    whole: bool,
    options: &DetectionOptions,
) -> Result<Opened> {
    options.validate()?;
    options.without_masks("CVAT's XML")?;
    let fault = |what: String| Error::Entry { path: path.into(), what };
    let images: Vec<Read> = with_document(path, BYTES, "annotations of CVAT", |document| {
        let root = document.root_element();
        if !root.has_tag_name("annotations") {
            let found = root.tag_name().name().escape_debug();
            return Err(fault(format!("expected an element `annotations`, found `{found}`")));
        }
        Ok(children(root, "image").map(image).collect())
    })?;
    let parts = names_of(split);
    let is_part = |image: &Read| {
        let part = image.part.as_ref().map(|part| part.to_lowercase());
        part.is_some_and(|part| parts.contains(&part) || part == split.to_lowercase())
    };
    let kept: Vec<Read> = match whole {
        true => images,
        false => {
            let known: BTreeSet<String> = images
                .iter()
                .map(|image| image.part.clone().unwrap_or_else(|| "none".into()))
                .collect();
            let kept: Vec<Read> = images.into_iter().filter(is_part).collect();
            if kept.is_empty() {
                let known: Vec<String> = known.into_iter().collect();
                let what = format!(
                    "expected images of the subset `{split}`, found subsets {} (name the part `{ALL}` for all)",
                    known.join(", ")
                );
                return Err(fault(what));
            }
            kept
        }
    };
    if kept.is_empty() {
        return Err(fault("expected images, found none".into()));
    }
    let names: BTreeSet<String> = kept
        .iter()
        .flat_map(|image| image.objects.iter().flatten().map(|object| object.name.clone()))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let classes = options.classes_of(None, Numbers::Ours, || {
        BoxClasses::named(names.iter().copied()).map_err(|error| fault(error.to_string()))
    })?;
    let folders = match &options.images {
        Some(folder) => vec![folder.clone()],
        None => {
            let below = |folder: PathBuf| parts.iter().map(move |part| folder.join(part));
            let mut folders: Vec<PathBuf> =
                below(root.join("images")).chain(below(root.into())).collect();
            folders.extend([root.join("images"), root.into()]);
            folders
        }
    };
    let mut pictures = Pictures::best(&folders, kept.iter().map(|image| image.name.as_str()));
    let (all, mut faults) = (kept.len(), Faults::new(options.max_faulty));
    let mut found = Vec::with_capacity(all);
    let mut taken: BTreeMap<PathBuf, String> = BTreeMap::new();
    for image in kept {
        let place = pictures.exact(&image.name).or_else(|| pictures.alike(&image.name));
        let missing = || {
            let name = image.name.escape_debug();
            fault(format!("expected the file {}/{name}, found none", pictures.folder().display()))
        };
        let size = |path: &Path| image.size.map_or_else(|| header_size(path), Ok);
        let checked = place.ok_or_else(missing).and_then(|path| {
            match taken.insert(path.clone(), image.name.clone()) {
                Some(first) => Err(fault(format!("`{}` and `{first}` are one file", image.name))),
                None => Ok((size(&path)?, path)),
            }
        });
        match checked {
            Ok((size, path)) => found.push((path, size, image)),
            Err(error) => faults.add(error)?,
        }
    }
    let left_out = LeftOut { images: faults.close(path, "images", all)?, ..LeftOut::default() };
    let mut assembly = Assembly::new(&classes, &names, options, left_out);
    let mut entries = Vec::with_capacity(found.len());
    for ((file, size, image), id) in found.into_iter().zip(1..) {
        let mut objects = Vec::with_capacity(image.objects.len());
        for labelled in image.objects {
            let name = image.name.escape_debug();
            assembly.add(labelled, size, &mut objects, |what| fault(format!("{name}: {what}")))?;
        }
        entries.push(Entry::new(file, id, image.name, size, objects));
    }
    let left_out = assembly.close(path, "objects")?;
    Ok(Opened { entries, classes, left_out })
}

/// One image. What is no area (points, lines, tags) is not an object.
fn image(node: Node<'_, '_>) -> Read {
    let side = |name| {
        let side = attribute(node, name).ok()?;
        (side >= 1.0 && side <= f64::from(u32::MAX) && side.fract() == 0.0).then_some(side as usize)
    };
    let size = side("height").zip(side("width"));
    let shapes = node.children().filter(|child| child.is_element());
    let objects = shapes.filter_map(|shape| {
        let edges = match shape.tag_name().name() {
            "box" => edges(shape),
            "polygon" => around(shape),
            "ellipse" => ellipse(shape),
            "mask" => window(shape),
            _ => return None,
        };
        let label = shape.attribute("label").unwrap_or_default().trim();
        Some(match label.is_empty() {
            true => Err("expected an attribute `label`, found none".into()),
            false => edges.map(|bbox| Labelled { name: label.into(), bbox, difficult: false }),
        })
    });
    Read {
        part: node.attribute("subset").filter(|part| !part.is_empty()).map(String::from),
        name: node.attribute("name").unwrap_or_default().into(),
        size: size.map(|(height, width)| ImageSize::new(height, width)),
        objects: objects.collect(),
    }
}

/// A box, or that around a turned one. Errors are texts.
fn edges(node: Node<'_, '_>) -> Result<[f64; 4], String> {
    let number = |name| attribute(node, name);
    let [left, top, right, bottom] =
        [number("xtl")?, number("ytl")?, number("xbr")?, number("ybr")?];
    let turn = if node.has_attribute("rotation") { number("rotation")? } else { 0.0 };
    if turn == 0.0 {
        return Ok([left, top, right, bottom]);
    }
    let (sine, cosine) = (turn.to_radians().sin().abs(), turn.to_radians().cos().abs());
    let (x, y) = ((left + right) / 2.0, (top + bottom) / 2.0);
    let (wide, high) = ((right - left) / 2.0, (bottom - top) / 2.0);
    let (across, down) = (wide * cosine + high * sine, wide * sine + high * cosine);
    Ok([x - across, y - down, x + across, y + down])
}

/// The box around an outline `x,y;x,y;...`. Errors are texts.
fn around(node: Node<'_, '_>) -> Result<[f64; 4], String> {
    let text = node.attribute("points").unwrap_or_default();
    let point = |pair: &str| {
        let (x, y) = pair.split_once(',')?;
        Some([x.trim().parse::<f64>().ok()?, y.trim().parse::<f64>().ok()?])
    };
    let points: Option<Vec<[f64; 2]>> = text.split(';').map(point).collect();
    let points = points.filter(|points| points.len() >= 3);
    let points =
        points.ok_or("`points`: expected at least 3 points `x,y` with `;` between them")?;
    let extreme = |axis: usize, first: f64, choose: fn(f64, f64) -> f64| {
        points.iter().map(|point| point[axis]).fold(first, choose)
    };
    let (low, high) = (f64::INFINITY, f64::NEG_INFINITY);
    Ok([
        extreme(0, low, f64::min),
        extreme(1, low, f64::min),
        extreme(0, high, f64::max),
        extreme(1, high, f64::max),
    ])
}

/// The box around an ellipse. Errors are texts.
fn ellipse(node: Node<'_, '_>) -> Result<[f64; 4], String> {
    let number = |name| attribute(node, name);
    let (x, y, across, down) = (number("cx")?, number("cy")?, number("rx")?, number("ry")?);
    Ok([x - across, y - down, x + across, y + down])
}

/// The window of a mask. Errors are texts.
fn window(node: Node<'_, '_>) -> Result<[f64; 4], String> {
    let number = |name| attribute(node, name);
    let (left, top) = (number("left")?, number("top")?);
    Ok([left, top, left + number("width")?, top + number("height")?])
}
