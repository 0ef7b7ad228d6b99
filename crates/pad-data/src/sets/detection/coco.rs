//! COCO files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use pad_ops::ImageSize;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

use super::{
    BoxClass, BoxClasses, LabelledImage, LeftOut, Object, Others,
    bounds::bounded,
    files::{DetectionOptions, Entry, Opened, header_size},
};
use crate::{
    Error, Result,
    rle::{Rle, Segmentation},
};

/// What is read of a COCO file.
#[derive(Deserialize)]
struct Coco<S> {
    images: Vec<Image>,
    annotations: Vec<Annotation<S>>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: i64,
    file_name: String,
    width: Option<usize>,
    height: Option<usize>,
}

#[derive(Deserialize)]
struct Annotation<S> {
    id: i64,
    image_id: i64,
    category_id: i64,
    /// Left, top, width, height.
    bbox: [f64; 4],
    area: Option<f64>,
    #[serde(default)]
    iscrowd: u8,
    segmentation: Option<S>,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
}

/// Reads `path`, whose file names begin at `folder`.
pub(super) fn open(path: &Path, folder: &Path, options: &DetectionOptions) -> Result<Opened> {
    let fault = |what: String| Error::Entry { path: path.into(), what };
    let text = fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    // Where no masks are asked for, what is told of them is passed over: it is most of a file, and in many it is none.
    let coco = match options.masks {
        true => parse::<Value>(&text),
        false => parse::<IgnoredAny>(&text).map(Coco::without_masks),
    };
    let coco = coco.map_err(|error| fault(format!("expected COCO annotations: {error}")))?;
    unique("category", coco.categories.iter().map(|category| category.id)).map_err(fault)?;
    unique("image", coco.images.iter().map(|image| image.id)).map_err(fault)?;
    unique("annotation", coco.annotations.iter().map(|annotation| annotation.id)).map_err(fault)?;
    if coco.images.is_empty() {
        return Err(fault("expected images, found none".into()));
    }
    let classes = match &options.classes {
        Some(classes) => classes.clone(),
        None => all(&coco.categories).map_err(|error| fault(error.to_string()))?,
    };
    let mut entries = coco
        .images
        .iter()
        .map(|image| {
            entry(image, folder).map_err(|what| fault(format!("image {}: {what}", image.id)))
        })
        .collect::<Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| entry.labelled.id);
    let left_out =
        add(coco.annotations, &coco.categories, &classes, options, &mut entries).map_err(fault)?;
    Ok(Opened { entries, classes, left_out })
}

fn parse<S: DeserializeOwned>(text: &[u8]) -> serde_json::Result<Coco<S>> {
    serde_json::from_slice(text)
}

impl<S> Coco<S> {
    fn without_masks(self) -> Coco<Value> {
        let Self { images, annotations, categories } = self;
        let annotations = annotations.into_iter().map(|annotation| {
            let Annotation { id, image_id, category_id, bbox, area, iscrowd, .. } = annotation;
            Annotation { id, image_id, category_id, bbox, area, iscrowd, segmentation: None }
        });
        Coco { images, annotations: annotations.collect(), categories }
    }
}

/// Puts the boxes of a file to their images. Errors are in words.
fn add(
    annotations: Vec<Annotation<Value>>,
    categories: &[Category],
    classes: &BoxClasses,
    options: &DetectionOptions,
    entries: &mut [Entry],
) -> Result<LeftOut, String> {
    let names: BTreeMap<i64, (&str, Option<u32>)> = categories
        .iter()
        .map(|category| (category.id, (category.name.as_str(), classes.by_name(&category.name))))
        .collect();
    let mut left_out = LeftOut::default();
    for annotation in annotations {
        let Annotation { id, image_id, category_id, bbox, area, iscrowd, segmentation } =
            annotation;
        let image = entries.binary_search_by_key(&image_id, |entry| entry.labelled.id);
        let Some(entry) = image.ok().and_then(|place| entries.get_mut(place)) else {
            return Err(format!(
                "annotation {id}: expected an image of the file, found {image_id}"
            ));
        };
        let entry = &mut entry.labelled;
        let Some(&(name, class)) = names.get(&category_id) else {
            return Err(format!(
                "annotation {id}: expected a category of the file, found {category_id}"
            ));
        };
        let Some(class) = class else {
            if classes.others == Others::Refuse {
                return Err(format!(
                    "annotation {id}: expected one of the classes {}, found category {category_id} (`{name}`)",
                    classes.list()
                ));
            }
            *left_out.categories.entry(name.to_string()).or_default() += 1;
            continue;
        };
        let in_place = |what| {
            format!("annotation {id} (image {image_id}, {}): box {bbox:?}: {what}", entry.name)
        };
        let [x, y, width, height] = bbox;
        let corners = [x, y, x + width, y + height];
        let bounded = bounded(corners, entry.size, options.bad_boxes, &mut left_out);
        let Some(corners) = bounded.map_err(in_place)? else { continue };
        let area = area.unwrap_or(width * height);
        if !(area >= 0.0 && area.is_finite()) {
            return Err(in_place(format!("expected an area of at least 0, found {area}")));
        }
        let crowd = iscrowd != 0;
        let mask = match options.masks {
            true => Some(Arc::new(mask(segmentation, entry.size).map_err(in_place)?)),
            false => None,
        };
        entry.objects.push(Object { bbox: corners, class, area, crowd, id, mask });
    }
    Ok(left_out)
}

/// The pixels of an object. Errors are in words.
fn mask(segmentation: Option<Value>, size: ImageSize) -> Result<Rle, String> {
    let Some(told) = segmentation else {
        return Err("expected a segmentation, since masks are asked for, found none".into());
    };
    // A file may tell what went wrong only if it is no outline and no runs.
    let read = match told.is_array() {
        true => serde_json::from_value(told).map(Segmentation::Polygons),
        false => serde_json::from_value(told).map(Segmentation::Runs),
    }
    .map_err(|error| format!("segmentation: {error}"))?;
    let mask = read.rle(size).map_err(|error| format!("segmentation: {error}"))?;
    match mask.area() {
        0 => Err("segmentation: expected at least one pixel, found none".into()),
        _ => Ok(mask),
    }
}

/// All categories of a file, in the order of their numbers.
fn all(categories: &[Category]) -> Result<BoxClasses> {
    let mut classes: Vec<BoxClass> =
        categories.iter().map(|category| BoxClass::new(&category.name, category.id)).collect();
    classes.sort_by_key(|class| class.id);
    BoxClasses::new(classes, Others::Refuse)
}

/// An image without its boxes. Its size, where the file does not tell, is that of its header.
fn entry(image: &Image, folder: &Path) -> Result<Entry, String> {
    let path = folder.join(&image.file_name);
    if !path.is_file() {
        return Err(format!("expected the file {}, found none", path.display()));
    }
    let size = match (image.height, image.width) {
        (Some(height), Some(width)) => ImageSize::new(height, width),
        _ => header_size(&path).map_err(|error| error.to_string())?,
    };
    if size.height == 0 || size.width == 0 {
        return Err(format!("expected a height and width above 0, found {size}"));
    }
    let name = image.file_name.clone();
    let labelled = LabelledImage { id: image.id, name, size, objects: Vec::new() };
    Ok(Entry { path, labelled })
}

/// Asks that every number is there once.
fn unique(what: &str, ids: impl Iterator<Item = i64>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(format!("{what} {id}: expected once, found again"));
        }
    }
    Ok(())
}
