//! Matching, precision and recall, in pycocotools' order of operations, so that the last digit
//! agrees.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::{CocoAnnotation, CocoId, CocoResult, CocoTruth, finite, known};
use crate::{
    CocoError, ImageSize,
    rect::Rect,
    rle::{Rle, Segmentation},
};

/// Number of IoU thresholds, 0.5 to 0.95.
const OVERLAPS: usize = 10;
/// Number of recalls at which precision is read, 0 to 1.
const RECALLS: usize = 101;
/// Maximum number of detections of a class per image.
const MAX_DETECTIONS: [usize; 3] = [1, 10, 100];
/// All areas, small, medium, large; square pixels.
const AREAS: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];

/// COCO's metrics, shares of 1; `None` without a labelled object, where pycocotools gives -1.
///
/// ```
/// use pad_metrics::coco::{CocoTruth, evaluate, results};
/// let truth = CocoTruth::parse(
///     r#"{"images": [{"id": 1, "width": 90, "height": 90}], "categories": [{"id": 5, "name": "car"}],
///         "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 40, 40]}]}"#,
/// )?;
/// let found = results(r#"[{"image_id": 1, "category_id": 5, "bbox": [0, 0, 40, 31], "score": 0.9}]"#)?;
/// let metrics = evaluate(&truth, &found)?; // an overlap of 0.775: right up to a threshold of 0.75
/// let named: Vec<_> = metrics.named().take(3).collect();
/// assert!((named[0].1.unwrap() - 0.6).abs() < 1e-12 && named[1].0 == "AP50" && named[1].1 > Some(0.999));
/// # Ok::<(), pad_metrics::CocoError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CocoMetrics {
    /// The twelve metrics of [`CocoMetrics::NAMES`].
    pub stats: [Option<f64>; 12],
    /// AP of each class, in the order of [`CocoMetrics::categories`].
    pub per_class: Vec<Option<f64>>,
    /// Ids of the categories, in ascending order.
    pub categories: Vec<CocoId>,
}

impl CocoMetrics {
    /// The names of the twelve metrics: average precision (AP) and average recall (AR) by IoU, area
    /// and number of detections.
    pub const NAMES: [&str; 12] =
        ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"];

    /// The twelve metrics with their names.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, Option<f64>)> {
        Self::NAMES.into_iter().zip(self.stats)
    }

    /// AP of each category with its id; `None` without an object of it.
    ///
    /// ```
    /// use pad_metrics::coco::{CocoTruth, evaluate};
    /// let truth = CocoTruth::parse(
    ///     r#"{"images": [{"id": 1, "width": 90, "height": 90}], "categories": [{"id": 5, "name": "car"}],
    ///         "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 40, 40]}]}"#,
    /// )?;
    /// let metrics = evaluate(&truth, &[])?;
    /// assert_eq!(metrics.by_category().collect::<Vec<_>>(), [(&5.into(), Some(0.0))]);
    /// # Ok::<(), pad_metrics::CocoError>(())
    /// ```
    pub fn by_category(&self) -> impl Iterator<Item = (&CocoId, Option<f64>)> {
        self.categories.iter().zip(self.per_class.iter().copied())
    }
}

/// One detection in one range of areas.
struct Found {
    score: f64,
    /// By IoU threshold: whether it is matched, and whether it is ignored.
    matched: [bool; OVERLAPS],
    ignored: [bool; OVERLAPS],
}

/// One image, class and range of areas.
#[derive(Default)]
struct Matches {
    found: Vec<Found>,
    /// Number of objects that count.
    objects: usize,
}

/// `numpy.linspace(0.5, 0.95, 10)[index]`.
fn overlap(index: usize) -> f64 {
    if index == OVERLAPS - 1 { 0.95 } else { index as f64 * ((0.95 - 0.5) / 9.0) + 0.5 }
}

/// Evaluates boxes against annotations, classes in parallel.
///
/// # Errors
/// As [`CocoTruth::validate`]; [`CocoError::Unknown`] and [`CocoError::NotFinite`] for results.
///
/// ```
/// use pad_metrics::coco::{CocoTruth, evaluate, results};
/// let truth = CocoTruth::parse(
///     r#"{"images": [{"id": 1, "width": 90, "height": 90}], "categories": [{"id": 5, "name": "car"}],
///         "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 40, 40]}]}"#,
/// )?;
/// let found = results(r#"[{"image_id": 1, "category_id": 5, "bbox": [0, 0, 40, 31], "score": 0.9}]"#)?;
/// let metrics = evaluate(&truth, &found)?; // an overlap of 0.775: right up to a threshold of 0.75
/// assert!((metrics.stats[0].unwrap() - 0.6).abs() < 1e-12);
/// # Ok::<(), pad_metrics::CocoError>(())
/// ```
pub fn evaluate(truth: &CocoTruth, results: &[CocoResult]) -> Result<CocoMetrics, CocoError> {
    let categories = checked(truth, results)?;
    let objects: Vec<Object> =
        truth.annotations.iter().map(|one| Object::of(one, Shape::Box(one.bbox))).collect();
    let found: Vec<Candidate> = results
        .iter()
        .map(|one| Candidate {
            shape: Shape::Box(one.bbox),
            area: one.bbox[2] * one.bbox[3],
            score: one.score,
        })
        .collect();
    Ok(compared(truth, results, &categories, &objects, &found))
}

