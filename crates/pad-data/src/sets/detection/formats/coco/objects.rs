//! From annotations to objects of images.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use pad_ops::ImageSize;
use serde_json::Value;

use super::{
    super::super::{
        BoxClasses, LeftOut, Object, Others,
        bounds::bounded,
        entry::{DetectionOptions, FreeIds, ignored_region},
    },
    categories::Categories,
    file::Annotation,
    images::Images,
    key::Key,
    values::{Row, Scalar},
};
use crate::{
    Error, Result,
    rect::Rect,
    rle::{Rle, Segmentation},
    sets::faults::Faults,
};

/// Adds the annotations of a file to its images.
pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) categories: &'a Categories,
    pub(super) classes: &'a BoxClasses,
    pub(super) options: &'a DetectionOptions,
}

impl Reader<'_> {
    /// Adds all annotations.
    ///
    /// # Errors
    /// [`Error::Entry`] for a category that is not one of the classes, if others are refused;
    /// [`Error::TooManyFaults`], or the first fault where none is tolerated.
    pub(super) fn add(
        &self,
        annotations: Vec<Annotation<Value>>,
        images: &mut Images,
        left_out: &mut LeftOut,
    ) -> Result<()> {
        let Self { path, classes, options, .. } = *self;
        let fault = |what: String| Error::Entry { path: path.into(), what };
        let categories = self.categories.by_key(classes);
        let meanings = self.categories.meanings();
        let all = annotations.len();
        let known = annotations.iter().filter_map(|annotation| annotation.id.whole());
        let mut free = FreeIds::above(known.max().unwrap_or(0));
        let mut seen = BTreeSet::new();
        let mut renumbered = 0;
        let mut faults = Faults::new(options.max_faulty);
        for (annotation, place) in annotations.into_iter().zip(1_usize..) {
            let name = match &annotation.id {
                Scalar::Absent => format!("annotation {place} of the file"),
                id => format!("annotation {id}"),
            };
            let Some(image) = images.find(&annotation.image_id) else {
                let found = &annotation.image_id;
                faults
                    .add(fault(format!("{name}: expected an image of the file, found {found}")))?;
                continue;
            };
            // Its image was counted.
            let Some(image) = image else { continue };
            let key = Key::of(&annotation.category_id);
            let found = key.as_ref().and_then(|key| {
                let by_meaning = || categories.get(meanings.only(key)?);
                categories.get(key).or_else(by_meaning)
            });
            let Some(&(category, class)) = found else {
                let found = &annotation.category_id;
                let what = format!("{name}: expected a category of the file, found {found}");
                faults.add(fault(what))?;
                continue;
            };
            let is_region = class.is_none() && classes.ignores(&category.name);
            if class.is_none() && !is_region {
                if classes.others == Others::Refuse {
                    return Err(fault(format!(
                        "{name}: expected one of the classes {}, found category {} (`{}`)",
                        classes.list(),
                        category.id,
                        category.name
                    )));
                }
                *left_out.categories.entry(category.name.clone()).or_default() += 1;
                continue;
            }
            let id = annotation.id.whole().filter(|id| seen.insert(*id));
            renumbered += usize::from(id.is_none());
            let id = id.unwrap_or_else(|| free.next());
            let identity = Identity { id, class, size: image.size };
            match object(annotation, identity, options, left_out) {
                Ok(Some(region)) if is_region => {
                    image.objects.append(&mut ignored_region(&region, classes.len(), &mut free));
                }
                Ok(object) => image.objects.extend(object),
                Err(what) => {
                    let place = format!("image {}, {}", image.id, image.name.escape_debug());
                    faults.add(fault(format!("{name} ({place}): {what}")))?;
                }
            }
        }
        if renumbered > 0 {
            let path = path.display();
            tracing::warn!(
                "{path}: {renumbered} annotations have no number of their own: numbered anew"
            );
        }
        if left_out.outlines > 0 {
            let (path, stray) = (path.display(), left_out.outlines);
            tracing::warn!(
                "{path}: {stray} outlines beside others are left out: they bound no area"
            );
        }
        left_out.faulty += faults.close(path, "annotations", all)?;
        Ok(())
    }
}

/// What is known of an object beside its annotation.
#[derive(Clone, Copy)]
struct Identity {
    id: i64,
    /// `None` for a region whose content is not labelled.
    class: Option<u32>,
    /// Size of its image.
    size: ImageSize,
}

