//! COCO files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use pad_ops::ImageSize;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

use super::super::{
    BoxClass, BoxClasses, LeftOut, Object, Others,
    bounds::bounded,
    entry::{DetectionOptions, Entry, Opened, first_folder, header_size},
};
use crate::{
    Error, Result,
    rle::{Rle, Segmentation},
    sets::format::Format,
};

pub(super) const FORMAT: Format<DetectionOptions, Opened> = Format {
    name: "coco",
    looks_for: Some("annotations/SPLIT.json"),
    matches: |root, split| annotations(root, split).is_file(),
    open: |root, split, options| {
        let (below, above) = (Path::new(split).join("images"), Path::new("images").join(split));
        let images = first_folder(root, &[below, above, split.into(), "images".into()]);
        read(&annotations(root, split), &images, options, None)
    },
};

fn annotations(root: &Path, split: &str) -> PathBuf {
    root.join("annotations").join(format!("{split}.json"))
}

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

/// Reads `path`, whose file names begin at `folder`; `preset` are the classes of its format.
pub(in super::super) fn read(
    path: &Path,
    folder: &Path,
    options: &DetectionOptions,
    preset: Option<&BoxClasses>,
) -> Result<Opened> {
    let fault = |what: String| Error::Entry { path: path.into(), what };
    let text = fs::read(path).map_err(|cause| Error::Io { path: path.into(), cause })?;
    // Segmentations are most of a file, and invalid in many: skipped unless requested.
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
    let classes = options
        .classes_of(preset, || all(&coco.categories).map_err(|error| fault(error.to_string())))?;
    let mut images = coco
        .images
        .iter()
        .map(|image| {
            listed(image, folder).map_err(|what| fault(format!("image {}: {what}", image.id)))
        })
        .collect::<Result<Vec<_>>>()?;
    images.sort_by_key(|image| image.id);
    let left_out =
        add(coco.annotations, &coco.categories, &classes, options, &mut images).map_err(fault)?;
    let entries = images
        .into_iter()
        .map(|image| Entry::new(image.path, image.id, image.name, image.size, image.objects));
    Ok(Opened { entries: entries.collect(), classes, left_out })
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

/// An image of the file, and its boxes so far.
struct Listed {
    path: PathBuf,
    id: i64,
    name: String,
    size: ImageSize,
    objects: Vec<Object>,
}

/// Adds the boxes of a file to their images. Errors are texts.
fn add(
    annotations: Vec<Annotation<Value>>,
    categories: &[Category],
    classes: &BoxClasses,
    options: &DetectionOptions,
    images: &mut [Listed],
) -> Result<LeftOut, String> {
    let names: BTreeMap<i64, (&str, Option<u32>)> = categories
        .iter()
        .map(|category| (category.id, (category.name.as_str(), classes.by_name(&category.name))))
        .collect();
    let mut left_out = LeftOut::default();
    for annotation in annotations {
        let Annotation { id, image_id, category_id, bbox, area, iscrowd, segmentation } =
            annotation;
        let place = images.binary_search_by_key(&image_id, |image| image.id);
        let Some(image) = place.ok().and_then(|place| images.get_mut(place)) else {
            return Err(format!(
                "annotation {id}: expected an image of the file, found {image_id}"
            ));
        };
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
            format!("annotation {id} (image {image_id}, {}): box {bbox:?}: {what}", image.name)
        };
        let [x, y, width, height] = bbox;
        let corners = [x, y, x + width, y + height];
        let bounded = bounded(corners, image.size, options.bad_boxes, &mut left_out);
        let Some(corners) = bounded.map_err(in_place)? else { continue };
        let area = area.unwrap_or(width * height);
        if !(area >= 0.0 && area.is_finite()) {
            return Err(in_place(format!("expected an area of at least 0, found {area}")));
        }
        let crowd = iscrowd != 0;
        let mask = match options.masks {
            true => Some(Arc::new(mask(segmentation, image.size).map_err(in_place)?)),
            false => None,
        };
        image.objects.push(Object { bbox: corners, class, area, crowd, id, mask });
    }
    Ok(left_out)
}

/// The pixels of an object. Errors are texts.
fn mask(segmentation: Option<Value>, size: ImageSize) -> Result<Rle, String> {
    let Some(segmentation) = segmentation else {
        return Err("expected a segmentation, since masks are requested, found none".into());
    };
    // Outlines and runs apart: the error of an untagged enum would not say what is wrong.
    let read = match segmentation.is_array() {
        true => serde_json::from_value(segmentation).map(Segmentation::Polygons),
        false => serde_json::from_value(segmentation).map(Segmentation::Runs),
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

/// An image without its boxes. Its size, where the file does not hold it, is that of its header.
fn listed(image: &Image, folder: &Path) -> Result<Listed, String> {
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
    Ok(Listed { path, id: image.id, name, size, objects: Vec::new() })
}

/// Checks that every number occurs once.
fn unique(what: &str, ids: impl Iterator<Item = i64>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(format!("{what} {id}: expected once, found again"));
        }
    }
    Ok(())
}
