//! Matching, precision and recall, in pycocotools' order of operations, so that the last digit agrees.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::{CocoError, CocoResult, CocoTruth, known};

/// Overlaps at which a detection counts: 0.5 to 0.95.
const OVERLAPS: usize = 10;
/// Recalls at which precision is read: 0 to 1.
const RECALLS: usize = 101;
/// Detections of one class that count in an image.
const MOST: [usize; 3] = [1, 10, 100];
/// All areas, small, medium, large; square pixels.
const AREAS: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];

/// The numbers of COCO, shares of 1; -1 where there is nothing to find, as pycocotools gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct CocoMetrics {
    /// AP, AP50, AP75, AP small, medium, large, AR 1, 10, 100, AR small, medium, large.
    pub stats: [f64; 12],
    /// AP of each class, in the order of category ids.
    pub per_class: Vec<f64>,
}

/// One detection against one range of areas.
struct Found {
    score: f64,
    /// By overlap: whether it is matched, and whether it does not count.
    matched: [bool; OVERLAPS],
    ignored: [bool; OVERLAPS],
}

/// One image, class and range of areas.
#[derive(Default)]
struct Matches {
    found: Vec<Found>,
    /// Objects to be found.
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
pub fn evaluate(truth: &CocoTruth, results: &[CocoResult]) -> Result<CocoMetrics, CocoError> {
    truth.validate()?;
    let images: BTreeSet<i64> = truth.images.iter().map(|image| image.id).collect();
    let categories: BTreeSet<i64> = truth.categories.iter().map(|category| category.id).collect();
    for (place, result) in results.iter().enumerate() {
        known("result", place, "image", result.image_id, &images)?;
        known("result", place, "category", result.category_id, &categories)?;
        let fault = |what, value| Err(CocoError::NotFinite { place, what, value });
        if !result.score.is_finite() {
            return fault("score", result.score);
        }
        if let Some(&value) = result.bbox.iter().find(|value| !value.is_finite()) {
            return fault("box", value);
        }
    }
    let categories: Vec<i64> = categories.into_iter().collect();
    let classes: Vec<Class> =
        categories.par_iter().map(|&category| Class::of(truth, results, category)).collect();
    Ok(summary(&classes))
}

/// Precision `(area, overlap, recall)` with 100 detections, recall `(most, area, overlap)`; none without objects.
struct Class {
    precision: Vec<Option<Vec<[f64; RECALLS]>>>,
    recall: Vec<Vec<Option<Vec<f64>>>>,
}

impl Class {
    fn of(truth: &CocoTruth, results: &[CocoResult], category: i64) -> Self {
        let mut images: BTreeMap<i64, (Vec<Object>, Vec<&CocoResult>)> = BTreeMap::new();
        for one in truth.annotations.iter().filter(|one| one.category_id == category) {
            let object = Object { bbox: one.bbox, area: one.area, crowd: one.iscrowd != 0 };
            images.entry(one.image_id).or_default().0.push(object);
        }
        for one in results.iter().filter(|one| one.category_id == category) {
            images.entry(one.image_id).or_default().1.push(one);
        }
        for (_, results) in images.values_mut() {
            results.sort_by(|a, b| b.score.total_cmp(&a.score)); // stable, as numpy's mergesort
            results.truncate(MOST[2]);
        }
        let by_area: Vec<Vec<Matches>> = AREAS
            .iter()
            .map(|&area| images.values().map(|(gt, dt)| matches(gt, dt, area)).collect())
            .collect();
        let curves = |most| by_area.iter().map(move |images| curve(images, most));
        let (precision, recall) = curves(MOST[2])
            .map(|curve| {
                curve.map_or((None, None), |(precision, recall)| (Some(precision), Some(recall)))
            })
            .unzip();
        let few = |most| curves(most).map(|curve| curve.map(|(_, recall)| recall)).collect();
        Self { precision, recall: vec![few(MOST[0]), few(MOST[1]), recall] }
    }
}

struct Object {
    bbox: [f64; 4],
    area: f64,
    crowd: bool,
}

/// Intersection over union; over the detection's area for a crowd.
fn iou(found: [f64; 4], object: &Object) -> f64 {
    let [x, y, w, h] = found;
    let [ox, oy, ow, oh] = object.bbox;
    let width = (x + w).min(ox + ow) - x.max(ox);
    let height = (y + h).min(oy + oh) - y.max(oy);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let both = width * height;
    both / if object.crowd { w * h } else { w * h + ow * oh - both }
}

fn matches(objects: &[Object], results: &[&CocoResult], [low, high]: [f64; 2]) -> Matches {
    let outside = |area: f64| area < low || area > high;
    let ignored = |object: &Object| object.crowd || outside(object.area);
    // Those that count first.
    let (count, rest): (Vec<&Object>, Vec<&Object>) =
        objects.iter().partition(|object| !ignored(object));
    let counting = count.len();
    let objects: Vec<&Object> = count.into_iter().chain(rest).collect();
    let mut found: Vec<Found> = results
        .iter()
        .map(|result| Found {
            score: result.score,
            matched: [false; OVERLAPS],
            ignored: [false; OVERLAPS],
        })
        .collect();
    let ious: Vec<Vec<f64>> = results
        .iter()
        .map(|result| objects.iter().map(|object| iou(result.bbox, object)).collect())
        .collect();
    for index in 0..OVERLAPS {
        let mut taken = vec![false; objects.len()];
        for ((result, ious), found) in results.iter().zip(&ious).zip(&mut found) {
            let mut best = overlap(index).min(1.0 - 1e-10);
            let mut partner = None;
            for (place, (object, &iou)) in objects.iter().zip(ious).enumerate() {
                if taken[place] && !object.crowd {
                    continue;
                }
                // An object that counts is not given up for one that does not.
                if partner.is_some_and(|partner| partner < counting) && place >= counting {
                    break;
                }
                if iou >= best {
                    (best, partner) = (iou, Some(place));
                }
            }
            match partner {
                Some(place) => {
                    taken[place] = true;
                    found.matched[index] = true;
                    found.ignored[index] = place >= counting;
                }
                None => found.ignored[index] = outside(result.bbox[2] * result.bbox[3]),
            }
        }
    }
    Matches { found, objects: counting }
}

/// Precision by overlap and recall, and final recall by overlap; none if there is nothing to find.
fn curve(images: &[Matches], most: usize) -> Option<(Vec<[f64; RECALLS]>, Vec<f64>)> {
    let objects: usize = images.iter().map(|image| image.objects).sum();
    if objects == 0 {
        return None;
    }
    let mut found: Vec<&Found> =
        images.iter().flat_map(|image| image.found.iter().take(most)).collect();
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

fn summary(classes: &[Class]) -> CocoMetrics {
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
    let recall = |most: usize, area: usize| {
        let mut values = Vec::new();
        for overlap in 0..OVERLAPS {
            let of = classes.iter().filter_map(|class| class.recall[most][area].as_ref());
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
    CocoMetrics { stats, per_class }
}

/// Mean; -1 of nothing.
fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { -1.0 } else { pairwise(values) / values.len() as f64 }
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

#[cfg(test)]
mod tests {
    use pad_testkit::golden_dir;

    use super::{
        super::{read_results, write_results},
        *,
    };

    #[test]
    fn numbers_are_those_of_pycocotools_to_the_last_digit() {
        for case in 0..3 {
            let file = |what| golden_dir().join(format!("detection/coco{case}_{what}.json"));
            let truth = CocoTruth::read(&file("gt")).unwrap();
            let results = read_results(&file("dt")).unwrap();
            let found = evaluate(&truth, &results).unwrap();
            let expected: serde_json::Value =
                serde_json::from_slice(&std::fs::read(file("expected")).unwrap()).unwrap();
            for (place, found) in found.stats.iter().enumerate() {
                assert_eq!(Some(*found), expected["stats"][place].as_f64(), "case {case}, {place}");
            }
            let mut categories = truth.categories.clone();
            categories.sort_by_key(|category| category.id);
            for (category, found) in categories.iter().zip(found.per_class) {
                let expected = expected["per_class_AP"][&category.name].as_f64().unwrap_or(-1.0);
                assert!((found - expected).abs() < 1e-12, "case {case}, {}", category.name);
            }
        }
    }

    #[test]
    fn wrong_results_are_refused() {
        let path = golden_dir().join("detection/coco0_gt.json");
        let mut truth = CocoTruth::read(&path).unwrap();
        let good = CocoResult { image_id: 1, category_id: 2, bbox: [0.0; 4], score: 0.5 };
        let text = |result| evaluate(&truth, &[good.clone(), result]).unwrap_err().to_string();
        assert_eq!(
            text(CocoResult { score: f64::NAN, ..good.clone() }),
            "result 1: expected a finite score, found NaN"
        );
        assert_eq!(
            text(CocoResult { category_id: 77, ..good.clone() }),
            "result 1: expected a known category, found id 77"
        );
        truth.images[1].id = 1;
        assert_eq!(
            evaluate(&truth, &[]).unwrap_err().to_string(),
            "image id 1: expected once, found again"
        );
    }

    #[test]
    fn files_come_back_and_truncated_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let result =
            CocoResult { image_id: -3, category_id: 9, bbox: [0.1, 2.0, 0.0, 4.5], score: 0.3 };
        write_results(&path, std::slice::from_ref(&result)).unwrap();
        assert_eq!(read_results(&path).unwrap(), [result]);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        let refused = read_results(&path).unwrap_err().to_string();
        let expected = format!("{}: EOF while parsing", path.display());
        assert!(refused.starts_with(&expected), "{refused}");
    }

    #[test]
    fn nothing_to_find_is_no_number() {
        let path = golden_dir().join("detection/coco0_gt.json");
        let mut truth = CocoTruth::read(&path).unwrap();
        assert_eq!(evaluate(&truth, &[]).unwrap().stats[0], 0.0);
        truth.annotations.clear();
        assert_eq!(evaluate(&truth, &[]).unwrap().stats, [-1.0; 12]);
    }
}
