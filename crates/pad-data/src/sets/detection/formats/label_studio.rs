//! The JSON files of Label Studio: a list of tasks, whole (`JSON`) or short (`JSON-MIN`).
//!
//! Places are per cent of the image's sides; a turned box turns about its left top corner,
//! clockwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    path::{Path, PathBuf},
};

use pad_ops::ImageSize;
use serde_json::{Map, Value};

use super::{
    super::{
        LeftOut,
        assembly::{Assembly, Labelled, classes_named},
        entry::{DetectionOptions, Entry, Numbers, Opened, header_size},
        pictures::Pictures,
    },
    coco,
};
use crate::{
    Error, Result,
    sets::{faults::Faults, folder::is_image, format::Format, text::read_text},
};

/// Maximum size of a file, bytes: its values take several times that.
const BYTES: u64 = 1 << 30;

pub(super) const FORMAT: Format<DetectionOptions, Opened> = Format {
    name: "label-studio",
    looks_for: Some("a list of tasks in annotations/SPLIT.json or SPLIT.json"),
    matches: |root, split| file(root, split).is_some(),
    open: |root, split, options| {
        let missing = || (split.into(), root.join("annotations").join(format!("{split}.json")));
        let (part, file) = file(root, split).unwrap_or_else(missing);
        read(&file, &coco::folders(root, &part, &file), options)
    },
};

/// The file of a part, in the places of COCO's, if it holds a list.
fn file(root: &Path, split: &str) -> Option<(String, PathBuf)> {
    let (part, file) = coco::annotations(root, split)?;
    let file = file.ok()?;
    let mut start = Vec::new();
    pad_ops::fs::open(&file).ok()?.take(512).read_to_end(&mut start).ok()?;
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&start);
    start.trim_ascii_start().starts_with(b"[").then_some((part, file))
}

/// The part of an image that a region covers, per cent of its sides.
enum Outline {
    Box { left: f64, top: f64, width: f64, height: f64, turn: f64 },
    Ellipse { x: f64, y: f64, across: f64, down: f64, turn: f64 },
    Points(Vec<[f64; 2]>),
}

/// A labelled region; its outline, or what is wrong with it.
struct Region {
    labels: Vec<String>,
    outline: Result<Outline, String>,
    /// Size of the image that it was drawn on.
    size: Option<ImageSize>,
    /// What it was drawn on: mostly the field of the image.
    drawn_on: Option<String>,
}

/// A field of a task with the address of an image.
struct Field {
    name: String,
    address: String,
}

/// A task: an image with its regions.
struct Task {
    /// At least one; several where a task shows several images.
    images: Vec<Field>,
    /// `None` if nothing was annotated yet.
    regions: Option<Vec<Region>>,
    /// Number of annotations beside the one that is read.
    others: usize,
    /// Number of key points.
    points: usize,
}