/// Evaluates masks against annotations, classes in parallel. The area of a detection is that of its
/// mask, as detectron2 has it; pycocotools takes the box's where results have both.
///
/// # Errors
/// As [`evaluate`]; [`CocoError::NoMask`] and [`CocoError::Mask`].
///
/// ```
/// use pad_metrics::coco::{CocoTruth, evaluate_masks, results};
/// let truth = CocoTruth::parse(
///     r#"{"images": [{"id": 1, "width": 90, "height": 90}],
///         "categories": [{"id": 5, "name": "car"}],
///         "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 40, 40],
///                          "segmentation": [[0, 0, 40, 0, 40, 40, 0, 40]]}]}"#,
/// )?;
/// let found = results(
///     r#"[{"image_id": 1, "category_id": 5, "bbox": [0, 0, 40, 31], "score": 0.9,
///          "segmentation": [[0, 0, 40, 0, 40, 31, 0, 31]]}]"#,
/// )?;
/// let metrics = evaluate_masks(&truth, &found)?; // an overlap of 0.775
/// assert!((metrics.stats[0].unwrap() - 0.6).abs() < 1e-12);
/// # Ok::<(), pad_metrics::CocoError>(())
/// ```
pub fn evaluate_masks(truth: &CocoTruth, results: &[CocoResult]) -> Result<CocoMetrics, CocoError> {
    let categories = checked(truth, results)?;
    let sizes: BTreeMap<&CocoId, ImageSize> = truth
        .images
        .iter()
        .map(|image| (&image.id, ImageSize::new(image.height, image.width)))
        .collect();
    let mask = |what, place, image: &CocoId, stored: Option<&Segmentation>| {
        let stored = stored.ok_or(CocoError::NoMask { what, place })?;
        // `checked` has seen that the image is known.
        let size = sizes.get(image).copied().unwrap_or(ImageSize::square(0));
        stored.rle(size).map_err(|cause| CocoError::Mask { what, place, cause })
    };
    let objects = truth.annotations.par_iter().enumerate().map(|(place, one)| {
        let mask = mask("annotation", place, &one.image_id, one.segmentation.as_ref())?;
        Ok(Object::of(one, Shape::mask(mask)))
    });
    let objects = objects.collect::<Vec<Result<_, CocoError>>>();
    let objects = objects.into_iter().collect::<Result<Vec<_>, _>>()?;
    let found = results.par_iter().enumerate().map(|(place, one)| {
        let mask = mask("result", place, &one.image_id, one.segmentation.as_ref())?;
        let area = mask.area() as f64;
        Ok(Candidate { shape: Shape::mask(mask), area, score: one.score })
    });
    let found = found.collect::<Vec<Result<_, CocoError>>>();
    let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(compared(truth, results, &categories, &objects, &found))
}

/// Checks that results fit the annotations, and returns the ids of the categories in order.
fn checked<'a>(truth: &'a CocoTruth, results: &[CocoResult]) -> Result<Vec<&'a CocoId>, CocoError> {
    truth.validate()?;
    let images: BTreeSet<&CocoId> = truth.images.iter().map(|image| &image.id).collect();
    let categories: BTreeSet<&CocoId> =
        truth.categories.iter().map(|category| &category.id).collect();
    for (place, result) in results.iter().enumerate() {
        known("result", place, "image", &result.image_id, &images)?;
        known("result", place, "category", &result.category_id, &categories)?;
        finite("result", place, "score", &[result.score])?;
        finite("result", place, "box", &result.bbox)?;
    }
    Ok(categories.into_iter().collect())
}

/// Computes the metrics of objects, one per annotation, and candidates, one per result.
fn compared(
    truth: &CocoTruth,
    results: &[CocoResult],
    categories: &[&CocoId],
    objects: &[Object],
    found: &[Candidate],
) -> CocoMetrics {
    type Images<'a> = BTreeMap<&'a CocoId, (Vec<&'a Object>, Vec<&'a Candidate>)>;
    let mut classes: BTreeMap<&CocoId, Images> =
        categories.iter().map(|&category| (category, Images::new())).collect();
    for (one, object) in truth.annotations.iter().zip(objects) {
        let images = classes.entry(&one.category_id).or_default();
        images.entry(&one.image_id).or_default().0.push(object);
    }
    for (one, found) in results.iter().zip(found) {
        let images = classes.entry(&one.category_id).or_default();
        images.entry(&one.image_id).or_default().1.push(found);
    }
    let (ids, classes): (Vec<&CocoId>, Vec<Images>) = classes.into_iter().unzip();
    let classes: Vec<Class> =
        classes.into_par_iter().map(|images| Class::of(images.into_values().collect())).collect();
    summary(&classes, ids.into_iter().cloned().collect())
}

