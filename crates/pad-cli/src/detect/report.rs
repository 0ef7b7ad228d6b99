//! The numbers of COCO, printed and kept.

use pad::{
    data::sets::detection::BoxClasses,
    heads::detection::coco::{CocoMetrics, CocoTruth},
};
use serde_json::{Value, json};

use super::evaluation::Measured;

/// Names of the twelve numbers, in their order.
pub const NAMES: [&str; 12] =
    ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"];

/// How fast the detector is, and what it computes.
#[derive(Clone, Debug)]
pub struct Speed {
    /// Images that were timed.
    pub images: usize,
    /// Median time of an image from pixels to boxes, decoding and resizing not counted, ms.
    pub median_ms: f64,
    /// The time that 95 of 100 images stay below, ms.
    pub p95_ms: f64,
    /// Multiply-adds of an image of the mean size, billions.
    pub gmacs: f64,
}

impl Speed {
    /// From the times of images, ms, in any order; none if there are none.
    pub fn of(mut times_ms: Vec<f64>, gmacs: f64) -> Option<Self> {
        times_ms.sort_by(f64::total_cmp);
        let images = times_ms.len();
        let at = |share: f64| times_ms.get(((images as f64 * share) as usize).min(images - 1));
        if images == 0 {
            return None;
        }
        Some(Self { images, median_ms: *at(0.5)?, p95_ms: *at(0.95)?, gmacs })
    }
}

/// A share as per cent, `-` where there was nothing to find.
fn percent(share: f64) -> String {
    if share < 0.0 { "-".into() } else { format!("{:.1}", 100.0 * share) }
}

/// The table of `eval`.
pub fn table(
    found: &Measured,
    classes: &BoxClasses,
    truth: &CocoTruth,
    speed: Option<&Speed>,
) -> String {
    let mut lines = Vec::new();
    let kinds = [("boxes", Some(&found.metrics)), ("masks", found.masks.as_ref())];
    for (kind, metrics) in kinds.iter().filter_map(|(kind, metrics)| Some((kind, (*metrics)?))) {
        if found.masks.is_some() {
            lines.push(format!("{kind}:"));
        }
        for (names, stats) in NAMES.chunks(6).zip(metrics.stats.chunks(6)) {
            let pairs = names.iter().zip(stats);
            let cells: Vec<String> =
                pairs.map(|(name, &stat)| format!("{name:>5} {:>5}", percent(stat))).collect();
            lines.push(cells.join("  "));
        }
    }
    let width = classes.classes().iter().map(|class| class.name.chars().count()).max().unwrap_or(0);
    let masks = if found.masks.is_some() { "   mask" } else { "" };
    lines.push(format!("{:<width$}  {:>5}{masks}  {:>7}", "class", "AP", "objects"));
    for (class, ap) in by_class(&found.metrics, classes) {
        let boxes = truth.annotations.iter().filter(|object| object.category_id == class.id);
        let objects = boxes.filter(|object| object.iscrowd == 0).count();
        let masks = found.masks.iter().flat_map(|masks| by_class(masks, classes));
        let mask =
            masks.filter(|(other, _)| other.id == class.id).map(|(_, ap)| percent(ap)).next();
        let mask = mask.map(|ap| format!("  {ap:>5}")).unwrap_or_default();
        lines.push(format!("{:<width$}  {:>5}{mask}  {objects:>7}", class.name, percent(ap)));
    }
    if let Some(speed) = speed {
        lines.push(format!(
            "{:.1} ms an image (median of {}; 95% below {:.1} ms), {:.2} billion multiply-adds",
            speed.median_ms, speed.images, speed.p95_ms, speed.gmacs
        ));
    }
    lines.join("\n")
}

/// Classes with their AP, in the order of the detector's outputs; metrics have them in that of their ids.
pub fn by_class<'a>(
    metrics: &'a CocoMetrics,
    classes: &'a BoxClasses,
) -> impl Iterator<Item = (&'a pad::data::sets::detection::BoxClass, f64)> {
    let mut ids: Vec<i64> = classes.classes().iter().map(|class| class.id).collect();
    ids.sort_unstable();
    classes.classes().iter().filter_map(move |class| {
        let place = ids.binary_search(&class.id).ok()?;
        Some((class, *metrics.per_class.get(place)?))
    })
}

/// The same as JSON.
pub fn json(found: &Measured, classes: &BoxClasses, images: usize, speed: Option<&Speed>) -> Value {
    let numbers = |metrics: &CocoMetrics| {
        let stats = NAMES.iter().zip(metrics.stats);
        let stats: serde_json::Map<String, Value> =
            stats.map(|(name, stat)| ((*name).into(), stat.into())).collect();
        let per_class: serde_json::Map<String, Value> =
            by_class(metrics, classes).map(|(class, ap)| (class.name.clone(), ap.into())).collect();
        (stats, per_class)
    };
    let speed = speed.map(|speed| {
        json!({
            "images": speed.images,
            "median_ms": speed.median_ms,
            "p95_ms": speed.p95_ms,
            "gmacs": speed.gmacs,
        })
    });
    let (stats, per_class) = numbers(&found.metrics);
    let masks = found.masks.as_ref().map(|masks| {
        let (stats, per_class) = numbers(masks);
        json!({ "stats": stats, "per_class": per_class })
    });
    let mut report =
        json!({ "images": images, "stats": stats, "per_class": per_class, "speed": speed });
    if let Some(masks) = masks {
        report["masks"] = masks;
    }
    report
}