fn read(path: &Path, folders: &[PathBuf], options: &DetectionOptions) -> Result<Opened> {
    options.validate()?;
    options.without_masks("Label Studio's JSON")?;
    let fault = |what: String| Error::Entry { path: path.into(), what };
    let tasks: Vec<Value> = serde_json::from_str(&read_text(path, BYTES)?)
        .map_err(|error| fault(format!("expected a list of tasks: {error}")))?;
    if tasks.is_empty() {
        return Err(fault("expected tasks, found none".into()));
    }
    let all = tasks.len();
    let mut faults = Faults::new(options.max_faulty);
    let mut left_out = LeftOut::default();
    let mut others = 0;
    let mut read = Vec::with_capacity(all);
    for (value, place) in tasks.iter().zip(1_usize..) {
        match task(value) {
            Ok(Task { regions: None, .. }) => left_out.unlabelled += 1,
            Ok(Task { images, regions: Some(regions), others: more, points }) => {
                others += more;
                left_out.shapes += points;
                read.push((place, images, regions));
            }
            Err(what) => faults.add(fault(format!("task {place}: {what}")))?,
        }
    }
    let common = common_field(read.iter().map(|(_, images, regions)| (&images[..], &regions[..])));
    let mut kept = Vec::with_capacity(read.len());
    for (place, images, regions) in read {
        match image_of(&images, &regions, common.as_deref()) {
            Ok(image) => kept.push((image, regions)),
            Err(what) => faults.add(fault(format!("task {place}: {what}")))?,
        }
    }
    drop(tasks);
    left_out.images += faults.close(path, "tasks", all)?;
    let shown = path.display();
    if left_out.unlabelled == all {
        return Err(fault(format!("expected annotations of some of {all} tasks, found none")));
    }
    if left_out.unlabelled > 0 {
        let unlabelled = left_out.unlabelled;
        tracing::warn!("{shown}: {unlabelled} of {all} tasks are not annotated and are left out");
    }
    if left_out.shapes > 0 {
        let points = left_out.shapes;
        tracing::warn!("{shown}: {points} key points cover no area and are left out");
    }
    if others > 0 {
        tracing::warn!("{shown}: tasks have {others} more annotations: the last of each is read");
    }
    let labels = kept.iter().flat_map(|(_, regions)| regions.iter().flat_map(|one| &one.labels));
    let names: BTreeSet<String> = labels.cloned().collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let classes = options.classes_of(None, Numbers::Ours, || {
        classes_named(&names, path, || {
            Some(fault("expected regions with labels, found none".into()))
        })
    })?;
    let given = options.images.as_ref().map(std::slice::from_ref);
    let searched = kept.iter().flat_map(|(image, _)| [image.as_str(), without_hash(image)]);
    let mut pictures = Pictures::best(given.unwrap_or(folders), searched);
    let (images, mut faults) = (kept.len(), Faults::new(options.max_faulty));
    let mut found = Vec::with_capacity(images);
    let mut taken: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (image, regions) in kept {
        let checked = placed(&mut pictures, &image).map_err(&fault).and_then(|path| {
            let said = regions.iter().find_map(|region| region.size);
            let size = said.map_or_else(|| header_size(&path), Ok)?;
            match taken.insert(path.clone(), image.clone()) {
                Some(first) => Err(fault(format!("`{image}` and `{first}` are one file"))),
                None => Ok((path, size)),
            }
        });
        match checked {
            Ok((path, size)) => found.push((path, size, regions)),
            Err(error) => faults.add(error)?,
        }
    }
    left_out.images += faults.close(path, "images", images)?;
    let mut assembly = Assembly::new(&classes, &names, options, left_out);
    let mut entries = Vec::with_capacity(found.len());
    for ((file, size, regions), id) in found.into_iter().zip(1..) {
        let below = file.strip_prefix(pictures.folder()).unwrap_or(&file).to_string_lossy();
        let name = below.replace(std::path::MAIN_SEPARATOR, "/");
        let mut objects = Vec::new();
        for region in regions {
            let bbox = region.outline.map(|outline| outline.bounds(size));
            for name in region.labels {
                let labelled = bbox.clone().map(|bbox| Labelled { name, bbox, difficult: false });
                let shown = file.display();
                assembly
                    .add(labelled, size, &mut objects, |what| fault(format!("{shown}: {what}")))?;
            }
        }
        entries.push(Entry::new(file, id, name, size, objects));
    }
    let left_out = assembly.close(path, "regions")?;
    Ok(Opened { entries, classes, left_out })
}

/// The file of an image, with or without the letters that the server puts in front of uploaded
/// names. Errors are texts.
fn placed(pictures: &mut Pictures, image: &str) -> Result<PathBuf, String> {
    let names = [image, without_hash(image)];
    let exact = names.iter().find_map(|name| pictures.exact(name));
    let found = exact.or_else(|| names.iter().find_map(|name| pictures.alike(name)));
    let folder = pictures.folder().display();
    found.ok_or_else(|| format!("expected the file {folder}/{}, found none", image.escape_debug()))
}

/// `im.png` of `/data/upload/1/0a1b2c3d-im.png`; other names as they are.
fn without_hash(image: &str) -> &str {
    let file = image.rsplit('/').next().unwrap_or(image);
    let is_hash = |text: &str| text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match file.split_once('-') {
        Some((hash, name)) if is_hash(hash) && !name.is_empty() => name,
        _ => image,
    }
}

/// One task. Errors are texts.
fn task(value: &Value) -> Result<Task, String> {
    let Value::Object(fields) = value else { return Err("expected an object".into()) };
    let data = fields.get("data").and_then(Value::as_object);
    let images = images_of(data.unwrap_or(fields))?;
    if data.is_none() {
        // The short form: every list of regions is a field of its own.
        let lists = fields.values().filter_map(Value::as_array).flatten();
        let objects: Vec<&Map<String, Value>> = lists.filter_map(Value::as_object).collect();
        let points = objects.iter().filter(|one| is_key_point(one)).count();
        let regions = objects.iter().filter_map(|one| region(one, one)).collect();
        return Ok(Task { images, regions: Some(regions), others: 0, points });
    }
    // Earlier versions called them completions.
    let annotations = fields.get("annotations").or(fields.get("completions"));
    let annotations = annotations.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is_kept = |one: &&Value| !one["was_cancelled"].as_bool().unwrap_or(false);
    let kept: Vec<&Value> = annotations.iter().filter(is_kept).collect();
    let results = kept
        .last()
        .map(|annotation| annotation["result"].as_array().map_or(&[][..], Vec::as_slice));
    let values = results.unwrap_or_default().iter().filter_map(|one| one["value"].as_object());
    let points = values.filter(|value| is_key_point(value)).count();
    let others = kept.len().saturating_sub(1);
    Ok(Task { images, regions: results.map(regions_of), others, points })
}