/// Precision `(area, IoU, recall)` with 100 detections, recall `(detections, area, IoU)`; `None`
/// without objects.
struct Class {
    precision: Vec<Option<Vec<[f64; RECALLS]>>>,
    recall: Vec<Vec<Option<Vec<f64>>>>,
}

impl Class {
    /// Evaluates the images of a class: its objects and detections.
    fn of(mut images: Vec<(Vec<&Object>, Vec<&Candidate>)>) -> Self {
        for (_, found) in &mut images {
            found.sort_by(|a, b| b.score.total_cmp(&a.score)); // stable, as numpy's mergesort
            found.truncate(MAX_DETECTIONS[2]);
        }
        let overlaps: Vec<Vec<Vec<f64>>> =
            images.iter().map(|(objects, found)| overlaps(objects, found)).collect();
        let of_area = |&area: &[f64; 2]| {
            let images = images.iter().zip(&overlaps);
            images.map(|((objects, found), ious)| matches(objects, found, ious, area)).collect()
        };
        let by_area: Vec<Vec<Matches>> = AREAS.iter().map(of_area).collect();
        let curves = |max| by_area.iter().map(move |images| curve(images, max));
        let (precision, recall) = curves(MAX_DETECTIONS[2])
            .map(|curve| {
                curve.map_or((None, None), |(precision, recall)| (Some(precision), Some(recall)))
            })
            .unzip();
        let few = |max| curves(max).map(|curve| curve.map(|(_, recall)| recall)).collect();
        Self { precision, recall: vec![few(MAX_DETECTIONS[0]), few(MAX_DETECTIONS[1]), recall] }
    }
}

/// A box, or a mask and the window that holds it.
enum Shape {
    Box([f64; 4]),
    Mask(Rle, Option<Rect>),
}

/// A labelled object.
struct Object {
    shape: Shape,
    area: f64,
    crowd: bool,
    difficult: bool,
}

impl Object {
    fn of(one: &CocoAnnotation, shape: Shape) -> Self {
        Self { shape, area: one.area, crowd: one.iscrowd != 0, difficult: one.difficult }
    }

    /// Whether several detections may match it.
    fn takes_many(&self) -> bool {
        self.crowd || self.difficult
    }
}

/// A detection.
struct Candidate {
    shape: Shape,
    area: f64,
    score: f64,
}

impl Shape {
    fn mask(mask: Rle) -> Self {
        let bounds = mask.bounds();
        Self::Mask(mask, bounds)
    }

    /// The areas of the intersection and of each.
    fn common(&self, other: &Self) -> (f64, f64, f64) {
        match (self, other) {
            (Self::Box([x, y, w, h]), Self::Box([ox, oy, ow, oh])) => {
                let width = (x + w).min(ox + ow) - x.max(*ox);
                let height = (y + h).min(oy + oh) - y.max(*oy);
                let both = if width > 0.0 && height > 0.0 { width * height } else { 0.0 };
                (both, w * h, ow * oh)
            }
            (Self::Mask(mask, Some(bounds)), Self::Mask(other, Some(others)))
                if bounds.meets(others) =>
            {
                // Both are of their image's size.
                let both = mask.intersection(other).unwrap_or_default();
                (both as f64, mask.area() as f64, other.area() as f64)
            }
            _ => (0.0, 0.0, 0.0),
        }
    }
}

/// Returns the intersection over union; over the detection's area for a crowd.
fn iou(found: &Candidate, object: &Object) -> f64 {
    let (both, own, other) = found.shape.common(&object.shape);
    match both > 0.0 {
        true if object.crowd => both / own,
        true => both / (own + other - both),
        false => 0.0,
    }
}

/// By detection and object.
fn overlaps(objects: &[&Object], found: &[&Candidate]) -> Vec<Vec<f64>> {
    let of = |found: &&Candidate| objects.iter().map(|object| iou(found, object)).collect();
    found.iter().map(of).collect()
}