/// The object of an annotation; `None` if it is left out. Errors are texts.
fn object(
    annotation: Annotation<Value>,
    Identity { id, class, size }: Identity,
    options: &DetectionOptions,
    left_out: &mut LeftOut,
) -> Result<Option<Object>, String> {
    let Annotation { bbox, area, crowd, difficult, segmentation, .. } = annotation;
    let outline = match options.masks || (bbox.0.is_empty() && segmentation.is_some()) {
        true => Some(outline(segmentation, size, left_out)),
        false => None,
    };
    let (bbox, shown) = match (edges(&bbox)?, &outline) {
        (Some(bbox), _) => (bbox, format!("box {bbox:?}: ")),
        (None, Some(Ok(mask))) => (extent(mask)?, String::new()),
        (None, Some(Err(what))) => return Err(what.clone()),
        (None, None) => return Err("expected a box, found none".into()),
    };
    let in_box = |what: String| format!("{shown}{what}");
    let [x, y, width, height] = bbox;
    let corners = [x, y, x + width, y + height];
    let Some(corners) = bounded(corners, size, options.bad_boxes, left_out).map_err(in_box)? else {
        return Ok(None);
    };
    let area = match &area {
        Scalar::Absent => width * height,
        area => match area.number() {
            Some(number) if number >= 0.0 && number.is_finite() => number,
            Some(number) if number.is_nan() => width * height,
            _ => return Err(in_box(format!("expected an area of at least 0, found {area}"))),
        },
    };
    let flag = |name: &str, value: &Scalar| {
        let refuse = || in_box(format!("`{name}`: expected true or false, found {value}"));
        value.flag().ok_or_else(refuse)
    };
    let (crowd, difficult) = (flag("iscrowd", &crowd)?, flag("difficult", &difficult)?);
    let mask = match outline.filter(|_| options.masks) {
        // A region needs no outline of its own.
        Some(Err(_)) if class.is_none() => Some(filled(corners, size)?),
        outline => outline.transpose().map_err(in_box)?,
    };
    let (class, mask) = (class.unwrap_or(0), mask.map(Arc::new));
    Ok(Some(Object { bbox: corners, class, area, crowd, difficult, id, mask }))
}

/// The pixels of a box inside its image. Errors are texts.
fn filled([x1, y1, x2, y2]: [f64; 4], size: ImageSize) -> Result<Rle, String> {
    let [left, top] = [x1, y1].map(|edge| edge.floor() as usize);
    let [right, bottom] = [x2, y2].map(|edge| edge.ceil() as usize);
    let window = Rect { top, left, height: bottom - top, width: right - left };
    Rle::within(size, window, |_, _| true).map_err(|error| error.to_string())
}

/// Left, top, width and height; `None` if an annotation has no box. Errors are texts.
fn edges(bbox: &Row) -> Result<Option<[f64; 4]>, String> {
    if bbox.0.is_empty() {
        return Ok(None);
    }
    let [x, y, width, height] = &bbox.0[..] else {
        let found = bbox.0.len();
        let hint = if found == 5 { " (turned boxes are not read)" } else { "" };
        return Err(format!("box: expected 4 numbers, found {found}{hint}"));
    };
    let mut edges = [0.0; 4];
    for (edge, value) in edges.iter_mut().zip([x, y, width, height]) {
        let number = value.number();
        *edge = number.ok_or_else(|| format!("box: expected numbers, found {value}"))?;
    }
    Ok(Some(edges))
}

/// The window of a mask as left, top, width and height. Errors are texts.
fn extent(mask: &Rle) -> Result<[f64; 4], String> {
    let Rect { top, left, height, width } =
        mask.bounds().ok_or("segmentation: expected at least one pixel, found none")?;
    Ok([left, top, width, height].map(|edge| edge as f64))
}

/// The pixels of an object: outlines that cannot be filled are left out and counted, if others
/// remain. Errors are texts.
fn outline(
    segmentation: Option<Value>,
    size: ImageSize,
    left_out: &mut LeftOut,
) -> Result<Rle, String> {
    let fault = |error: String| format!("segmentation: {error}");
    let Some(segmentation) = segmentation else {
        return Err("expected a segmentation, since masks are requested, found none".into());
    };
    // Outlines and runs apart: the error of an untagged enum would not say what is wrong.
    let mask = match segmentation {
        Value::Array(outlines) => {
            // One outline that is not in a list of its own.
            let flat = outlines.first().is_some_and(|first| !first.is_array());
            let outlines = if flat { vec![Value::Array(outlines)] } else { outlines };
            let mut masks = Vec::with_capacity(outlines.len());
            let mut faults = Vec::new();
            for outline in outlines {
                match polygon(outline, size) {
                    Ok(mask) => masks.push(mask),
                    Err(error) => faults.push(error),
                }
            }
            let stray = faults.len();
            if let (true, Some(first)) = (masks.is_empty(), faults.into_iter().next()) {
                return Err(fault(first));
            }
            left_out.outlines += stray;
            Rle::union(size, &masks)
        }
        runs => serde_json::from_value(runs)
            .map(Segmentation::Runs)
            .map_err(|error| fault(error.to_string()))?
            .rle(size),
    };
    let mask = mask.map_err(|error| fault(error.to_string()))?;
    match mask.area() {
        0 => Err(fault("expected at least one pixel, found none".into())),
        _ => Ok(mask),
    }
}

/// The pixels inside an outline. Errors are texts.
fn polygon(outline: Value, size: ImageSize) -> Result<Rle, String> {
    let polygon: Vec<f64> = serde_json::from_value(outline).map_err(|error| error.to_string())?;
    Rle::of_polygons(size, &[polygon]).map_err(|error| error.to_string())
}