/// The fields with the address of an image. Errors are texts.
fn images_of(fields: &Map<String, Value>) -> Result<Vec<Field>, String> {
    let address = |text: &str| {
        // `?d=` is a path of the server, other queries are not part of a name.
        let end = if text.contains("?d=") { None } else { text.find(['?', '#']) };
        text[..end.unwrap_or(text.len())].to_string()
    };
    let texts = fields.iter().filter_map(|(name, value)| Some((name, address(value.as_str()?))));
    let images = texts.filter(|(_, address)| is_image(address));
    let images: Vec<Field> =
        images.map(|(name, address)| Field { name: name.clone(), address }).collect();
    match images.is_empty() {
        true => Err("expected the address of an image of a known extension, found none".into()),
        false => Ok(images),
    }
}

/// The images of a task that its regions were drawn on.
fn drawn_on<'a>(images: &'a [Field], regions: &[Region]) -> Vec<&'a Field> {
    let names: BTreeSet<&str> = regions.iter().filter_map(|one| one.drawn_on.as_deref()).collect();
    images.iter().filter(|field| names.contains(field.name.as_str())).collect()
}

/// The field that the regions of all tasks were drawn on, if it is one: that of a task that shows
/// several images and has no region.
fn common_field<'a>(tasks: impl Iterator<Item = (&'a [Field], &'a [Region])>) -> Option<String> {
    let fields: BTreeSet<&str> = tasks
        .flat_map(|(images, regions)| drawn_on(images, regions))
        .map(|field| field.name.as_str())
        .collect();
    let mut fields = fields.into_iter();
    let only = fields.next()?;
    fields.next().is_none().then(|| only.to_string())
}

/// The address of the image of a task: the only one, or that which its regions were drawn on, or,
/// without any, those of the other tasks. Errors are texts.
fn image_of(images: &[Field], regions: &[Region], common: Option<&str>) -> Result<String, String> {
    let addresses: BTreeSet<&str> = images.iter().map(|field| field.address.as_str()).collect();
    let of_others = images.iter().find(|field| Some(field.name.as_str()) == common);
    let chosen = match (&drawn_on(images, regions)[..], of_others, images) {
        ([only], ..) => Some(*only),
        ([], Some(field), _) if regions.is_empty() => Some(field),
        (_, _, [first, ..]) if addresses.len() == 1 => Some(first),
        _ => None,
    };
    chosen.map(|field| field.address.clone()).ok_or_else(|| {
        let names: Vec<String> =
            images.iter().map(|field| format!("`{}`", field.name.escape_debug())).collect();
        let names = names.join(", ");
        format!(
            "expected one image, or regions whose `to_name` is its field, found images in {names}"
        )
    })
}

/// Whether a value is a key point, which covers no area.
fn is_key_point(value: &Map<String, Value>) -> bool {
    value.contains_key("keypointlabels")
}

/// The regions of an annotation. Where shapes and labels are results of their own, they share an
/// `id`.
fn regions_of(results: &[Value]) -> Vec<Region> {
    let mut labels: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for result in results {
        if let Some(id) = result["id"].as_str() {
            let found = labels.entry(id).or_default();
            if found.is_empty() {
                *found = result["value"].as_object().map(labels_of).unwrap_or_default();
            }
        }
    }
    let mut seen = BTreeSet::new();
    let mut regions = Vec::new();
    for result in results {
        let Some(value) = result["value"].as_object() else { continue };
        let (Some(fields), id) = (result.as_object(), result["id"].as_str()) else { continue };
        let Some(mut region) = region(value, fields) else { continue };
        if let Some(id) = id {
            if !seen.insert(id) {
                continue;
            }
            region.labels.clone_from(&labels[id]);
        }
        if !region.labels.is_empty() {
            regions.push(region);
        }
    }
    regions
}