fn matches(
    objects: &[&Object],
    results: &[&Candidate],
    ious: &[Vec<f64>],
    [low, high]: [f64; 2],
) -> Matches {
    let outside = |area: f64| area < low || area > high;
    let ignored = |place: &usize| objects[*place].takes_many() || outside(objects[*place].area);
    // Those that count first.
    let (count, rest): (Vec<usize>, Vec<usize>) =
        (0..objects.len()).partition(|place| !ignored(place));
    let counting = count.len();
    let order: Vec<usize> = count.into_iter().chain(rest).collect();
    let mut found: Vec<Found> = results
        .iter()
        .map(|result| Found {
            score: result.score,
            matched: [false; OVERLAPS],
            ignored: [false; OVERLAPS],
        })
        .collect();
    for index in 0..OVERLAPS {
        let mut taken = vec![false; objects.len()];
        for ((result, ious), found) in results.iter().zip(ious).zip(&mut found) {
            let mut best = overlap(index).min(1.0 - 1e-10);
            let mut partner = None;
            for (place, &object) in order.iter().enumerate() {
                if taken[place] && !objects[object].takes_many() {
                    continue;
                }
                // An object that counts is preferred to an ignored one.
                if partner.is_some_and(|partner| partner < counting) && place >= counting {
                    break;
                }
                if ious[object] >= best {
                    (best, partner) = (ious[object], Some(place));
                }
            }
            match partner {
                Some(place) => {
                    taken[place] = true;
                    found.matched[index] = true;
                    found.ignored[index] = place >= counting;
                }
                None => found.ignored[index] = outside(result.area),
            }
        }
    }
    Matches { found, objects: counting }
}

/// Precision by IoU and recall, and final recall by IoU; `None` without objects.
fn curve(images: &[Matches], max_detections: usize) -> Option<(Vec<[f64; RECALLS]>, Vec<f64>)> {
    let objects: usize = images.iter().map(|image| image.objects).sum();
    if objects == 0 {
        return None;
    }
    let mut found: Vec<&Found> =
        images.iter().flat_map(|image| image.found.iter().take(max_detections)).collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let one = |index: usize| {
        let (mut right, mut wrong) = (0.0, 0.0);
        let (mut recall, mut precision) = (Vec::new(), Vec::new());
        for found in &found {
            if !found.ignored[index] {
                if found.matched[index] { right += 1.0 } else { wrong += 1.0 }
            }
            recall.push(right / objects as f64);
            precision.push(right / (wrong + right + f64::EPSILON));
        }
        for place in (1..precision.len()).rev() {
            precision[place - 1] = precision[place - 1].max(precision[place]);
        }
        let at = |step: usize| {
            let wanted = if step == RECALLS - 1 { 1.0 } else { step as f64 * 0.01 };
            let place = recall.partition_point(|&recall| recall < wanted);
            precision.get(place).copied().unwrap_or(0.0)
        };
        (std::array::from_fn(at), recall.last().copied().unwrap_or(0.0))
    };
    Some((0..OVERLAPS).map(one).unzip())
}

fn summary(classes: &[Class], categories: Vec<CocoId>) -> CocoMetrics {
    // In numpy's order: overlap, recall, class.
    let precision = |area: usize, overlaps: std::ops::Range<usize>, classes: &[Class]| {
        let mut values = Vec::new();
        for overlap in overlaps {
            for recall in 0..RECALLS {
                let of = classes.iter().filter_map(|class| class.precision[area].as_ref());
                values.extend(of.map(|curve| curve[overlap][recall]));
            }
        }
        mean(&values)
    };
    let recall = |max: usize, area: usize| {
        let mut values = Vec::new();
        for overlap in 0..OVERLAPS {
            let of = classes.iter().filter_map(|class| class.recall[max][area].as_ref());
            values.extend(of.map(|recall| recall[overlap]));
        }
        mean(&values)
    };
    let all = 0..OVERLAPS;
    let stats = [
        precision(0, all.clone(), classes),
        precision(0, 0..1, classes),
        precision(0, 5..6, classes),
        precision(1, all.clone(), classes),
        precision(2, all.clone(), classes),
        precision(3, all.clone(), classes),
        recall(0, 0),
        recall(1, 0),
        recall(2, 0),
        recall(2, 1),
        recall(2, 2),
        recall(2, 3),
    ];
    let per_class = classes
        .iter()
        .map(|class| precision(0, all.clone(), std::slice::from_ref(class)))
        .collect();
    CocoMetrics { stats, per_class, categories }
}

/// Mean; `None` without values.
fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| pairwise(values) / values.len() as f64)
}

/// The sum in numpy's order: eight partial sums in blocks of at most 128, halves added.
fn pairwise(values: &[f64]) -> f64 {
    let count = values.len();
    if count < 8 {
        return values.iter().sum();
    }
    if count > 128 {
        let half = count / 2 - count / 2 % 8;
        let (left, right) = values.split_at(half);
        return pairwise(left) + pairwise(right);
    }
    let (blocks, rest) = values.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for block in blocks {
        sums.iter_mut().zip(block).for_each(|(sum, value)| *sum += value);
    }
    let [a, b, c, d, e, f, g, h] = sums;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, value| sum + value)
}
