//! The numbers of an evaluation, printed and kept.

use pad::{
    data::sets::segmentation::Classes,
    heads::segmentation::metrics::{Confusion, SegmentationMetrics},
};
use serde_json::{Value, json};

/// A share as per cent, `-` where there is none.
fn percent(share: f64) -> String {
    if share.is_nan() { "-".into() } else { format!("{:.2}", 100.0 * share) }
}

/// JSON has no NaN.
fn number(share: f64) -> Value {
    if share.is_nan() { Value::Null } else { json!(share) }
}

/// IoU and accuracy of every class, and their means.
pub fn table(metrics: &SegmentationMetrics, classes: &Classes) -> String {
    let longest = classes.names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let width = longest.max("mean".len());
    let line = |name: &str, iou: f64, accuracy: f64| {
        format!("{name:<width$}  {:>6}  {:>8}", percent(iou), percent(accuracy))
    };
    let mut lines = vec![format!("{:<width$}  {:>6}  {:>8}", "class", "IoU", "accuracy")];
    let numbers = metrics.iou.iter().zip(&metrics.accuracy);
    lines
        .extend(classes.names.iter().zip(numbers).map(|(name, (&iou, &acc))| line(name, iou, acc)));
    lines.push(line("mean", metrics.mean_iou, metrics.mean_accuracy));
    lines.push(format!(
        "mIoU {}  mAcc {}  aAcc {}",
        percent(metrics.mean_iou),
        percent(metrics.mean_accuracy),
        percent(metrics.pixel_accuracy)
    ));
    lines.join("\n")
}

/// Rows are labels, columns what was predicted, per cent of the row.
pub fn confusion(confusion: &Confusion, classes: &Classes) -> String {
    let count = classes.len();
    let width = classes.names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let head: String = (0..count).map(|class| format!("{class:>7}")).collect();
    let mut lines = vec![format!("{:<1$}{head}", "label \\ found", width + 4)];
    for (class, row) in confusion.counts().chunks_exact(count).enumerate() {
        let sum: u64 = row.iter().sum();
        let cells: String =
            row.iter().map(|&n| format!("{:>7}", percent(n as f64 / sum as f64))).collect();
        let name = format!("{class:>2} {}", classes.names[class]);
        lines.push(format!("{name:<0$}{cells}", (width + 4).max("label \\ found".len())));
    }
    lines.join("\n")
}

/// All of it.
pub fn json(confusion: &Confusion, classes: &Classes, images: usize) -> Value {
    let metrics = confusion.metrics();
    let by_class: Vec<Value> = (classes.names.iter())
        .zip(metrics.iou.iter().zip(&metrics.accuracy))
        .map(|(name, (&iou, &accuracy))| json!({"name": name, "iou": number(iou), "accuracy": number(accuracy)}))
        .collect();
    json!({
        "images": images,
        "mean_iou": number(metrics.mean_iou),
        "mean_accuracy": number(metrics.mean_accuracy),
        "pixel_accuracy": number(metrics.pixel_accuracy),
        "classes": by_class,
        "confusion": confusion.counts().chunks(classes.len().max(1)).collect::<Vec<_>>(),
    })
}