/// The names of a region: the texts of its list `rectanglelabels`, `labels` or of another such
/// name.
fn labels_of(value: &Map<String, Value>) -> Vec<String> {
    let lists = value.iter().filter(|(key, _)| key.ends_with("labels"));
    let texts = lists.filter_map(|(_, list)| list.as_array()).flatten();
    let texts = texts.filter_map(Value::as_str).map(str::trim);
    texts.filter(|text| !text.is_empty()).map(String::from).collect()
}

/// A region with its labels, of the object that holds its shape and the one that holds the size;
/// `None` for what covers no part of an image (choices, texts, key points).
fn region(value: &Map<String, Value>, facts: &Map<String, Value>) -> Option<Region> {
    let number = |key: &str| value.get(key).and_then(number);
    let has = |key: &str| value.contains_key(key);
    let missing = |key: &str| format!("expected a number for `{key}`");
    let get = |key: &str| number(key).ok_or_else(|| missing(key));
    let turn = number("rotation").unwrap_or(0.0);
    let outline = if is_key_point(value) {
        return None;
    } else if has("points") {
        points(&value["points"])
    } else if has("radiusX") {
        (|| {
            let (x, y) = (get("x")?, get("y")?);
            Ok(Outline::Ellipse { x, y, across: get("radiusX")?, down: get("radiusY")?, turn })
        })()
    } else if has("x") && has("width") {
        (|| {
            let (left, top) = (get("x")?, get("y")?);
            Ok(Outline::Box { left, top, width: get("width")?, height: get("height")?, turn })
        })()
    } else if has("rle") {
        Err("masks of a brush are not read: export them as PNG or COCO".into())
    } else {
        return None;
    };
    let side = |key: &str| {
        let side = facts.get(key).and_then(self::number)?;
        let is_side = side >= 1.0 && side <= f64::from(u32::MAX) && side.fract() == 0.0;
        is_side.then_some(side as usize)
    };
    let size = side("original_height").zip(side("original_width"));
    let outline = match facts.get("image_rotation").and_then(self::number).unwrap_or(0.0) {
        0.0 => outline,
        turn => Err(format!("a region of an image that was turned by {turn} is not read")),
    };
    let size = size.map(|(height, width)| ImageSize::new(height, width));
    let drawn_on = facts.get("to_name").and_then(Value::as_str).map(String::from);
    Some(Region { labels: labels_of(value), outline, size, drawn_on })
}

/// The corners of an outline. Errors are texts.
fn points(value: &Value) -> Result<Outline, String> {
    let corner = |value: &Value| Some([number(value.get(0)?)?, number(value.get(1)?)?]);
    let corners: Option<Vec<[f64; 2]>> =
        value.as_array().and_then(|corners| corners.iter().map(corner).collect());
    let corners = corners.filter(|corners| corners.len() >= 3);
    let what = || "`points`: expected at least 3 pairs of numbers".to_string();
    corners.map(Outline::Points).ok_or_else(what)
}

fn number(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    number.filter(|number| number.is_finite())
}

impl Outline {
    /// Left, top, right and bottom edge in an image of `size`, pixels.
    fn bounds(&self, size: ImageSize) -> [f64; 4] {
        let (wide, high) = (size.width as f64 / 100.0, size.height as f64 / 100.0);
        match self {
            Self::Box { left, top, width, height, turn } => {
                let (sine, cosine) = turn.to_radians().sin_cos();
                let (x, y) = (left * wide, top * high);
                let (across, down) = (width * wide, height * high);
                if *turn == 0.0 {
                    return [x, y, x + across, y + down];
                }
                let corner =
                    |a: f64, b: f64| [x + a * cosine - b * sine, y + a * sine + b * cosine];
                let corners = [(0.0, 0.0), (across, 0.0), (0.0, down), (across, down)];
                around(corners.into_iter().map(|(a, b)| corner(a, b)))
            }
            Self::Ellipse { x, y, across, down, turn } => {
                let (sine, cosine) = turn.to_radians().sin_cos();
                let (a, b) = (across * wide, down * high);
                let half = (a * cosine).hypot(b * sine);
                let rise = (a * sine).hypot(b * cosine);
                let (x, y) = (x * wide, y * high);
                [x - half, y - rise, x + half, y + rise]
            }
            Self::Points(points) => around(points.iter().map(|[x, y]| [x * wide, y * high])),
        }
    }
}

/// The box around points.
fn around(points: impl Iterator<Item = [f64; 2]>) -> [f64; 4] {
    let start = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    points.fold(start, |[left, top, right, bottom], [x, y]| {
        [left.min(x), top.min(y), right.max(x), bottom.max(y)]
    })
}
